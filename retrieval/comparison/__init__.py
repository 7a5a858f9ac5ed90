"""Experiments side by side: recipes, what they gave, and whether they differ."""

from retrieval.comparison.comparer import ComparedFolders, compare
from retrieval.comparison.recipes import Experiment, NamedExperiment
from retrieval.comparison.results import Comparison, ExperimentResult, PairedTest

__all__ = [
    "ComparedFolders",
    "Comparison",
    "Experiment",
    "ExperimentResult",
    "NamedExperiment",
    "PairedTest",
    "compare",
]

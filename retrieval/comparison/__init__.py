"""Experiments side by side: recipes, what they gave, and whether they differ."""

from retrieval.comparison.comparing import Data, compare
from retrieval.comparison.recipes import Experiment, Recipe
from retrieval.comparison.results import Comparison, ExperimentResult, PairedTest

__all__ = [
    "Comparison",
    "Data",
    "Experiment",
    "ExperimentResult",
    "PairedTest",
    "Recipe",
    "compare",
]

"""Experiments side by side: recipes, what they gave, and whether they differ."""

from retrieval.comparison.results import Comparison, ExperimentResult, PairedTest

__all__ = ["Comparison", "ExperimentResult", "PairedTest"]

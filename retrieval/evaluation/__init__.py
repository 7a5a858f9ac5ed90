"""How good matches are, from vectors and labels."""

from retrieval.evaluation.results import (
    Calibration,
    ClassScore,
    Confidence,
    Confusion,
    Evaluation,
    Metric,
    Neighbour,
    PerQuery,
    RankedQuery,
    ReliabilityBin,
    VoteScores,
)

__all__ = [
    "Calibration",
    "ClassScore",
    "Confidence",
    "Confusion",
    "Evaluation",
    "Metric",
    "Neighbour",
    "PerQuery",
    "RankedQuery",
    "ReliabilityBin",
    "VoteScores",
]

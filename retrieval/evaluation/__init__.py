"""How good matches are, from vectors and labels."""

from retrieval.evaluation.results import (
    Calibration,
    ClassScore,
    Confusion,
    Evaluation,
    IntervalOver,
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
    "Confusion",
    "Evaluation",
    "IntervalOver",
    "Metric",
    "Neighbour",
    "PerQuery",
    "RankedQuery",
    "ReliabilityBin",
    "VoteScores",
]

"""How good matches are, from vectors and labels."""

from retrieval.evaluation.results import (
    AnswerKind,
    Calibration,
    ClassScore,
    Confidence,
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
    "AnswerKind",
    "Calibration",
    "ClassScore",
    "Confidence",
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

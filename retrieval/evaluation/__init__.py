"""How good matches are, from vectors and labels."""

from retrieval.evaluation.results import (
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
from retrieval.words import AnswerKind

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

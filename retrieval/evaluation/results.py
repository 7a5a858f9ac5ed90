"""What an evaluation gives: figures with their intervals, classes, confusions, failed queries."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from retrieval.plain import Plain

IntervalOver = Literal["queries", "classes"]


@dataclass(frozen=True)
class Metric(Plain):
    """A mean over queries with its bootstrap 95 % interval, which is about other queries or other
    classes (Evaluation.interval_over). name: such as "precision@5"."""

    name: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class VoteScores(Plain):
    """How well the label that a query's k neighbours vote for is its own; all in [0, 1]."""

    k: int
    accuracy: float
    precision_macro: float
    recall_macro: float
    f1_macro: float
    precision_weighted: float
    recall_weighted: float
    f1_weighted: float


@dataclass(frozen=True)
class ClassScore(Plain):
    """One class: its queries, their mean precision@k, and the F1 of the vote for it."""

    label: str
    queries: int
    precision: float
    f1: float


@dataclass(frozen=True)
class Confusion(Plain):
    """Queries of one label that were voted into another: count of all `queries` of that label."""

    label: str
    voted: str
    count: int
    queries: int


@dataclass(frozen=True)
class Neighbour(Plain):
    """One neighbour of a query. score: cosine similarity; right: whether it has its label."""

    path: Path
    label: str
    score: float
    right: bool


@dataclass(frozen=True)
class RankedQuery(Plain):
    """A query and its nearest neighbours, best first. precision: its precision@k."""

    path: Path
    label: str
    precision: float
    neighbours: tuple[Neighbour, ...]


@dataclass(frozen=True)
class ReliabilityBin(Plain):
    """Matches of like predicted probability: their mean prediction, share right, number."""

    predicted: float
    observed: float
    count: int


@dataclass(frozen=True)
class Calibration(Plain):
    """Score -> probability that a match has the query's class, piecewise linear between knots.

    scores: ascending cosine similarities. probabilities: of the same length, never falling.
    error: expected calibration error of held-out matches. brier: their Brier score.
    reliability: of held-out matches. matches: how many it was fitted to.
    """

    scores: tuple[float, ...]
    probabilities: tuple[float, ...]
    matches: int
    error: float
    brier: float
    reliability: tuple[ReliabilityBin, ...] = ()

    def probability(self, scores: np.ndarray) -> np.ndarray:
        """Probabilities in [0, 1] of scores of any shape, float64."""
        return np.asarray(np.interp(scores, self.scores, self.probabilities))


@dataclass(frozen=True)
class PerQuery(Plain):
    """What each of the q evaluated queries gave, for figures and paired tests.

    queries, classes: (q,) int64, the same for the same path and label in any evaluation.
    precision: (q,) float64, precision@k. distances: (q, k) float32, 1 - score of its k nearest, NaN
    where there are fewer.
    """

    k: int
    queries: np.ndarray
    classes: np.ndarray
    precision: np.ndarray
    distances: np.ndarray


@dataclass(frozen=True)
class Evaluation(Plain):
    """How good the matches of a labelled gallery are.

    protocol: "leave-one-out", "queries" or "zero-shot". queries: those that were evaluated;
    without_relevant: those left out since no gallery image shares their label. k: of
    precision@k by class, of the worst queries and of the distances. classes: worst first.
    confused: most frequent first. worst: the queries that failed worst, worst first.
    sample: a few queries, the same in each evaluation of the same queries. interval_over: what
    was drawn anew for the intervals, "queries" (of these classes) or "classes" (so new ones).
    notices: sentences on what limits these figures.
    """

    protocol: str
    gallery: int
    queries: int
    without_relevant: int
    k: int
    metrics: tuple[Metric, ...]
    vote: VoteScores
    classes: tuple[ClassScore, ...]
    confused: tuple[Confusion, ...]
    worst: tuple[RankedQuery, ...]
    sample: tuple[RankedQuery, ...]
    calibration: Calibration | None
    per_query: PerQuery
    interval_over: IntervalOver = "queries"
    notices: tuple[str, ...] = ()

    def metric(self, name: str) -> Metric:
        """One of the metrics by its name. Raises KeyError."""
        for metric in self.metrics:
            if metric.name == name:
                return metric
        raise KeyError(name)

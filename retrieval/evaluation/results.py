"""What an evaluation gives: figures with their intervals, classes, confusions, failed queries."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from retrieval.errors import ArgumentError
from retrieval.evaluation.evidence import Evidence
from retrieval.plain import Plain
from retrieval.suggestion import did_you_mean
from retrieval.text import counted
from retrieval.words import AnswerKind, IntervalOver

SUREST, MOST_POWER, HALVINGS = 1 - 1e-6, 1e8, 40  # to share a probability among classes
ROUNDING = 1e-3  # of a score: bfloat16 against float32, and a product against itself


@dataclass(frozen=True)
class Metric(Plain):
    """A mean over queries with its bootstrap 95 % interval, which extends to other queries or
    classes (Evaluation.interval_over). name: such as "precision@5"."""

    name: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class VoteScores(Plain):
    """How often a query's k neighbours vote for its own label; all in [0, 1]."""

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
    """One neighbour of a query. score: cosine similarity. right: has it the query's label?"""

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
    """Matches of similar predicted probability: their mean prediction, share right, number."""

    predicted: float
    observed: float
    count: int


@dataclass(frozen=True)
class Confidence(Plain):
    """The weights that turn evidence into the probability that a match is right.

    has_answer: weights of support, margin, near and density of the best match, and the bias, at
    even odds. is_right: weights of a match's support, margin and near, and the bias. least: the
    lowest score of a match that was right.
    """

    has_answer: tuple[float, ...]
    is_right: tuple[float, ...]
    least: float

    def probability(self, e: Evidence, density: np.ndarray, prior_known: float) -> np.ndarray:
        """Return how likely the m matches of q queries are right: (q, m) float64 in [0, 1].

        It is 0 for a match that is not there, or that scores less than `least` by more than engines
        round differently. The probabilities of the classes of a query sum to 1 at most. e: the
        evidence. density: (q,) of the best match. prior_known: share of queries that have an
        answer.
        """
        odds = e.of_query(density) @ np.array(self.has_answer[:-1]) + self.has_answer[-1]
        odds = odds + math.log(prior_known / (1 - prior_known))
        given = _sigmoid(e.of_matches() @ np.array(self.is_right[:-1]) + self.is_right[-1])
        classes = _sigmoid(e.of_classes() @ np.array(self.is_right[:-1]) + self.is_right[-1])
        power = _power_to_one(np.where(e.is_class, classes, 0.0))  # as one class alone is right
        answered, power = _sigmoid(odds)[:, None], power[:, None]
        both = answered * np.minimum(given, SUREST) ** power
        near = answered * np.where(e.is_class, np.minimum(classes, SUREST) ** power, 0.0)
        left = np.maximum(0.0, 1 - near.sum(axis=1, keepdims=True))
        both = np.where(e.share < 1, np.minimum(both, left * e.share), both)
        return np.where(e.scores >= self.least - ROUNDING, both, 0.0)


def _power_to_one(given: np.ndarray) -> np.ndarray:
    """Return the (q,) powers of 1 or more by which (q, n) probabilities sum to 1 at most.

    Equal ones stay equal, and one that is sure keeps most of what it has (Clarke, Kovalchik and
    Ingram 2017, "Adjusting bookmaker's odds to allow for overround").
    """
    found = np.ones(len(given))
    over = given.sum(axis=1) > 1
    some = np.minimum(given[over], SUREST)
    low, high = np.zeros(len(some)), np.full(len(some), math.log(MOST_POWER))
    for _ in range(HALVINGS if len(some) else 0):
        middle = (low + high) / 2
        still = (some ** np.exp(middle)[:, None]).sum(axis=1) > 1
        low, high = np.where(still, middle, low), np.where(still, high, middle)
    found[over] = np.exp(high)
    return found


@dataclass(frozen=True)
class Calibration(Plain):
    """What turns scores into probabilities, and how well that holds on queries not learnt from.

    kind: what an answer is, an image of the same "class" or of the same "picture". prior_known: the
    share of queries that have an answer, which the figures are weighted by. known, unknown: queries
    with and without one. error: expected calibration error of the best match. brier: its Brier
    score. area: under the ROC curve of telling queries with an answer from those without, by the
    probability; area_of_score: by the score alone. reliability: of the best match. notices:
    sentences on what limits these figures.
    """

    kind: AnswerKind
    confidence: Confidence
    prior_known: float
    known: int
    unknown: int
    error: float
    brier: float
    area: float
    area_of_score: float
    reliability: tuple[ReliabilityBin, ...] = ()
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)  # == of arrays gives an array
class PerQuery(Plain):
    """The figures of each of the q evaluated queries, for plots and paired tests.

    queries, classes: (q,) int64, the same for the same path and label in any evaluation.
    precision: (q,) float64, precision@k. distances: (q, k) float32, 1 - score of its k nearest, NaN
    where there are fewer.
    """

    k: int
    queries: np.ndarray
    classes: np.ndarray
    precision: np.ndarray
    distances: np.ndarray

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PerQuery):
            return NotImplemented
        pairs = (
            (getattr(self, field.name), getattr(other, field.name)) for field in fields(PerQuery)
        )
        return all(np.array_equal(one, two, equal_nan=True) for one, two in pairs)

    def __hash__(self) -> int:
        return hash((self.k, self.queries.tobytes(), self.precision.tobytes()))


@dataclass(frozen=True)
class Evaluation(Plain):
    """Figures of how good the matches of a labelled gallery are.

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
    per_query: PerQuery
    calibration: Calibration | None = None
    interval_over: IntervalOver = "queries"
    notices: tuple[str, ...] = ()

    @property
    def left_out(self) -> str | None:
        """Say how many queries have no relevant image; None where each has one."""
        if not self.without_relevant:
            return None
        count = counted(self.without_relevant, "query", "queries")
        return f"Left out, since no image has their class: {count}."

    def metric(self, name: str) -> Metric:
        """Return one of the metrics by its name. Raises ArgumentError."""
        for metric in self.metrics:
            if metric.name == name:
                return metric
        known = [metric.name for metric in self.metrics]
        meant = did_you_mean(str(name), known)
        raise ArgumentError(f"There is no metric {name!r}. {meant}Give one of {', '.join(known)}.")


def _sigmoid(odds: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-np.clip(odds, -500, 500))))

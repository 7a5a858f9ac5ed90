"""What the neighbours of a query say of whether its matches are right.

support  mean score of the three best neighbours of a match's class
margin   the best score of that class less the best of any other
near     mean score of the query's ten best neighbours
density  mean score of the best match to the ten best neighbours of its own

The last two tell a high score in a crowded place from the same score in an empty one, as distances
relative to those of the neighbours do (Breunig et al. 2000, "LOF"; Sun et al. 2022, "Out-of-
distribution detection with deep nearest neighbors").
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from retrieval.words import CONSIDERED

SUPPORTING, NEAR = 3, 10
CELLS_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class Evidence:
    """The evidence for m matches of q queries, float64.

    scores, support, margin: (q, m), -inf in scores where a match is not there. top_support,
    top_margin, near: (q,), of the best neighbour and of all neighbours.
    """

    scores: np.ndarray
    support: np.ndarray
    margin: np.ndarray
    top_support: np.ndarray
    top_margin: np.ndarray
    near: np.ndarray

    def of_query(self, density: np.ndarray) -> np.ndarray:
        """Support, margin, near and density of each query's best neighbour, (q, 4)."""
        return np.stack([self.top_support, self.top_margin, self.near, density], axis=1)

    def of_matches(self) -> np.ndarray:
        """Support, margin and near of each match, (q, m, 3)."""
        near = np.broadcast_to(self.near[:, None], self.support.shape)
        return np.stack([self.support, self.margin, near], axis=2)

    def rows(self, rows: np.ndarray) -> Evidence:
        """Take some of the queries."""
        return Evidence(*(getattr(self, field.name)[rows] for field in fields(self)))


def evidence(
    matches: tuple[np.ndarray, np.ndarray], neighbours: tuple[np.ndarray, np.ndarray]
) -> Evidence:
    """Return the evidence for matches among the neighbours of their queries.

    Each: (q, n) cosine similarities, best first, -inf where there is nothing, and (q, n) classes,
    whole numbers, equal where two are of one class. Of the neighbours the first CONSIDERED count,
    so that a match means the same however many were asked for, and whatever they were chosen by.
    """
    scores, classes = matches[0].astype(np.float64), matches[1]
    around, theirs = neighbours[0].astype(np.float64), neighbours[1]
    around, theirs = around[:, :CONSIDERED], theirs[:, :CONSIDERED]
    support, margin = _of_class(scores, classes, around, theirs)
    top_support, top_margin = _of_class(around[:, :1], theirs[:, :1], around, theirs)
    near = mean_of_best(around, NEAR)
    return Evidence(scores, support, margin, top_support[:, 0], top_margin[:, 0], near)


def mean_of_best(scores: np.ndarray, n: int) -> np.ndarray:
    """Return (...) means of the n best finite of (..., w) scores; -1 if none is finite."""
    best = -np.sort(-scores.astype(np.float64), axis=-1)[..., :n]
    there = np.isfinite(best)
    total = np.where(there, best, 0).sum(axis=-1)
    return np.asarray(np.where(there.any(axis=-1), total / np.maximum(there.sum(axis=-1), 1), -1.0))


def _of_class(
    scores: np.ndarray, classes: np.ndarray, around: np.ndarray, theirs: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The (q, m) support and margin, some queries at a time."""
    support, margin = np.empty((2, *scores.shape))
    step = max(1, CELLS_AT_ONCE // max(1, scores.shape[1] * around.shape[1]))
    for start in range(0, len(scores), step):
        rows = slice(start, start + step)
        same = classes[rows, :, None] == theirs[rows, None, :]
        near = around[rows, None, :]
        own = np.where(same, near, -np.inf)
        others = np.where(same, -np.inf, near).max(axis=2)
        worst = np.where(np.isfinite(near), near, np.inf).min(axis=2, initial=1.0)
        others = np.where(np.isfinite(others), others, worst)  # another one is farther still
        alone = np.where(np.isfinite(scores[rows]), scores[rows], -1.0)  # no neighbour is like it
        known = np.isfinite(own.max(axis=2))
        support[rows] = np.where(known, mean_of_best(own, SUPPORTING), alone)
        margin[rows] = np.where(known, own.max(axis=2), alone) - others
    return support, margin

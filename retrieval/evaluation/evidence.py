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

from dataclasses import dataclass

import numpy as np

CONSIDERED = 32  # neighbours of a query that are looked at
SUPPORTING, NEAR = 3, 10
CELLS_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class Evidence:
    """Of the m best matches of q queries, float64: scores, support, margin: (q, m); near: (q,).

    -inf in scores is a match that is not there.
    """

    scores: np.ndarray
    support: np.ndarray
    margin: np.ndarray
    near: np.ndarray


def evidence(scores: np.ndarray, classes: np.ndarray, m: int) -> Evidence:
    """The evidence for the first m of (q, n) neighbours, best first.

    scores: cosine similarities, -inf where there is no neighbour. classes: (q, n) whole numbers,
    equal where two neighbours are of one class.
    """
    scores = scores.astype(np.float64)
    m = min(m, scores.shape[1])
    support, margin = np.empty((2, len(scores), m))
    step = max(1, CELLS_AT_ONCE // max(1, m * scores.shape[1]))
    for start in range(0, len(scores), step):
        rows = slice(start, start + step)
        support[rows], margin[rows] = _of_class(scores[rows], classes[rows], m)
    return Evidence(scores[:, :m], support, margin, mean_of_best(scores, NEAR))


def mean_of_best(scores: np.ndarray, n: int) -> np.ndarray:
    """(..., w) scores -> (...) mean of the n best that are finite; -1 where there is none."""
    best = -np.sort(-scores.astype(np.float64), axis=-1)[..., :n]
    there = np.isfinite(best)
    total = np.where(there, best, 0).sum(axis=-1)
    return np.asarray(np.where(there.any(axis=-1), total / np.maximum(there.sum(axis=-1), 1), -1.0))


def _of_class(scores: np.ndarray, classes: np.ndarray, m: int) -> tuple[np.ndarray, np.ndarray]:
    same = classes[:, :m, None] == classes[:, None, :]
    own = np.where(same, scores[:, None, :], -np.inf)
    others = np.where(same, -np.inf, scores[:, None, :]).max(axis=2)
    worst = np.where(np.isfinite(scores), scores, np.inf).min(axis=1, initial=1.0)
    others = np.where(np.isfinite(others), others, worst[:, None])  # another one is farther still
    best = np.where(np.isfinite(own.max(axis=2)), own.max(axis=2), -1.0)
    return mean_of_best(own, SUPPORTING), best - others

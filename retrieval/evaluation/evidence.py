"""What the neighbours of a query say of whether its matches are right.

support  mean score of the three best neighbours of a match's class
margin   the best score of that class less the best of any other
near     mean score of the query's ten best neighbours
density  mean score of the best match to the ten best neighbours of its own

The last two tell a high score in a crowded place from the same score in an empty one, as distances
relative to those of the neighbours do (Breunig et al. 2000, "LOF"; Sun et al. 2022, "Out-of-
distribution detection with deep nearest neighbors"). A neighbour without a label is of no class,
and a rival of the best of these, as what a query shows may be what it shows.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from retrieval.words import CONSIDERED, NO_LABEL

SUPPORTING, NEAR = 3, 10
CELLS_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class Evidence:
    """The evidence for m matches of q queries, float64.

    scores, support, margin: (q, m), -inf in scores where a match is not there or has no class.
    top_support, top_margin, near: (q,), of the best neighbour that has a class, and of all
    neighbours. is_class: (q, CONSIDERED) bool, the best neighbour of each class, where a query can
    be of one class only; class_support, class_margin: (q, CONSIDERED), of those. share: (q, m), how
    much of what those leave a match of another class may have; 1 for a match of one of those.
    """

    scores: np.ndarray
    support: np.ndarray
    margin: np.ndarray
    top_support: np.ndarray
    top_margin: np.ndarray
    near: np.ndarray
    is_class: np.ndarray
    class_support: np.ndarray
    class_margin: np.ndarray
    share: np.ndarray

    def of_query(self, density: np.ndarray) -> np.ndarray:
        """Support, margin, near and density of each query's best neighbour, (q, 4)."""
        return np.stack([self.top_support, self.top_margin, self.near, density], axis=1)

    def of_matches(self) -> np.ndarray:
        """Support, margin and near of each match, (q, m, 3)."""
        return self._with_near(self.support, self.margin)

    def of_classes(self) -> np.ndarray:
        """Support, margin and near of the class of each neighbour, (q, CONSIDERED, 3)."""
        return self._with_near(self.class_support, self.class_margin)

    def _with_near(self, support: np.ndarray, margin: np.ndarray) -> np.ndarray:
        near = np.broadcast_to(self.near[:, None], support.shape)
        return np.stack([support, margin, near], axis=2)

    def rows(self, rows: np.ndarray) -> Evidence:
        """Take some of the queries."""
        return Evidence(*(getattr(self, field.name)[rows] for field in fields(self)))


def evidence(
    matches: tuple[np.ndarray, np.ndarray],
    neighbours: tuple[np.ndarray, np.ndarray],
    *,
    one_class: bool = True,
) -> Evidence:
    """Return the evidence for matches among the neighbours of their queries.

    Each: (q, n) cosine similarities, best first, -inf where there is nothing, and (q, n) classes,
    whole numbers, equal where two are of one class, and NO_LABEL for none. Of the neighbours the
    first CONSIDERED count, so that a match means the same however many were asked for, and whatever
    they were chosen by. one_class: whether only one class can be right.
    """
    classes = matches[1]
    scores = np.where(classes == NO_LABEL, -np.inf, matches[0].astype(np.float64))
    around, theirs = _padded(*neighbours)
    labelled = np.where(theirs == NO_LABEL, -np.inf, around)
    support, margin = _of_class(scores, classes, labelled, theirs)
    of_class, of_margin = _of_class(labelled, theirs, labelled, theirs)
    top = np.argmax(theirs != NO_LABEL, axis=1)[:, None]  # the first, where none has a class
    best, top_support, top_margin = (
        np.where((theirs == NO_LABEL).all(axis=1), -1.0, np.take_along_axis(of, top, 1)[:, 0])
        for of in (around, of_class, of_margin)
    )
    unknown = np.where(theirs == NO_LABEL, around, -np.inf).max(axis=1)
    rivalled = np.isfinite(unknown) & (theirs != NO_LABEL).any(axis=1)
    unlabelled = best - np.where(rivalled, unknown, 0.0)
    top_margin = np.where(rivalled, np.minimum(top_margin, unlabelled), top_margin)
    is_class = _first_of_its_class(theirs) & one_class
    return Evidence(
        scores, support, margin, top_support, top_margin, mean_of_best(around, NEAR),
        is_class, of_class, of_margin, _shares(classes, theirs, one_class=one_class),
    )  # fmt: skip


def _padded(scores: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """CONSIDERED neighbours, of which the last may not be there."""
    there = np.isfinite(scores[:, :CONSIDERED])
    width = ((0, 0), (0, CONSIDERED - there.shape[1]))
    around = np.where(there, scores[:, :CONSIDERED].astype(np.float64), -np.inf)
    theirs = np.where(there, classes[:, :CONSIDERED], NO_LABEL)
    return (
        np.pad(around, width, constant_values=-np.inf),
        np.pad(theirs, width, constant_values=NO_LABEL),
    )


def _first_of_its_class(classes: np.ndarray) -> np.ndarray:
    """Tell which of (q, n) are the first of their class in their row."""
    order = np.argsort(classes, axis=1, kind="stable")
    of = np.take_along_axis(classes, order, 1)
    new = np.concatenate([np.ones((len(of), 1), bool), of[:, 1:] != of[:, :-1]], axis=1)
    first = np.empty(classes.shape, bool)
    np.put_along_axis(first, order, new & (of != NO_LABEL), 1)
    return first


def _shares(classes: np.ndarray, theirs: np.ndarray, *, one_class: bool) -> np.ndarray:
    """Halve what is left with each further class that none of the neighbours has, (q, m)."""
    shares = np.ones(classes.shape)
    if not one_class:
        return shares
    for row, (own, near) in enumerate(zip(classes, theirs, strict=True)):
        far = ~np.isin(own, near)
        if far.any():
            new = _first_of_its_class(np.where(far, own, NO_LABEL)[None])[0]
            shares[row] = np.where(far, 0.5 ** np.cumsum(new), 1.0)
    return shares


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
        same &= theirs[rows, None, :] != NO_LABEL
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

"""Sets of ids as sorted arrays: numpy's own hash them, which takes seconds for a million.

Besides, numpy's import numpy.ma on first use, which takes longer than a query's ids.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def distinct(ids: np.ndarray) -> np.ndarray:
    """Sort (n,) ids and leave each once: int64.

    >>> distinct(np.array([3, 1, 3]))
    array([1, 3])
    """
    found = np.sort(np.asarray(ids, np.int64), kind="stable")
    return found[np.flatnonzero(np.diff(found, prepend=found[:1] - 1))]


def ids_without(ids: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the distinct ids that are not among others: int64, sorted.

    >>> ids_without(np.array([5, 2, 9]), np.array([9, 4]))
    array([2, 5])
    """
    found, known = distinct(ids), distinct(others)
    if not len(known):
        return found
    at = np.minimum(np.searchsorted(known, found), len(known) - 1)
    return found[known[at] != found]


def vectors_of_each(
    ids: np.ndarray, width: int, read: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Return the (..., width) float32 vectors of ids of any shape; zeros for id -1.

    read: gives the (n, width) vectors of (n,) distinct ids, sorted; each is asked for once.

    >>> vectors_of_each(np.array([[7, -1, 7]]), 1, lambda ids: ids[:, None]).tolist()
    [[[7.0], [0.0], [7.0]]]
    """
    wanted = distinct(np.ravel(ids))
    there = wanted >= 0
    vectors = np.zeros((len(wanted), width), np.float32)
    if there.any():
        vectors[there] = read(wanted[there])
    return vectors[np.searchsorted(wanted, ids)]


class IdPlaces:
    """Where each of (n,) ids stands; of two that are equal, the first one."""

    def __init__(self, ids: np.ndarray) -> None:
        in_order = bool((np.diff(ids) > 0).all())  # as in a table: sorting a million is saved
        self._order = np.arange(len(ids)) if in_order else np.argsort(ids, kind="stable")
        self._sorted = ids[self._order]

    def of(self, wanted: np.ndarray) -> np.ndarray:
        """Return the places of ids of any shape, -1 for one that is not there: int64.

        >>> IdPlaces(np.array([30, 10])).of(np.array([[10, 20], [30, -1]]))
        array([[ 1, -1],
               [ 0, -1]])
        """
        if not len(self._sorted):
            return np.full(np.shape(wanted), -1, np.int64)
        at = np.minimum(np.searchsorted(self._sorted, wanted), len(self._sorted) - 1)
        return np.where(self._sorted[at] == wanted, self._order[at], -1)

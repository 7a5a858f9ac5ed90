"""Sets of ids as sorted arrays: numpy's own hash them, which takes seconds for a million."""

from __future__ import annotations

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

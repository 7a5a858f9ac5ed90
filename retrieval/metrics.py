"""How good matches are: pure functions on arrays."""

from __future__ import annotations

import numpy as np


def precision_at_k(labels: np.ndarray, neighbours: np.ndarray, k: int) -> np.ndarray:
    """Share of each query's first k neighbours that have its label.

    labels: (n,) label of each query. neighbours: (n, m) labels of its neighbours, nearest first,
    m >= k; a query is not among its own. Divides by k, not by the number of relevant images.
    Returns (n,) float64 in [0, 1]. Raises ValueError when m < k.

    >>> precision_at_k(np.array(["a", "b"]), np.array([["a", "b"], ["b", "b"]]), k=2).tolist()
    [0.5, 1.0]
    """
    if neighbours.shape[1] < k:
        raise ValueError(f"precision@{k} needs {k} neighbours a query, got {neighbours.shape[1]}")
    return np.asarray((neighbours[:, :k] == labels[:, None]).mean(axis=1))


def neighbour_recall(found: np.ndarray, exact: np.ndarray) -> float:
    """Share of the true nearest neighbours that an approximate search found.

    found, exact: (n, k) ids, in any order within a row. Returns a float in [0, 1].
    Source: Aumüller et al. 2020, "ANN-Benchmarks" (recall without the distance tolerance).

    >>> neighbour_recall(np.array([[1, 2], [5, 6]]), np.array([[2, 1], [5, 7]]))
    0.75
    """
    return float((exact[:, :, None] == found[:, None, :]).any(axis=2).mean())

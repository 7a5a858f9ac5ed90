"""Search of an IVF index among some of its vectors: more cells, until more change nothing.

How many cells hold the nearest that pass a filter depends on the filter. If it selects much as the
cells do, as labels do, the cells near a query may hold none. So each query has its own number of
cells, as in Li et al. 2020, "Improving approximate nearest neighbor search through learned adaptive
early termination", but by a simpler rule: a round that finds nothing new ends the search.
"""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np

from retrieval.index.search import search_index, threads_for
from retrieval.index.selection import Selection

WIDER = 3  # times as many cells as in the round before


def search_wider(
    ivf: Any, x: np.ndarray, k: int, nprobe: int, among: Selection
) -> tuple[np.ndarray, np.ndarray]:
    """Find the k nearest of (q, d) float32 vectors among some, from nprobe cells on.

    Returns (q, k) scores and ids as FAISS gives them.
    """
    scores = np.full((len(x), k), -np.inf, np.float32)
    ids = np.full((len(x), k), -1, np.int64)
    rows, first, last = np.arange(len(x)), 0, min(nprobe, ivf.nlist)
    with threads_for(len(x)):
        order = _cells_in_order(ivf, x, min(WIDER * last, ivf.nlist))
        while len(rows):
            if last > order[0].shape[1]:  # few come so far
                order = _cells_in_order(ivf, x[rows], ivf.nlist)
            part = [np.ascontiguousarray(a[:, first:last]) for a in order]
            near, found = _search_cells(ivf, x[rows], k, part, among)
            before = ids[rows]
            near, found = np.hstack([scores[rows], near]), np.hstack([before, found])
            best = np.argsort(-near, axis=1, kind="stable")[:, :k]
            scores[rows] = np.take_along_axis(near, best, 1)
            ids[rows] = np.take_along_axis(found, best, 1)
            if last == ivf.nlist:
                break
            news = (ids[rows] != before).any(axis=1) | (ids[rows] < 0).any(axis=1)
            rows, order = rows[news], [a[news] for a in order]
            first, last = last, min(WIDER * last, ivf.nlist)
    return scores, ids


def _cells_in_order(ivf: Any, x: np.ndarray, n: int) -> list[np.ndarray]:
    """The n nearest cells of each query, (q, n) int64, after their (q, n) float32 scores."""
    return list(search_index(faiss.downcast_index(ivf.quantizer), x, n, None))


def _search_cells(
    ivf: Any, x: np.ndarray, k: int, cells: list[np.ndarray], among: Selection
) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest of each query in cells of its own: their (q, m) scores and numbers."""
    x = np.ascontiguousarray(x)
    distances, nearest = cells
    scores, ids = np.empty((len(x), k), np.float32), np.empty((len(x), k), np.int64)
    own = faiss.SearchParametersIVF(nprobe=nearest.shape[1], sel=among.selector)
    pointers = (faiss.swig_ptr(a) for a in (nearest, distances, scores, ids))
    # FAISS's own search_preassigned of Python takes no parameters
    ivf.search_preassigned_c(len(x), faiss.swig_ptr(x), k, *pointers, False, own)  # noqa: FBT003
    return scores, ids

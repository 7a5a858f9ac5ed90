"""Search of an IVF index among some of its vectors: more cells, until more change nothing.

How many cells hold the nearest that pass a filter depends on the filter: where it goes by what the
cells go by, as labels do, the cells near a query may hold none. So each query has cells of its
own number, in the way of Li et al. 2020, "Improving approximate nearest neighbor search through
learned adaptive early termination", by the plain rule that a round which finds nothing ends it.
"""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np

from retrieval.index.selection import Selection
from retrieval.index.stored import threads_for

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
        while len(rows):
            near, found = _search_cells(ivf, x[rows], k, (first, last), among)
            before = ids[rows]
            near, found = np.hstack([scores[rows], near]), np.hstack([before, found])
            order = np.argsort(-near, axis=1, kind="stable")[:, :k]
            scores[rows] = np.take_along_axis(near, order, 1)
            ids[rows] = np.take_along_axis(found, order, 1)
            if last == ivf.nlist:
                break
            news = (ids[rows] != before).any(axis=1) | (ids[rows] < 0).any(axis=1)
            rows = rows[news]
            first, last = last, min(WIDER * last, ivf.nlist)
    return scores, ids


def _search_cells(
    ivf: Any, x: np.ndarray, k: int, cells: tuple[int, int], among: Selection
) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest in the cells from one place to another, by their distance to each query."""
    first, last = cells
    x = np.ascontiguousarray(x)
    distances, nearest = _numpy_search(ivf.quantizer, x, last)
    nearest, distances = (np.ascontiguousarray(a[:, first:last]) for a in (nearest, distances))
    scores, ids = np.empty((len(x), k), np.float32), np.empty((len(x), k), np.int64)
    own = faiss.SearchParametersIVF(nprobe=last - first, sel=among.selector)
    pointers = (faiss.swig_ptr(a) for a in (nearest, distances, scores, ids))
    # FAISS's own search_preassigned of Python takes no parameters
    ivf.search_preassigned_c(len(x), faiss.swig_ptr(x), k, *pointers, False, own)  # noqa: FBT003
    return scores, ids


def _numpy_search(index: Any, x: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    # faiss.contrib.torch_utils, once anything imports it, puts a search of its own in front
    index = faiss.downcast_index(index)
    scores, ids = getattr(index, "search_numpy", index.search)(x, k)
    return scores, ids

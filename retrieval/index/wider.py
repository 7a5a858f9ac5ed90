"""Search of an IVF index in as many cells as each query needs.

Each round searches more cells for the queries that may have better neighbours there (reach.py). So
a query that has near neighbours takes few cells. One takes many whose near neighbours do not pass
a filter, or are not in the gallery.
"""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np

from retrieval.index.reach import Reach
from retrieval.index.search import search_index, threads_for
from retrieval.index.selection import Selection, compares_most
from retrieval.index.stored import StoredVectors

WIDER = 3  # times as many cells as in the round before, at most
AT_A_TIME = 512  # queries, whose cells are put in order in memory


def search_wider(
    stored: StoredVectors,
    x: np.ndarray,
    k: int,
    first: int,
    reach: Reach,
    among: Selection | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the k nearest of (q, d) float32 vectors, among some or all.

    first: cells of the first round. Returns (q, k) scores and ids as FAISS gives them, and the
    number of cells that were searched for each query: (q,) int64.
    """
    parts = []
    with threads_for(len(x)):
        for start in range(0, len(x), AT_A_TIME):
            search = _Search(stored, x[start : start + AT_A_TIME], k, among)
            search.in_rounds(min(first, reach.nlist), reach)
            parts.append((search.scores, search.ids, search.cells))
    scores, ids, cells = (np.concatenate(part) for part in zip(*parts, strict=True))
    return scores, ids, cells


class _Search:
    """The k nearest of each query so far, (q, k) scores and ids, and the cells searched for it."""

    def __init__(
        self, stored: StoredVectors, x: np.ndarray, k: int, among: Selection | None
    ) -> None:
        self._stored, self._x, self._k = stored, x, k
        self._own: dict[str, Any] = {} if among is None else {"sel": among.selector}
        self._whole = compares_most(among, int(stored.index.ntotal))
        self.scores = np.full((len(x), k), -np.inf, np.float32)
        self.ids = np.full((len(x), k), -1, np.int64)
        self.cells = np.zeros(len(x), np.int64)

    def in_rounds(self, first: int, reach: Reach) -> None:
        """Search in more and more cells, until there can hardly be a better one in others."""
        rows, until = np.arange(len(self._x)), np.full(len(self._x), first)
        centres, cells = self._nearest_cells(rows, WIDER * first)
        while len(rows):
            last = int(until.max())
            if last > cells.shape[1]:  # few queries come here
                centres, cells = self._nearest_cells(rows, max(reach.nlist // 4, WIDER * last))
            start = int(self.cells[rows].min())
            places = np.arange(start, last)
            mine = (places >= self.cells[rows, None]) & (places < until[:, None])
            chosen = np.where(mine, cells[:, start:last], -1)
            self._add(rows, *self._found_in(rows, centres[:, start:last], chosen))
            self.cells[rows] = until
            needed = reach.cells_for(self.scores[rows, -1])
            more = (needed > until) & (until < reach.nlist)
            rows, centres, cells = rows[more], centres[more], cells[more]
            until = np.minimum(np.minimum(needed[more], WIDER * until[more]), reach.nlist)

    def _nearest_cells(self, rows: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
        """The scores of the n nearest centres of some queries, and the cells: (rows, n)."""
        quantizer = self._stored.quantizer
        return search_index(quantizer, self._x[rows], min(n, quantizer.ntotal), None)

    def _found_in(
        self, rows: np.ndarray, centres: np.ndarray, cells: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The (rows, k) scores and ids that some queries find in cells of their own.

        centres, cells: (rows, n); -1 stands for none.
        """
        if self._whole:
            self._stored.read_ahead(cells)
        x = np.ascontiguousarray(self._x[rows])
        cells, centres = (np.ascontiguousarray(a) for a in (cells, centres))
        near = np.empty((len(x), self._k), np.float32)
        found = np.empty((len(x), self._k), np.int64)
        own = faiss.SearchParametersIVF(nprobe=cells.shape[1], **self._own)
        pointers = (faiss.swig_ptr(a) for a in (cells, centres, near, found))
        # FAISS's own search_preassigned of Python takes no parameters
        self._stored.index.search_preassigned_c(
            len(x), faiss.swig_ptr(x), self._k, *pointers, False, own  # noqa: FBT003
        )  # fmt: skip
        near[found < 0] = -np.inf
        return near, found

    def _add(self, rows: np.ndarray, near: np.ndarray, found: np.ndarray) -> None:
        """Keep the k nearest of what was found before and now."""
        if not self.cells[rows].any():
            self.scores[rows], self.ids[rows] = near, found
            return
        near, found = np.hstack([self.scores[rows], near]), np.hstack([self.ids[rows], found])
        best = np.argsort(-near, axis=1, kind="stable")[:, : self._k]
        self.scores[rows] = np.take_along_axis(near, best, 1)
        self.ids[rows] = np.take_along_axis(found, best, 1)

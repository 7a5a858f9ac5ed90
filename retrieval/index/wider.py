"""Search of an IVF index among some of its vectors, in as many cells as that takes.

How many cells hold the nearest that pass a filter depends on the filter. So each query has its own
number of cells, as in Li et al. 2020, "Improving approximate nearest neighbor search through
learned adaptive early termination", but by simpler rules:

- Where a filter passes as many in each cell near the query as chance would, its k nearest lie where
  the k / share nearest of all do.
- If it selects much as the cells do, as labels do, the cells near a query may hold none. Then each
  round has more cells, and one that finds nothing new ends the search.
"""

from __future__ import annotations

import math

import faiss
import numpy as np

from retrieval.index.cells import Effort
from retrieval.index.search import search_index, threads_for
from retrieval.index.selection import Selection
from retrieval.index.stored import StoredVectors

WIDER = 3  # times as many cells as in the round before
AT_HAND = 1.3  # times as many cells are put in order, since shares differ from cell to cell
SIGMAS = 4  # by which numbers may vary more between cells than is expected of chance


def search_wider(
    stored: StoredVectors, x: np.ndarray, k: int, effort: Effort, among: Selection
) -> tuple[np.ndarray, np.ndarray]:
    """Find the k nearest of (q, d) float32 vectors among some.

    Returns (q, k) scores and ids as FAISS gives them.
    """
    search = _Search(stored, x, k, among)
    with threads_for(len(x)):
        search.in_rounds(search.where_chance_passes(effort), effort)
    return search.scores, search.ids


class _Search:
    """The k nearest of each query so far: (q, k) scores and ids."""

    def __init__(self, stored: StoredVectors, x: np.ndarray, k: int, among: Selection) -> None:
        self._stored, self._x, self._k, self._among = stored, x, k, among
        self._share = among.count / stored.index.ntotal
        self.scores = np.full((len(x), k), -np.inf, np.float32)
        self.ids = np.full((len(x), k), -1, np.int64)

    def where_chance_passes(self, effort: Effort) -> np.ndarray:
        """Search for the queries near which a filter passes by chance; return the other rows."""
        rows, sizes = np.arange(len(self._x)), self._stored.cell_sizes
        n = math.ceil(AT_HAND * effort.cells(self._k / self._share))
        centres, cells = self._nearest_cells(rows, n)
        passing = self._among.passing.of(self._stored, cells)
        needed = np.array(
            [cells_by_chance(passing[i], sizes[cells[i]], effort, self._k) for i in rows.tolist()]
        )
        last, even = int(needed.max(initial=0)), np.flatnonzero(needed)
        if not last:
            return rows
        passing = passing[:, :last] * (np.arange(last) < needed[:, None])
        found = self._found_in(even, centres[even, :last], cells[even, :last], passing[even])
        self.scores[even], self.ids[even] = found
        return np.flatnonzero(needed == 0)

    def in_rounds(self, rows: np.ndarray, effort: Effort) -> None:
        """Search for the queries of some rows in more and more cells, until none finds others."""
        nlist = effort.nlist
        first, last = 0, min(nlist, math.ceil(effort.cells(self._k) / self._share))
        order = (np.empty((len(rows), 0)),) * 2
        while len(rows):
            if last > order[0].shape[1]:  # few come beyond the second round
                order = self._nearest_cells(rows, nlist if first else WIDER * last)
            centres, cells = (a[:, first:last] for a in order)
            passing = self._among.passing.of(self._stored, cells)
            before = self.ids[rows]
            self._add(rows, *self._found_in(rows, centres, cells, passing))
            if last == nlist:
                break
            found = self.ids[rows]
            news = (found != before).any(axis=1) | (found < 0).any(axis=1)
            rows, order = rows[news], (order[0][news], order[1][news])
            first, last = last, min(WIDER * last, nlist)

    def _nearest_cells(self, rows: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
        """The scores of the n nearest centres of some queries, and the cells: (rows, n)."""
        quantizer = faiss.downcast_index(self._stored.index.quantizer)
        return search_index(quantizer, self._x[rows], min(n, quantizer.ntotal), None)

    def _found_in(
        self, rows: np.ndarray, centres: np.ndarray, cells: np.ndarray, passing: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The (rows, k) scores and ids that some queries find in cells of their own.

        centres, cells, passing: (rows, n). Cells where none passes are left out.
        """
        x = np.ascontiguousarray(self._x[rows])
        cells, centres = np.where(passing > 0, cells, -1), np.ascontiguousarray(centres)
        near = np.empty((len(x), self._k), np.float32)
        found = np.empty((len(x), self._k), np.int64)
        own = faiss.SearchParametersIVF(nprobe=cells.shape[1], sel=self._among.selector)
        pointers = (faiss.swig_ptr(a) for a in (cells, centres, near, found))
        # FAISS's own search_preassigned of Python takes no parameters
        self._stored.index.search_preassigned_c(
            len(x), faiss.swig_ptr(x), self._k, *pointers, False, own  # noqa: FBT003
        )  # fmt: skip
        near[found < 0] = -np.inf
        return near, found

    def _add(self, rows: np.ndarray, near: np.ndarray, found: np.ndarray) -> None:
        """Keep the k nearest of what was found before and now."""
        near, found = np.hstack([self.scores[rows], near]), np.hstack([self.ids[rows], found])
        best = np.argsort(-near, axis=1, kind="stable")[:, : self._k]
        self.scores[rows] = np.take_along_axis(near, best, 1)
        self.ids[rows] = np.take_along_axis(found, best, 1)


def cells_by_chance(passing: np.ndarray, sizes: np.ndarray, effort: Effort, k: int) -> int:
    """Return in how many cells to search for a query near which a filter passes by chance, else 0.

    passing, sizes: (m,), how many pass of how many in the cells nearest to it, in order. By chance
    the numbers that pass vary as those of a binomial distribution. If they vary more, or m cells
    are too few, it is 0.

    >>> twenty = np.full(8, 20)
    >>> cells_by_chance(np.array([10, 9, 11, 10, 10, 10, 9, 11]), twenty, Effort(4, 40, 99), 10)
    8
    >>> cells_by_chance(np.array([20, 0, 0, 20, 0, 20, 0, 0]), twenty, Effort(4, 40, 99), 10)
    0
    """
    near = effort.cells(k)
    share = float(passing[:near].sum() / max(1, sizes[:near].sum()))
    needed = effort.cells(k / share) if share else effort.nlist
    passing, sizes = passing[:needed], sizes[:needed]
    if len(passing) < needed or passing.sum() < k:
        return 0
    off = passing - share * sizes
    by_chance = share * (1 - share) * float(sizes.sum())
    return needed if off @ off <= by_chance * (1 + SIGMAS * math.sqrt(2 / needed)) else 0

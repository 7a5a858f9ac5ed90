"""How many of the vectors in each cell pass a filter."""

from __future__ import annotations

from collections.abc import Callable

import faiss
import numpy as np

from retrieval.index.stored import StoredVectors

_UNKNOWN = -1


class PassingCounts:
    """How many ids pass in the cells that were asked for; any thread may ask for them.

    A cell is counted when it is first asked for: counting all of them reads every id of a file.

    passes: (m,) int64 ids -> (m,) bool.
    """

    def __init__(self, passes: Callable[[np.ndarray], np.ndarray]) -> None:
        self.passes = passes
        self._known: tuple[StoredVectors, np.ndarray] | None = None

    def of(self, stored: StoredVectors, cells: np.ndarray) -> np.ndarray:
        """Return how many pass in each of some cells of any shape: int64."""
        known = self._known
        if known is None or known[0] is not stored:  # the index has changed
            known = stored, np.full(stored.index.nlist, _UNKNOWN, np.int64)
            self._known = known
        counts = known[1]
        lists = stored.index.invlists
        for cell in np.unique(cells[counts[cells] == _UNKNOWN]).tolist():
            size = lists.list_size(cell)
            ids = faiss.rev_swig_ptr(lists.get_ids(cell), size) if size else np.empty(0, np.int64)
            counts[cell] = np.count_nonzero(self.passes(ids))
        return np.asarray(counts[cells])

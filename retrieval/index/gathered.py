"""The vectors that pass a narrow filter, side by side.

Comparing with all of them takes less time than passing by the others in every cell. Copying them
out of the cells takes as long as some queries, so it waits for those. A few are read from their
rows at once: the ids alone of a million vectors lie on 4,096 pages of the file.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import faiss
import numpy as np

from retrieval.index.stored import StoredVectors

QUERIES_BEFORE, FEW_READ = 8, 1_000
MOST_BYTES, MOST_SHARE = 1 << 25, 0.1  # of memory; of the vectors, of more the cells are faster
BYTES_A_NUMBER = 2  # float16, as in the cells

ReadVectors = Callable[[np.ndarray], np.ndarray]


class GatheredVectors:
    """The vectors of a few ids in an exact index of their own; any thread may ask for it.

    ids: (n,) int64; those that are not stored are left out. read: gives the (m, d) float32 vectors
    of up to FEW_READ ids, all of them stored, without the cells.
    """

    def __init__(self, ids: np.ndarray, read: ReadVectors | None = None) -> None:
        self._ids = ids
        self._read = read if len(ids) <= FEW_READ else None
        self._asked = 0
        self._made: tuple[StoredVectors, Any] | None = None
        self._turn = threading.Lock()

    def index(self, stored: StoredVectors, queries: int) -> Any | None:
        """Return the index for so many more queries; None where it does not pay yet."""
        size = len(self._ids) * stored.d * BYTES_A_NUMBER
        if size > MOST_BYTES or len(self._ids) > MOST_SHARE * stored.index.ntotal:
            return None
        with self._turn:
            self._asked += queries
            if self._made and self._made[0] is not stored:  # the index has changed
                self._made = None
            if self._made is None and (self._read or self._asked > QUERIES_BEFORE):
                self._made = stored, self._gathered(stored)
            return self._made and self._made[1]

    def _gathered(self, stored: StoredVectors) -> Any:
        quantizer = faiss.IndexScalarQuantizer(
            stored.d, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
        )
        gathered = faiss.IndexIDMap(quantizer)
        ids = self._ids if self._read else self._ids[stored.holds(self._ids)]
        vectors = self._read(ids) if self._read else stored.of(ids)
        gathered.train(vectors)
        gathered.add_with_ids(vectors, ids)
        return gathered

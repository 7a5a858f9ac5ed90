"""What a FAISS index holds: flat with ids, or in cells."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import faiss
import numpy as np

from retrieval.index.ahead import ReadAhead
from retrieval.sorted_ids import IdPlaces

VECTORS_A_READ = 4096
EVERYTHING = np.zeros(1, np.int64)  # the one cell of flat vectors


class StoredVectors:
    """The vectors and ids of one FAISS index, as they are now: another one after a change.

    index: an IndexIDMap of flat vectors, or an IndexIVFScalarQuantizer in float16. mapped: whether
    they lie in a file that is mapped.
    """

    def __init__(self, index: Any, *, mapped: bool = False) -> None:
        self.index = index
        self._mapped = mapped
        self.d = int(index.d)
        self._is_flat = type(index) is faiss.IndexIDMap

    @cached_property
    def ids(self) -> np.ndarray:
        """The ids, (n,) int64, in the order in which vectors are stored."""
        if self._is_flat:
            return np.array(faiss.vector_to_array(self.index.id_map))
        lists = self.index.invlists
        parts = [
            np.array(faiss.rev_swig_ptr(lists.get_ids(cell), size))
            for cell, size in enumerate(self.cell_sizes.tolist())
            if size
        ]
        return np.concatenate(parts) if parts else np.empty(0, np.int64)

    @cached_property
    def cell_sizes(self) -> np.ndarray:
        """How many vectors each cell holds, (nlist,) int64."""
        lists = self.index.invlists
        return np.array([lists.list_size(cell) for cell in range(lists.nlist)])

    @property
    def quantizer(self) -> Any:
        """The index of the cells' centres."""
        return faiss.downcast_index(self.index.quantizer)

    @property
    def row_size(self) -> int:
        """The bytes of a stored vector and its id."""
        return 8 + int(self.index.index.sa_code_size() if self._is_flat else self.index.code_size)

    def of(self, ids: np.ndarray) -> np.ndarray:
        """Return the vectors of ids of any shape, (..., d) float32; zeros for id -1.

        Raises ValueError for an id that it does not hold.
        """
        wanted = np.asarray(ids, np.int64)
        places, there = self._places.of(wanted), wanted >= 0
        if (places[there] < 0).any():
            raise ValueError("the index does not hold all of these ids")
        vectors = np.zeros((*wanted.shape, self.d), np.float32)
        vectors[there] = self._at(places[there])
        return vectors

    def holds(self, ids: np.ndarray) -> np.ndarray:
        """Tell of ids of any shape whether they have a vector: bool."""
        return self._places.of(ids) >= 0

    def cells_of(self, ids: np.ndarray) -> np.ndarray:
        """Return the cell of each of some ids that it holds, of any shape: int64."""
        return self._cells_at(self._places.of(ids))

    def read_ahead(self, cells: np.ndarray = EVERYTHING) -> None:
        """Have the kernel read cells of any shape that are about to be searched; -1 is none.

        Flat vectors are one cell.
        """
        if self._mapped:
            self._ahead.read(cells)

    @cached_property
    def _ahead(self) -> ReadAhead:
        if self._is_flat:
            flat = faiss.downcast_index(self.index.index)
            return ReadAhead(int(flat.get_xb()), np.array([flat.codes.size()]))
        first = int(np.argmax(self.cell_sizes > 0))
        return ReadAhead(int(self.index.invlists.get_codes(first)), self.cell_sizes * self.row_size)

    def batches(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Give all ids and vectors, some thousand at a time."""
        for start in range(0, len(self.ids), VECTORS_A_READ):
            places = np.arange(start, min(start + VECTORS_A_READ, len(self.ids)))
            yield self.ids[places], self._at(places)

    @cached_property
    def _places(self) -> IdPlaces:
        """The place of each id among the stored vectors."""
        return IdPlaces(self.ids)

    @cached_property
    def _ends(self) -> np.ndarray:
        """The place behind the last vector of each cell, (nlist,) int64."""
        return np.cumsum(self.cell_sizes)

    def _cells_at(self, places: np.ndarray) -> np.ndarray:
        """The cell of each place, of any shape."""
        return np.searchsorted(self._ends, places, side="right")

    def _at(self, places: np.ndarray) -> np.ndarray:
        """The (m, d) float32 vectors by their (m,) places in ids."""
        if self._is_flat:
            codes = faiss.downcast_index(self.index.index).get_xb()
            n = int(self.index.ntotal)
            return np.array(faiss.rev_swig_ptr(codes, n * self.d).reshape(n, self.d)[places])
        lists, centres = self.index.invlists, self.quantizer
        cell_of = self._cells_at(places)
        vectors = np.empty((len(places), self.d), np.float32)
        for cell in np.unique(cell_of):
            size, mine = lists.list_size(int(cell)), cell_of == cell
            codes = faiss.rev_swig_ptr(lists.get_codes(int(cell)), size * 2 * self.d)
            halves = codes.view(np.float16).reshape(size, self.d)
            vectors[mine] = halves[places[mine] - (self._ends[cell] - size)]
            if self.index.by_residual:
                # into an array of ours: others' imports make FAISS return torch's by default
                vectors[mine] += centres.reconstruct(int(cell), np.empty(self.d, np.float32))
        return vectors

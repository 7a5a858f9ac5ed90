"""Cells of a mapped index are read from the disk before they are searched.

FAISS maps a file as one that is read at random. So each page of a cell that is not in memory yet is
read alone, after a fault of its own; the kernel reads a whole cell at once if it is told to.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable
from typing import cast

import numpy as np

from retrieval.sorted_ids import distinct

MOST_AHEAD = 1 << 28  # bytes a search; what is asked for beyond might push out what is needed now
PIECE = 1 << 17  # bytes that Linux reads at once by default; it passes by the rest of a longer one
PAGE = mmap.PAGESIZE


class ReadAhead:
    """Cells that lie one behind the other in mapped memory. Each is asked for once.

    start: the address of the first. sizes: (nlist,) int64, the bytes of each.
    """

    def __init__(self, start: int, sizes: np.ndarray) -> None:
        ends = start + np.cumsum(sizes)
        self._starts = (ends - sizes) // PAGE * PAGE
        self._bytes = ends - self._starts
        self._asked = sizes == 0
        self._advise = _madvise()

    def read(self, cells: np.ndarray) -> None:
        """Have the kernel read some cells, of any shape; -1 stands for none."""
        new = cells[cells >= 0]
        new = new[~self._asked[new]]
        if self._advise is None or not len(new):
            return
        new = distinct(new)
        sizes = self._bytes[new]
        new = new[np.cumsum(sizes) - sizes < MOST_AHEAD]
        self._asked[new] = True
        for start, size in zip(self._starts[new].tolist(), self._bytes[new].tolist(), strict=True):
            for place in range(start, start + size, PIECE):
                self._advise(place, min(PIECE, start + size - place), mmap.MADV_WILLNEED)


def _madvise() -> Callable[[int, int, int], int] | None:
    """The C library's function, where there is one; Python's own takes only maps of Python."""
    if not hasattr(mmap, "MADV_WILLNEED"):  # Windows
        return None
    advise = ctypes.CDLL(None).madvise
    advise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    advise.restype = ctypes.c_int
    return cast("Callable[[int, int, int], int]", advise)

"""How many bytes an index takes as a file: of one in memory exactly, of one to be built nearly."""

from __future__ import annotations

from typing import Any

import faiss

from retrieval.index.cells import cells_for

WRITTEN_AT_ONCE = 1 << 22  # bytes
STORED_ID_BYTES = 8
FEW_BYTES = 1 << 10  # that FAISS writes before all else


def size_as_file(index: Any) -> int:
    """Return the bytes that FAISS writes of an index, which takes a copy of each once."""
    total = 0

    def count(part: bytes) -> int:
        nonlocal total
        total += len(part)
        return len(part)

    faiss.write_index(index, faiss.PyCallbackIOWriter(count, WRITTEN_AT_ONCE))
    return total


def size_of_new(n: int, d_in: int, d_out: int, *, kind: str, maps: bool) -> int:
    """Return about the bytes of an index of n vectors; see Index.build().

    maps: whether a matrix comes before it.
    """
    head = FEW_BYTES + (4 * (d_in + 1) * d_out if maps else 0)
    if kind == "exact":
        return head + n * (4 * d_out + STORED_ID_BYTES)
    return head + cells_for(n) * (2 * d_out + 8) + n * (2 * d_out + STORED_ID_BYTES)

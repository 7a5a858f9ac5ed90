"""Raw embeddings of some rows of galleries: in memory, or of many in a scratch file.

A table gives single rows slowly (3 ms each), and the float16 embeddings of a million images are
2.6 GB. So those of many are copied once, in the order in which they are stored, to a file that
has no name and is gone with the process.
"""

from __future__ import annotations

import mmap
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from typing import IO, Protocol

import numpy as np

from retrieval.errors import GalleryError
from retrieval.retriever.duplicates.stored import StoredImages

PAGED_ROWS = 512
SPARE_BYTES = 1 << 28  # of the disk, left to others


class RawEmbeddings(Protocol):
    """Raw embeddings by place, (n, d) float16."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of rows, and their width."""

    def __getitem__(self, places: np.ndarray, /) -> np.ndarray:
        """Return (m, d) float16 of (m,) places."""


def read_embeddings(parts: Sequence[StoredImages]) -> np.ndarray:
    """Read the embeddings of all images of one or two galleries, in their order."""
    n = sum(len(part.images) for part in parts)
    embeddings = np.empty((n, parts[0].table.dim), np.float16)
    for places, vectors in _in_stored_order(parts):
        embeddings[places] = vectors
    return embeddings


class ScratchEmbeddings:
    """Embeddings in a file without a name. slots: (n,) int64, where in it each image's lies."""

    def __init__(self, file: IO[bytes], slots: np.ndarray, dim: int) -> None:
        self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._rows = np.frombuffer(self._map, np.float16).reshape(-1, dim)
        self._slots = slots

    @classmethod
    def copy(cls, parts: Sequence[StoredImages]) -> ScratchEmbeddings:
        """Copy those of images of one or two galleries. Raises GalleryError without room for it."""
        n, dim = sum(len(part.images) for part in parts), parts[0].table.dim
        folder, need = tempfile.gettempdir(), 2 * n * dim
        if shutil.disk_usage(folder).free < need + SPARE_BYTES:
            raise GalleryError(
                f"Comparing {n:,} images takes {need / 1e9:.1f} GB of scratch space, and {folder} "
                "has less. Free some, or set TMPDIR to another folder."
            )
        slots, written = np.empty(n, np.int64), 0
        with tempfile.TemporaryFile(dir=folder) as file:
            for places, vectors in _in_stored_order(parts):
                file.write(np.ascontiguousarray(vectors, np.float16).data)
                slots[places] = np.arange(written, written + len(places))
                written += len(places)
            file.flush()
            return cls(file, slots, dim)

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of rows, and their width."""
        return len(self._slots), self._rows.shape[1]

    def __getitem__(self, places: np.ndarray) -> np.ndarray:
        """Read (m, d) float16 of (m,) places; the file's pages do not stay in the process."""
        found = np.empty((len(places), self.shape[1]), np.float16)
        for start in range(0, len(places), PAGED_ROWS):
            part = slice(start, start + PAGED_ROWS)
            found[part] = self._rows[self._slots[places[part]]]
            if hasattr(self._map, "madvise"):
                self._map.madvise(mmap.MADV_DONTNEED)
        return found


def unit_rows(embeddings: np.ndarray) -> np.ndarray:
    """Scale (n, d) embeddings to unit length, float32."""
    x = embeddings.astype(np.float32)
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def _in_stored_order(parts: Sequence[StoredImages]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Places among all images, and their (m, d) float16 embeddings, as the tables hold them."""
    before = 0
    for part in parts:
        order = np.argsort(part.rows, kind="stable")
        blocks = part.table.blocks_of(part.rows[order], "embedding") if len(order) else ()
        for place, rows, block in blocks:
            yield before + order[place], block.embeddings[rows]
        before += len(part.images)

"""The usable rows of a gallery as images to evaluate; the embeddings of many stay on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import overload

import numpy as np

from retrieval.evaluation.protocols import Images, content_codes
from retrieval.gallery import Gallery, ImageTable
from retrieval.gallery.filter import INDEXED

HELD_BYTES = 1 << 28  # of embeddings, in memory
ROWS_READ = 16_384  # at a time


class StoredEmbeddings:
    """Raw embeddings of a table, (n, d) float16, each time read anew; that version stays till then.

    offsets: (n,) places of the rows in the table.
    """

    def __init__(self, table: ImageTable, offsets: np.ndarray) -> None:
        self._table = table
        self._lease = table.lease()
        self._offsets = offsets

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of rows, and their width."""
        return len(self), self._table.dim

    def __len__(self) -> int:
        return len(self._offsets)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Read (m,) rows. Raises GalleryError where the table is damaged."""
        return self._table.embeddings_at(self._offsets[rows])

    def held(self) -> np.ndarray:
        """Read all rows into memory."""
        embeddings = np.empty(self.shape, np.float16)
        for start in range(0, len(self), ROWS_READ):
            part = slice(start, start + ROWS_READ)
            embeddings[part] = self._table.embeddings_at(self._offsets[part])
        return embeddings


class StoredPaths(Sequence[Path]):
    """The paths of a gallery's rows, made of what is stored when one is asked for."""

    def __init__(self, gallery: Gallery, stored: Sequence[str]) -> None:
        self._gallery = gallery
        self._stored = stored

    def __len__(self) -> int:
        return len(self._stored)

    @overload
    def __getitem__(self, row: int) -> Path: ...
    @overload
    def __getitem__(self, row: slice) -> list[Path]: ...
    def __getitem__(self, row: int | slice) -> Path | list[Path]:
        """Return the full path of a row. Raises GalleryError if it leaves the gallery's folder."""
        if isinstance(row, slice):
            return [self[i] for i in range(*row.indices(len(self)))]
        return self._gallery.full(self._stored[int(row)])


def read_images(gallery: Gallery, table: ImageTable, *, held: int = HELD_BYTES) -> Images:
    """Read all usable rows of a gallery with their raw embeddings, float16.

    held: bytes of embeddings that are held in memory; more are read when they are needed.
    """
    table.check_finite()
    offsets = np.empty(table.count(INDEXED), np.int64)
    labels = np.empty(len(offsets), object)
    contents = np.empty(len(offsets), np.int64)
    known: dict[str, str] = {}  # one string for all rows of a label
    n = before = 0
    for block in table.blocks("label", "sha256", "error", where=None):
        usable = np.flatnonzero(~block.failed)
        part = slice(n, n + len(usable))
        kept = block.at(usable)
        offsets[part] = before + usable
        contents[part] = content_codes(kept.contents)
        texts = (label or "" for label in kept.labels)
        labels[part] = [known.setdefault(text, text) for text in texts]
        n, before = part.stop, before + len(block)
    stored = StoredEmbeddings(table, offsets)
    few = len(offsets) * table.dim * np.dtype(np.float16).itemsize <= held
    return Images(
        stored.held() if few else stored,
        labels,
        contents,
        StoredPaths(gallery, table.block("path", where=INDEXED).path_texts),
    )

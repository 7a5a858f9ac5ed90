"""The rows of a gallery as they are written to Milvus."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from retrieval.errors import GalleryError
from retrieval.gallery import Column, Gallery, ImageTable
from retrieval.gallery.filter import INDEXED
from retrieval.index import GrowingIndex
from retrieval.milvus.changes import RowSums
from retrieval.milvus.collection import VECTOR
from retrieval.milvus.server import LONGEST_STORED
from retrieval.milvus.transform import StoredTransform
from retrieval.sorted_ids import IdPlaces

BYTES_A_CALL, BYTES_A_ROW = 8 << 20, 600  # without the vector
SHARE_READ, ROWS_TOGETHER = 0.2, 4096  # of all rows; fewer are read alone, so many at a time
COLUMNS: tuple[Column, ...] = (
    "id", "path", "label", "sha256", "size", "mtime_ns", "width", "height", "checksum"
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class PublishedRows:
    """The usable rows of one version, with their vectors.

    augmented: the index of that version where its vectors are others than the transformed
    embeddings, else None. spec, fitted_on: of its transform. weights: SHA-256 of the backbone's.
    """

    gallery: Gallery
    table: ImageTable
    transform: StoredTransform
    spec: str
    fitted_on: int
    weights: str
    augmented: GrowingIndex | None = None

    @property
    def identity(self) -> str:
        """What a collection is of: other vectors have another one, and no vectors, too."""
        if not self.table.count(INDEXED):
            return f"{self.table.name} emptied"
        of = f"{self.table.name} {self.transform.sha256}"
        return of if self.augmented is None else f"{of} augmented {self.table.version}"

    def sums(self) -> RowSums:
        """Return the ids and checksums."""
        return _sums(self.table)

    def sums_at(self, version: int) -> RowSums | None:
        """Return those of an earlier version; None where it is not there any more."""
        if version >= self.table.version:
            return self.sums() if version == self.table.version else None
        try:
            return _sums(self.gallery.open_table(version))
        except GalleryError:
            return None

    def vectors(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Give (n,) int64 ids and (n, d_out) float32 vectors of all rows, in batches."""
        for ids, embeddings in self.table.embeddings():
            yield ids, self._vectors_of(ids, embeddings)

    def batches(self, ids: np.ndarray) -> Iterator[list[dict[str, Any]]]:
        """Give the rows of (n,) ids as Milvus takes them. Raises GalleryError for a long text."""
        step = max(1, BYTES_A_CALL // (BYTES_A_ROW + 4 * self.transform.d_out))
        for rows, embeddings in self._read(ids):
            for start in range(0, len(rows), step):
                part = slice(start, start + step)
                yield self._as_stored(rows[part], embeddings[part])

    def _read(self, ids: np.ndarray) -> Iterator[tuple[list[dict[str, Any]], np.ndarray]]:
        """The rows of ids with their (n, d_in) embeddings, in batches; few are read alone."""
        if len(ids) < SHARE_READ * self.table.count():
            places = IdPlaces(self.table.ids()).of(ids)
            for start in range(0, len(places), ROWS_TOGETHER):
                part = places[start : start + ROWS_TOGETHER]
                yield self.table.take(part.tolist(), COLUMNS), self.table.embeddings_at(part)
            return
        places = np.flatnonzero(np.isin(self.table.ids(INDEXED), ids))
        for _, inside, block in self.table.blocks_of(places, *COLUMNS, "embedding"):
            wanted = block.at(inside)
            yield wanted.as_dicts_of(*COLUMNS), wanted.embeddings

    def _vectors_of(self, ids: np.ndarray, embeddings: np.ndarray) -> np.ndarray:
        if self.augmented is not None:
            return self.augmented.vectors(ids)
        return self.transform.apply(embeddings)

    def _as_stored(
        self, rows: list[dict[str, Any]], embeddings: np.ndarray
    ) -> list[dict[str, Any]]:
        """Rows with what Milvus holds in place of NULL, and their vectors."""
        vectors = self._vectors_of(np.array([row["id"] for row in rows], np.int64), embeddings)
        for row, vector in zip(rows, vectors, strict=True):
            row["has_label"] = row["label"] is not None
            row["label"] = row["label"] or ""
            row[VECTOR] = vector
            for name in ("path", "label"):
                if len(row[name].encode()) > LONGEST_STORED:
                    raise GalleryError(
                        f"The {name} of {row['path'][:80]} in {self.gallery.path} is longer than "
                        f"the {LONGEST_STORED:,} bytes that Milvus stores. Shorten it."
                    )
        return rows


def _sums(table: ImageTable) -> RowSums:
    block = table.block("id", "checksum", where=INDEXED)
    return RowSums.of(block.ids, block.checksums)

"""Neighbours by the index of FAISS in a gallery's folder, and the rows of the same version."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np

from retrieval.gallery import Filter, ImageTable
from retrieval.index import Allowed, GrowingIndex, ReadVectors
from retrieval.retriever.row_vectors import RowVectors
from retrieval.retriever.snapshot import Snapshot
from retrieval.sorted_ids import distinct, vectors_of_each

FILTERS_KEPT = 4
FEW_VECTORS = 32  # a row alone takes Lance 3 ms


class FileNeighbours:
    """The published index of a gallery. faiss: the index itself.

    row_vectors: where the rows of its version stand. augmented: whether its vectors are others than
    those of the rows.
    """

    def __init__(
        self, faiss: GrowingIndex, table: ImageTable, row_vectors: RowVectors, *, augmented: bool
    ) -> None:
        self.faiss = faiss
        self._table = table
        self._row_vectors = row_vectors
        self._few_vectors = None if augmented else row_vectors.of
        # remembered, since the rows of a version do not change; without self, which it would keep
        allowed = partial(_allowed, table, faiss, self._few_vectors)
        self._allowed = lru_cache(FILTERS_KEPT)(allowed)

    @property
    def ntotal(self) -> int:
        """The number of images."""
        return self.faiss.ntotal

    @property
    def most(self) -> int:
        """The most neighbours that one search gives: all."""
        return self.faiss.ntotal

    @property
    def d_in(self) -> int:
        """The width of a raw embedding."""
        return self.faiss.d_in

    @property
    def d_out(self) -> int:
        """The width of a transformed embedding."""
        return self.faiss.d_out

    def transform(self, embeddings: np.ndarray) -> np.ndarray:
        """Transform (n, d_in) raw embeddings to (n, d_out) float32 of unit length."""
        return self.faiss.transform(embeddings)

    def search(
        self,
        vectors: np.ndarray,
        k: int,
        *,
        where: Filter | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Find the k nearest of (q, d_out) vectors; see Neighbours.search()."""
        allowed = None if where is None else self._allowed(where)
        return self.faiss.search_vectors(vectors, k, allowed=allowed)

    def vectors(self, ids: np.ndarray) -> np.ndarray:
        """Return the transformed vectors of ids of any shape, (..., d_out); zeros for id -1.

        Those of few images of an index with cells come from their rows: its own ids lie scattered
        in its file, which would be read whole for them.
        """
        few = self._few_vectors
        if few is None or self.faiss.finds_vectors or len(distinct(np.ravel(ids))) > FEW_VECTORS:
            return self.faiss.vectors(ids)
        return vectors_of_each(ids, self.d_out, few)

    def rows(self, ids: np.ndarray, columns: Sequence[str]) -> list[dict[str, Any]]:
        """Return some columns of (n,) ids, in their order. Raises GalleryError for one unknown."""
        places = self._row_vectors.places_of(ids)
        return self._table.take(places.tolist(), columns) if len(ids) else []


def faiss_of(state: Snapshot) -> GrowingIndex | None:
    """Return the index of FAISS that a state searches; None where a server does."""
    return state.index.faiss if isinstance(state.index, FileNeighbours) else None


def _allowed(
    table: ImageTable, index: GrowingIndex, read: ReadVectors | None, where: Filter
) -> Allowed:
    """Whatever passes a filter, ready to be searched among."""
    return index.allow(table.ids_passing(where), read)

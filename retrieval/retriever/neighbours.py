"""What a search needs of an index, whoever holds it: a file of FAISS, or a server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from retrieval.gallery import Filter


class Neighbours(Protocol):
    """The indexed images of one published state, searched by transformed vectors.

    Any number of threads may share one.
    """

    @property
    def ntotal(self) -> int:
        """The number of images."""

    @property
    def most(self) -> int:
        """The most neighbours that one search gives."""

    @property
    def d_in(self) -> int:
        """The width of a raw embedding."""

    @property
    def d_out(self) -> int:
        """The width of a transformed embedding."""

    def transform(self, embeddings: np.ndarray) -> np.ndarray:
        """Transform (n, d_in) raw embeddings to (n, d_out) float32 of unit length."""

    def search(
        self,
        vectors: np.ndarray,
        k: int,
        *,
        where: Filter | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Find the k nearest of (q, d_out) transformed vectors, best first.

        where: which images to search among. Returns (q, k) float32 cosine similarities and (q, k)
        int64 ids, padded with -inf and -1 where fewer than k pass. Raises FilterError for a filter
        that cannot be used.
        """

    def vectors(self, ids: np.ndarray) -> np.ndarray:
        """Return the transformed vectors of ids of any shape, (..., d_out); zeros for id -1."""

    def rows(self, ids: np.ndarray, columns: Sequence[str]) -> list[dict[str, Any]]:
        """Return some of the columns path, label and sha256 of distinct (n,) ids, in their order.

        Raises GalleryError for an id that is not there any more.
        """

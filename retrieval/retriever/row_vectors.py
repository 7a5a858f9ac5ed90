"""Transformed vectors of a few rows, made from their embeddings instead of read from the index."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import numpy as np

from retrieval.errors import GalleryError
from retrieval.gallery import ImageTable
from retrieval.sorted_ids import IdPlaces

ASKED_FIRST = 4  # times, before all ids are read once and kept


class RowVectors:
    """Where the rows of one version of a gallery stand, and their vectors.

    path: of the gallery. transform: raw embeddings -> vectors.
    """

    def __init__(
        self, path: Path, table: ImageTable, transform: Callable[[np.ndarray], np.ndarray]
    ) -> None:
        self._path = path
        self._table = table
        self._transform = transform
        self._asked = 0

    @cached_property
    def _places(self) -> IdPlaces:
        return IdPlaces(self._table.ids())

    def found(self, ids: np.ndarray) -> np.ndarray:
        """Return the places of (n,) ids in the table's columns, -1 for one unknown."""
        return self._places.of(ids)

    def places_of(self, ids: np.ndarray) -> np.ndarray:
        """Return the places of ids in the table's columns. Raises GalleryError for one unknown."""
        self._asked += 1
        few = self._table.places_of_few(ids) if self._asked <= ASKED_FIRST else None
        if few is not None:
            return few
        places = self._places.of(ids)
        if (places < 0).any():
            raise GalleryError(
                f"The index of {self._path} names rows that do not exist. "
                "Run `imgret verify --repair`."
            )
        return places

    def of(self, ids: np.ndarray) -> np.ndarray:
        """Return the (n, d_out) float32 vectors of (n,) ids of usable rows."""
        return self._transform(self._table.embeddings_at(self.places_of(ids)))

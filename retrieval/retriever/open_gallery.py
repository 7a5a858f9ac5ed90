"""One published state of a gallery, held open for several questions that belong together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from retrieval.arguments import whole
from retrieval.encoder import Encoder, normalise
from retrieval.errors import ArgumentError, QueryError
from retrieval.gallery import FileIdentity, Filter, Settings, storable
from retrieval.refinement import Refinement
from retrieval.retriever.facets import Facets, facets_of
from retrieval.retriever.image_list import ImageOrder, ImagePage, page_of
from retrieval.retriever.originals import GalleryImage, images_of, read_original
from retrieval.retriever.results import Filters, Match, checked_filters
from retrieval.retriever.snapshot import Snapshot
from retrieval.retriever.vectors import as_embeddings, fitting, unit_embeddings

MOST_LISTED = 1000


class OpenGallery:
    """Rows, index and encoder of one version, from Retriever.open().

    state: what is searched. encoder: what embeds queries. version: a text that changes with every
    change of the gallery. Several threads may share one.
    """

    def __init__(self, state: Snapshot, encoder: Encoder, settings: Settings) -> None:
        self.state = state
        self.encoder = encoder
        self.version = state.version
        self._settings = settings

    def encode(self, pixels: np.ndarray) -> np.ndarray:
        """Embed decoded pictures: (n, size, size, 3) uint8 -> (n, d) float32 of unit length."""
        most = self.encoder.batch_size
        parts = [self.encoder.encode(pixels[i : i + most]) for i in range(0, len(pixels), most)]
        return np.concatenate(parts)

    def as_queries(self, embeddings: Any) -> np.ndarray:
        """Check embeddings of others: (n, d) float32 of unit length. Raises QueryError."""
        return unit_embeddings(fitting(as_embeddings(embeddings), self.state.table.dim))

    def embeddings_of(self, ids: Sequence[int]) -> np.ndarray:
        """Return stored embeddings, (n, d) float32 of unit length, without reading a picture.

        Raises QueryError for an id that no image has.
        """
        there = self.images(ids)
        for each in ids:
            if each not in there:
                raise QueryError(f"No image has the id {each}. Use one that a search has given.")
        return normalise(self.state.embeddings_at(np.array(ids, np.int64)))

    def copies_of(self, sha256: str, size: int) -> np.ndarray:
        """Return the (n,) int64 ids of the images of a content, by its hash and its bytes."""
        return self.state.table.ids_of_files([FileIdentity("", size, sha256)])[0]

    def ids_of_paths(self, paths: Sequence[Path]) -> list[int | None]:
        """Return the id of the image at each path, None where it is not one of the gallery."""
        stored = [storable(self.state.gallery.stored(path)) for path in paths]
        found = self.state.table.ids_of_files([FileIdentity(path, -1, "") for path in stored])
        return [int(ids[0]) if len(ids) else None for ids in found]

    def search(
        self,
        embeddings: np.ndarray,
        k: int,
        *,
        excluded: Sequence[np.ndarray] | None = None,
        expand: str | None = None,
        rerank: str | None = None,
        **filters: Unpack[Filters],
    ) -> list[list[Match]]:
        """Find the k images nearest to each of (n, d) unit embeddings, best first.

        excluded: for each, the ids that are not its matches. expand, rerank: specs, by default
        the gallery's. Raises ArgumentError for a wrong argument.
        """
        own = self._settings
        refinement = Refinement.of(expand or own.expand, own.augment, rerank or own.rerank)
        return self.state.search(
            embeddings, whole("k", k), excluded=excluded, refinement=refinement,
            **checked_filters(filters),
        )  # fmt: skip

    def images(self, ids: Sequence[int] | np.ndarray) -> Mapping[int, GalleryImage]:
        """Return what is known of images, by id; of an id that no image has, nothing."""
        return images_of(self.state, np.asarray(ids, np.int64))

    def image(self, id: int) -> GalleryImage | None:
        """Return what is known of one image, None where there is none."""
        return self.images([id]).get(id)

    def original(self, image: GalleryImage) -> bytes:
        """Read the file of an image, if it is what was indexed. Raises ImageError."""
        return read_original(self.state, image)

    def page(
        self,
        limit: int = 100,
        *,
        order: ImageOrder = "id",
        descending: bool = False,
        where: str | Filter | None = None,
        after: str | None = None,
    ) -> ImagePage:
        """List images in an order, from the one that `after`, a page's `next`, stands for.

        Raises ArgumentError for another text, and FilterError.
        """
        limit = whole("limit", limit, most=MOST_LISTED)
        return page_of(
            self.state, Filter.of(where), order, descending=descending, after=after, limit=limit
        )

    def facets(self, where: str | Filter | None = None) -> Facets:
        """Count the images that pass a filter by label, folder and month. Raises FilterError."""
        return facets_of(self.state, Filter.of(where))


def combined(
    query: np.ndarray | None, examples: np.ndarray, weights: Sequence[float]
) -> np.ndarray:
    """Move a query towards examples and away from others (Rocchio 1971), and scale it to 1.

    query: (d,) float32 of unit length, or None. examples: (n, d), too. weights: (n,), below 0 for
    what is to be less alike. Raises ArgumentError where nothing is left.
    """
    total = np.zeros(examples.shape[1], np.float64) if query is None else query.astype(np.float64)
    total = total + np.asarray(weights, np.float64) @ examples
    if np.linalg.norm(total) < 1e-6:
        raise ArgumentError(
            "The examples cancel each other out, so nothing is left to search by. Give other "
            "examples or weights."
        )
    return normalise(total[None])[0]

"""One published state of a gallery, held open for several questions that belong together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from retrieval.arguments import whole
from retrieval.encoder import Encoder, normalise
from retrieval.errors import ArgumentError, QueryError
from retrieval.gallery import Filter, Settings, storable
from retrieval.progress import Progress
from retrieval.refinement import Refinement
from retrieval.retriever.clusters import (
    ClusterOrder,
    ClusterPage,
    order_by_clusters,
    page_of_clusters,
    passing_order,
)
from retrieval.retriever.facets import Facets, facets_of
from retrieval.retriever.image_list import ImageOrder, ImagePage, page_of
from retrieval.retriever.left_out import LeftOut
from retrieval.retriever.originals import GalleryImage, images_of, read_original
from retrieval.retriever.results import Filters, Match, checked_filters
from retrieval.retriever.snapshot import Snapshot
from retrieval.retriever.vectors import as_embeddings, fitting, unit_embeddings
from retrieval.words import MEASURED_K, MOST_ON_MAP, MOST_QUERIES, VOTERS, Tier

if TYPE_CHECKING:  # a method imports what it alone needs, so that a search starts soon
    from retrieval.evaluation import Evaluation
    from retrieval.retriever.duplicates import DuplicateReport
    from retrieval.retriever.map import GalleryMap
    from retrieval.retriever.reports import GalleryInfo

MOST_LISTED = 1000


class OpenGallery:
    """Rows, index and encoder of one version, from Retriever.open().

    state: what is searched. encoder: what embeds queries. version: a text that changes with every
    change of the gallery. stored: gives what the gallery's folder has published, where a server is
    searched instead. Several threads may share one.
    """

    def __init__(
        self,
        state: Snapshot,
        encoder: Encoder,
        settings: Settings,
        stored: Callable[[], Snapshot] | None = None,
    ) -> None:
        self.state = state
        self.encoder = encoder
        self.version = state.version
        self._settings = settings
        self._stored = stored or (lambda: state)

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

    def copies_of(self, sizes: Mapping[str, int]) -> dict[str, list[int]]:
        """Return the rising ids of the images of some contents, by SHA-256; sizes: in bytes."""
        return self.state.table.ids_of_contents(sizes)

    def ids_of_paths(self, paths: Sequence[Path]) -> list[int | None]:
        """Return the id of the image at each path, None where it is not one of the gallery."""
        stored = [storable(self.state.gallery.stored(path)) for path in paths]
        found = self.state.table.ids_of_paths(stored)
        return [found.get(path) for path in stored]

    def search(
        self,
        embeddings: np.ndarray,
        k: int,
        *,
        excluded: Sequence[LeftOut] | None = None,
        expand: str | None = None,
        rerank: str | None = None,
        **filters: Unpack[Filters],
    ) -> list[list[Match]]:
        """Find the k images nearest to each of (n, d) unit embeddings, best first.

        excluded: for each, what is not its match. expand, rerank: specs, by default
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
        """Count the images that pass a filter by label, folder, month and size.

        Raises FilterError.
        """
        return facets_of(self.state, Filter.of(where))

    def clusters(self, progress: Progress | None = None) -> ClusterOrder:
        """Order all images by clusters of those that look alike; seconds for 100,000 images."""
        return order_by_clusters(self.state, progress)

    def page_of_clusters(
        self,
        order: ClusterOrder,
        limit: int = 100,
        *,
        start: int = 0,
        descending: bool = False,
        where: str | Filter | None = None,
    ) -> ClusterPage:
        """List images in an order of clusters() of this version, from the place start on.

        Raises ArgumentError for a place that the list does not have, and FilterError.
        """
        limit = whole("limit", limit, most=MOST_LISTED)
        passing = passing_order(self.state, order, Filter.of(where))
        return page_of_clusters(
            self.state, passing.reversed() if descending else passing, start, limit
        )

    def info(self) -> GalleryInfo:
        """Describe this version in figures, as Retriever.info() does the newest rows."""
        from retrieval.retriever.info import describe_state

        return replace(describe_state(self._stored()), state=self.version)

    def map(self, progress: Progress | None = None) -> GalleryMap:
        """Do what Retriever.map() does, for this version."""
        from retrieval.retriever.map import MapAsked, map_gallery

        return map_gallery(self._stored(), MapAsked.of("tsne", MOST_ON_MAP, None, 0), progress)

    def duplicates(
        self, tier: Tier = "similar", progress: Progress | None = None
    ) -> DuplicateReport:
        """Do what Retriever.duplicates() does, for this version."""
        from retrieval.images import DEFAULT_MAX_PIXELS
        from retrieval.retriever.duplicates.groups import find_duplicates

        state = self._stored()
        return find_duplicates(
            state.gallery, tier=tier, state=state, max_pixels=DEFAULT_MAX_PIXELS,
            progress=progress,
        )  # fmt: skip

    def evaluate(self, progress: Progress | None = None) -> Evaluation:
        """Do what Retriever.evaluate() does by default, for this version; keep no calibration."""
        from retrieval.retriever import labelled

        state = self._stored()
        state.gallery.check_followable(state.table)
        measured = labelled.measured_of(MEASURED_K, VOTERS, MOST_QUERIES)
        return labelled.evaluate_gallery(
            state, self._settings, None, measured=measured, zero_shot=False,
            calibrate=False, prior_known=None, progress=progress,
        )  # fmt: skip


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

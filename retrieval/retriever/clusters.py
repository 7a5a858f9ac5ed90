"""An order to browse a gallery in: cluster by cluster of images that look alike.

k-means on a sample by mini-batches (Sculley 2010, "Web-scale k-means clustering"), and then each
image goes to the centre that it is nearest to. Unit vectors are near by their cosine, so the
centres are scaled to 1, too (Dhillon and Modha 2001, "Concept decompositions").
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from retrieval.draw import evenly_drawn
from retrieval.errors import ArgumentError
from retrieval.gallery import Filter
from retrieval.gallery.filter import INDEXED
from retrieval.plain import Plain
from retrieval.progress import Progress
from retrieval.retriever.originals import GalleryImage, images_of
from retrieval.retriever.snapshot import Snapshot

MOST_CLUSTERS = 256
SAMPLED_A_CLUSTER = 100  # images: more move a centre by little
MINI_BATCH, SEED = 2048, 0


@dataclass(frozen=True)
class ClusterOrder(Plain):
    """All usable images of a version: the largest cluster first, its most typical image first.

    ids: (n,) int64. numbers: (n,) int32, of the cluster of each, ascending from 0.
    """

    ids: np.ndarray
    numbers: np.ndarray

    def passing(self, ids: np.ndarray) -> ClusterOrder:
        """Return the order of those images alone that are among (m,) ids."""
        kept = np.isin(self.ids, ids)
        return ClusterOrder(self.ids[kept], self.numbers[kept])

    def reversed(self) -> ClusterOrder:
        """Return the last image first."""
        return ClusterOrder(self.ids[::-1], self.numbers[::-1])


@dataclass(frozen=True)
class ClusterStart(Plain):
    """The first image of a cluster in a list, and how many images of the cluster are listed."""

    first: int
    images: int


@dataclass(frozen=True)
class ClusterPage(Plain):
    """Some images by cluster. total: of the list. starts: of the clusters that begin here."""

    images: tuple[GalleryImage, ...]
    total: int
    starts: tuple[ClusterStart, ...]


def order_by_clusters(state: Snapshot, progress: Progress | None = None) -> ClusterOrder:
    """Cluster the indexed vectors of a version; the same rows give the same order.

    Holds a sample and 20 bytes an image: the others are read and assigned in blocks.
    """
    ids = np.sort(state.table.ids(INDEXED))
    if not len(ids):
        return ClusterOrder(ids, np.empty(0, np.int32))
    centres = _centres(state, ids, number_of_clusters(len(ids)), progress)
    numbers, likeness = np.zeros(len(ids), np.int32), np.full(len(ids), -1, np.float32)
    done = 0
    for found, embeddings in state.table.embeddings():
        scores = state.index.transform(embeddings) @ centres.T
        places = np.minimum(np.searchsorted(ids, found), len(ids) - 1)
        known = ids[places] == found
        best = scores.argmax(axis=1)
        numbers[places[known]] = best[known]
        likeness[places[known]] = scores[np.arange(len(best)), best][known]
        done += len(found)
        if progress:
            progress("clustering", done, len(ids))
    return _ordered(ids, numbers, likeness, len(centres))


def number_of_clusters(images: int) -> int:
    """Return the square root of half of the images (Mardia et al. 1979), at most MOST_CLUSTERS.

    So both grow alike, the clusters and their images; more than some hundred nobody looks through.

    >>> [number_of_clusters(n) for n in (1, 8, 5_000, 1_000_000)]
    [1, 2, 50, 256]
    """
    return max(1, min(MOST_CLUSTERS, math.isqrt(images // 2)))


def page_of_clusters(state: Snapshot, order: ClusterOrder, start: int, limit: int) -> ClusterPage:
    """Return the images of an order from a place on. Raises ArgumentError for one beyond it."""
    if not 0 <= start <= len(order.ids):
        raise ArgumentError("The list is not that long. Start from the first page.")
    ids, numbers = order.ids[start : start + limit], order.numbers[start : start + limit]
    before = order.numbers[start - 1] if start else -1
    begin = np.flatnonzero(np.diff(numbers, prepend=np.int32(before)))
    sizes = np.bincount(order.numbers) if len(order.ids) else np.empty(0, np.int64)
    known = images_of(state, ids)
    return ClusterPage(
        tuple(known[id] for id in ids.tolist() if id in known),
        len(order.ids),
        tuple(ClusterStart(int(ids[at]), int(sizes[numbers[at]])) for at in begin.tolist()),
    )


def passing_order(state: Snapshot, order: ClusterOrder, where: Filter | None) -> ClusterOrder:
    """Return the order of the images that pass a filter."""
    return order if where is None else order.passing(state.table.ids_passing(where))


def _centres(
    state: Snapshot, ids: np.ndarray, clusters: int, progress: Progress | None
) -> np.ndarray:
    """The (c, d) float32 centres of a sample, of unit length."""
    from sklearn.cluster import MiniBatchKMeans

    if progress:
        progress("clustering", 0, len(ids))
    drawn = evenly_drawn(len(ids), min(len(ids), SAMPLED_A_CLUSTER * clusters))
    sample = _vectors(state, ids[np.asarray(drawn)])
    fitted = MiniBatchKMeans(
        clusters, batch_size=MINI_BATCH, n_init=1, random_state=SEED, compute_labels=False
    ).fit(sample)
    centres = np.asarray(fitted.cluster_centers_, np.float32)
    lengths = np.linalg.norm(centres, axis=1, keepdims=True)
    return np.asarray(centres / np.maximum(lengths, 1e-12), np.float32)


def _vectors(state: Snapshot, ids: np.ndarray) -> np.ndarray:
    """The (n, d_out) float32 transformed vectors of (n,) sorted ids."""
    parts: Sequence[np.ndarray] = [
        state.index.transform(embeddings) for _, embeddings in state.table.embeddings(ids)
    ]
    return np.concatenate(parts)


def _ordered(
    ids: np.ndarray, numbers: np.ndarray, likeness: np.ndarray, clusters: int
) -> ClusterOrder:
    """The largest cluster first, in each the image first that is most like its centre."""
    sizes = np.bincount(numbers, minlength=clusters)
    rank = np.empty(clusters, np.int32)
    rank[np.argsort(-sizes, kind="stable")] = np.arange(clusters, dtype=np.int32)
    order = np.lexsort((ids, -likeness, rank[numbers]))
    return ClusterOrder(ids[order], rank[numbers][order])

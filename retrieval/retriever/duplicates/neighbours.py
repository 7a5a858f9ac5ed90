"""Raw embeddings -> for each image the others above a score, and its nearest.

Raw embeddings are compared, not the gallery's transformed ones (docs/decisions.md says why). Those
of up to LARGE_FROM images are held in an exact index; of more, an index names candidates
(candidates.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, TypeAlias

import numpy as np

from retrieval.index import Index
from retrieval.progress import Progress
from retrieval.retriever.duplicates.embeddings import RawEmbeddings
from retrieval.transform import Transform

Found: TypeAlias = Iterator[tuple[int, np.ndarray, np.ndarray]]

FIRST_K = 8
GROWTH = 4
SCORES_AT_ONCE = 1 << 22
ROWS_A_BLOCK = 4096


class NeighbourSearch(Protocol):
    """Some images, to be searched by images; an image is never its own neighbour.

    recall: the share of near-copies that an approximate search finds; None of an exact one.
    """

    recall: float | None

    def keep(self, places: np.ndarray) -> None:
        """Search only some of those that were searched before."""

    def down_to(self, places: np.ndarray, least: float | np.ndarray) -> Found:
        """Give, in no order, each image's row among places, its neighbours and their scores.

        least: one for all, or (q,). The nearest is always among them, though it may score less.
        """

    def nearest(self, places: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (q, k) float32 scores and int64 places of the k nearest, best first."""


class HeldNeighbours:
    """Neighbours by an index of the raw embeddings. searched: places of those in it."""

    recall: float | None = None

    def __init__(self, embeddings: RawEmbeddings, searched: np.ndarray) -> None:
        self._embeddings = embeddings
        self._index = index_of(embeddings, searched)

    def keep(self, places: np.ndarray) -> None:
        """Search only some of those that were searched before."""
        self._index.remove(np.setdiff1d(self._index.ids, places))

    def down_to(self, places: np.ndarray, least: float | np.ndarray) -> Found:
        """Do what NeighbourSearch says, by neighbours_down_to()."""
        queries = self._embeddings[places]
        for row, ids, scores in neighbours_down_to(self._index, queries, least):
            other = ids != places[row]
            yield row, ids[other], scores[other]

    def nearest(self, places: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (q, k) float32 scores and int64 places of the k nearest, best first."""
        scores, ids = self._index.search(self._embeddings[places], k + 1)
        itself = ids == places[:, None]
        itself[~itself.any(axis=1), -1] = True  # an equal vector was found in its place
        shape = len(places), k
        return scores[~itself].reshape(shape), ids[~itself].reshape(shape)


def index_of(
    embeddings: RawEmbeddings,
    places: np.ndarray,
    transform: Transform | None = None,
    progress: Progress | None = None,
) -> Index:
    """Build an index of some rows of (n, d) raw embeddings; their places are the ids.

    transform: of the rows; by default only their lengths are made equal.
    """

    def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for start in range(0, len(places), ROWS_A_BLOCK):
            part = places[start : start + ROWS_A_BLOCK]
            yield part, embeddings[part]

    transform = transform or Transform("none", embeddings.shape[1])
    return Index.build(transform, batches, len(places), progress=progress)


def neighbours_down_to(
    index: Index, embeddings: np.ndarray, least: float | np.ndarray
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Find all vectors that score `least` or more with each of (q, d) raw embeddings.

    least: one for all, or (q,).

    Yields, in no order, each query's row, the (m,) int64 ids and their (m,) float32 scores, best
    first; the last of them may score less, so that the nearest is always among them. Searches for
    ever more neighbours where all that were found score enough, so memory is that of one query's
    answer, or of SCORES_AT_ONCE scores.
    """
    rows, k = np.arange(len(embeddings)), FIRST_K
    down_to = np.broadcast_to(least, len(embeddings))
    while len(rows):
        k = min(k, max(index.ntotal, 1))
        step = max(1, SCORES_AT_ONCE // k)
        unfinished = []
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            scores, ids = index.search(embeddings[part], k)
            more = (scores[:, -1] >= down_to[part]) & (k < index.ntotal)
            for row, found, near in zip(part[~more], ids[~more], scores[~more], strict=True):
                yield int(row), found[found >= 0], near[found >= 0]
            unfinished.append(part[more])
        rows, k = np.concatenate(unfinished), k * GROWTH

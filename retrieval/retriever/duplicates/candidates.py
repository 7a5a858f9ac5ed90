"""Neighbours among many images: candidates by the gallery's index, verified by raw embeddings.

The index finds what is near in the transformed space, in the nearest of its cells. Each pair that
it names is decided by the cosine similarity of the raw embeddings, so what is found is right, and
a pair that it does not name is missed (docs/decisions.md tells how many).
"""

from __future__ import annotations

import numpy as np

from retrieval.index import GrowingIndex
from retrieval.progress import Progress
from retrieval.retriever.duplicates.embeddings import RawEmbeddings, unit_rows
from retrieval.retriever.duplicates.neighbours import GROWTH, Found
from retrieval.sorted_ids import IdPlaces

CANDIDATES = 34  # that are held against each image
REMEMBERED = 24  # of them, the nearest
SPARE = 2  # candidates a neighbour wanted
NEAR_IN_INDEX = 0.7  # scores of transformed vectors; of what is less near any will do
QUERIES_A_BLOCK = 2048
VERIFIED_AT_ONCE = 1 << 11


class IndexedNeighbours:
    """Neighbours of images by a gallery's index.

    embeddings: of all n images. ids: (n,) int64, of their rows in the index; of those that are not
    in it anything. searched: places of those in it. asked: places of all that will be asked for;
    their candidates are found at once, since those of one cell have most of them in common.
    """

    def __init__(
        self,
        index: GrowingIndex,
        embeddings: RawEmbeddings,
        ids: np.ndarray,
        searched: np.ndarray,
        asked: np.ndarray,
        progress: Progress | None = None,
    ) -> None:
        self._index, self._embeddings, self._ids = index, embeddings, ids
        self.keep(searched)
        self._row = np.full(len(ids), -1, np.int32)
        self._row[asked] = np.arange(len(asked))
        # the last row is for images that were not asked for before
        self._near = np.full((len(asked) + 1, REMEMBERED), -1, np.int32)
        self._scores = np.full((len(asked) + 1, REMEMBERED), -np.inf, np.float32)
        done = 0
        for part in _blocks(self._by_cell(asked)):
            scores, near = self._found(part, CANDIDATES)
            rows, width = self._row[part], min(REMEMBERED, near.shape[1])
            self._near[rows, :width] = near[:, :width]
            self._scores[rows, :width] = scores[:, :width]
            done += len(part)
            if progress:
                progress("comparing", done, len(asked))

    def keep(self, places: np.ndarray) -> None:
        """Search only some of those that were searched before."""
        self._places, known = places, self._ids[places]
        self._at = IdPlaces(known)
        whole = len(places) == self._index.ntotal
        self._allowed = None if whole else self._index.allow(known)
        self._kept = np.zeros(len(self._ids) + 1, bool)  # the last for no place, -1
        self._kept[places] = True

    def down_to(self, places: np.ndarray, least: float | np.ndarray) -> Found:
        """Do what NeighbourSearch says; ever more candidates where most of them score enough."""
        down_to = np.broadcast_to(np.asarray(least, np.float32), len(places))
        scores, near = self._remembered(places)
        k, rows = CANDIDATES, np.arange(len(places))
        known = np.isfinite(scores).sum(axis=1)
        crowded = (scores >= down_to[:, None]).sum(axis=1) > known // 2
        crowded |= known == 0
        yield from _each(rows[~crowded], scores[~crowded], near[~crowded])
        rows = rows[crowded]
        while len(rows):
            k = min(k * GROWTH, len(self._places))
            unfinished = []
            for part in _blocks(rows, max(1, QUERIES_A_BLOCK * CANDIDATES // k)):
                scores, near = self._found(places[part], k)
                enough = (scores >= down_to[part, None]).sum(axis=1)
                more = (enough > k // 2) & (k < len(self._places))
                yield from _each(part[~more], scores[~more], near[~more])
                unfinished.append(part[more])
            rows = np.concatenate(unfinished)

    def nearest(self, places: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (q, k) float32 scores and int64 places of the k nearest, best first."""
        scores = np.full((len(places), k), -np.inf, np.float32)
        near = np.full((len(places), k), -1, np.int64)
        few = np.ones(len(places), bool)
        if k <= REMEMBERED:
            known, theirs = self._remembered(places)
            few = ~np.isfinite(known[:, k - 1])
            scores[~few], near[~few] = known[~few, :k], theirs[~few, :k]
        for part in _blocks(np.flatnonzero(few)):
            known, theirs = self._found(places[part], SPARE * (k + 1))
            width = min(k, known.shape[1])
            scores[part, :width], near[part, :width] = known[:, :width], theirs[:, :width]
        return scores, near

    def _remembered(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return what is known of some images: scores, and places that are still searched."""
        rows = self._row[places]
        near = self._near[rows].astype(np.int64)
        return _best_first(np.where(self._kept[near], self._scores[rows], -np.inf), near)

    def _found(self, places: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Hold some images against k candidates each: scores and places, best first."""
        embeddings = self._embeddings[places]
        vectors = self._index.transform(embeddings)
        _, ids = self._index.search_vectors(
            vectors, min(k, len(self._places)), allowed=self._allowed, least=NEAR_IN_INDEX
        )
        at = self._at.of(ids)
        near = np.where(at >= 0, self._places[at], -1)
        near[near == places[:, None]] = -1
        return _best_first(self._verified(unit_rows(embeddings), near), near)

    def _verified(self, queries: np.ndarray, near: np.ndarray) -> np.ndarray:
        """Cosine similarities of (q, d) unit queries and (q, k) places; -inf for -1."""
        flat = near.ravel()
        scores = np.full(len(flat), -np.inf, np.float32)
        for pairs in _blocks(np.flatnonzero(flat >= 0), VERIFIED_AT_ONCE):
            wanted, back = np.unique(flat[pairs], return_inverse=True)
            others = unit_rows(self._embeddings[wanted])
            asked = queries[pairs // near.shape[1]]
            scores[pairs] = np.einsum("nd,nd->n", asked, others[back])
        return scores.reshape(near.shape)

    def _by_cell(self, asked: np.ndarray) -> np.ndarray:
        """Images in the order in which the index holds them; last those that it does not hold."""
        at = IdPlaces(self._index.ids).of(self._ids[asked])
        held = (at >= 0) & self._kept[asked]
        return asked[np.argsort(np.where(held, at, len(self._ids)), kind="stable")]


def _blocks(places: np.ndarray, size: int = QUERIES_A_BLOCK) -> list[np.ndarray]:
    return [places[start : start + size] for start in range(0, len(places), size)]


def _best_first(scores: np.ndarray, near: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(-scores, axis=1, kind="stable")
    return np.take_along_axis(scores, order, 1), np.take_along_axis(near, order, 1)


def _each(rows: np.ndarray, scores: np.ndarray, near: np.ndarray) -> Found:
    for row, known, theirs in zip(rows.tolist(), scores, near, strict=True):
        there = np.isfinite(known)
        yield row, theirs[there], known[there]

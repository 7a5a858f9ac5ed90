"""Neighbours among many images: candidates by an index, verified by raw embeddings."""

from __future__ import annotations

import numpy as np

from retrieval.progress import Progress
from retrieval.retriever.duplicates.copies import chunks
from retrieval.retriever.duplicates.crowds import CANDIDATES_HELD, QUERIES_A_BLOCK, Crowds, each_of
from retrieval.retriever.duplicates.neighbours import Found
from retrieval.retriever.duplicates.verified import VerifiedCandidates, best_first

REMEMBERED = 24  # of the candidates that are held against an image, the nearest
SPARE = 2  # candidates a neighbour wanted


class IndexedNeighbours:
    """Neighbours of images by an index.

    asked: places of all that will be asked for; their candidates are found at once, since those of
    one cell have most of them in common. recall: the share of near-copies that candidates hold.
    """

    def __init__(
        self,
        candidates: VerifiedCandidates,
        asked: np.ndarray,
        progress: Progress | None = None,
        recall: float | None = None,
    ) -> None:
        self.recall = recall
        self._candidates, self._crowds = candidates, Crowds(candidates)
        self._row = np.full(len(candidates.ids), -1, np.int32)
        self._row[asked] = np.arange(len(asked))
        # the last row is for images that were not asked for before
        self._near = np.full((len(asked) + 1, REMEMBERED), -1, np.int32)
        self._scores = np.full((len(asked) + 1, REMEMBERED), -np.inf, np.float32)
        done = 0
        for part in chunks(candidates.in_stored_order(asked), QUERIES_A_BLOCK):
            scores, near = candidates.of(part, CANDIDATES_HELD)
            rows, width = self._row[part], min(REMEMBERED, near.shape[1])
            self._near[rows, :width] = near[:, :width]
            self._scores[rows, :width] = scores[:, :width]
            done += len(part)
            if progress:
                progress("comparing", done, len(asked))

    def keep(self, places: np.ndarray) -> None:
        """Search only some of those that were searched before."""
        self._candidates.keep(places)
        self._crowds.forget()

    def down_to(self, places: np.ndarray, least: float | np.ndarray) -> Found:
        """Do what NeighbourSearch says; where most candidates score enough, by crowds."""
        down_to = np.broadcast_to(np.asarray(least, np.float32), len(places))
        scores, near = self._remembered(places)
        known = np.isfinite(scores).sum(axis=1)
        crowded = (scores >= down_to[:, None]).sum(axis=1) > known // 2
        crowded |= known == 0
        yield from each_of(np.flatnonzero(~crowded), scores[~crowded], near[~crowded])
        rows = np.flatnonzero(crowded)
        for row, ids, found in self._crowds.down_to(places[rows], down_to[rows]):
            yield int(rows[row]), ids, found

    def nearest(self, places: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (q, k) float32 scores and int64 places of the k nearest, best first."""
        scores = np.full((len(places), k), -np.inf, np.float32)
        near = np.full((len(places), k), -1, np.int64)
        few = np.ones(len(places), bool)
        if k <= REMEMBERED:
            known, theirs = self._remembered(places)
            few = ~np.isfinite(known[:, k - 1])
            scores[~few], near[~few] = known[~few, :k], theirs[~few, :k]
        for part in chunks(np.flatnonzero(few), QUERIES_A_BLOCK):
            known, theirs = self._candidates.of(places[part], SPARE * (k + 1))
            width = min(k, known.shape[1])
            scores[part, :width], near[part, :width] = known[:, :width], theirs[:, :width]
        return scores, near

    def _remembered(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return what is known of some images: scores, and places that are still searched."""
        rows = self._row[places]
        near = self._near[rows].astype(np.int64)
        kept = self._candidates.are_kept(near)
        return best_first(np.where(kept, self._scores[rows], -np.inf), near)

"""Candidates for neighbours by an index, each verified by raw embeddings.

The index finds what is near in the transformed space, in the nearest of its cells. Each pair that
it names is decided by the cosine similarity of the raw embeddings, so what is found is right, and
a pair that it does not name is missed (sampled.py tells how many).
"""

from __future__ import annotations

import numpy as np

from retrieval.index import GrowingIndex
from retrieval.retriever.duplicates.copies import chunks
from retrieval.retriever.duplicates.embeddings import RawEmbeddings, unit_rows
from retrieval.sorted_ids import IdPlaces

NEAR_IN_INDEX = 0.7  # scores of transformed vectors; of what is less near any will do
VERIFIED_AT_ONCE = 1 << 11


class VerifiedCandidates:
    """What an index names among some images, and their scores.

    embeddings: of all n images. ids: (n,) int64, of their rows in the index; of those that are not
    in it anything. searched: places of those in it.
    """

    def __init__(
        self,
        index: GrowingIndex,
        embeddings: RawEmbeddings,
        ids: np.ndarray,
        searched: np.ndarray,
    ) -> None:
        self.index, self.embeddings, self.ids = index, embeddings, ids
        self.keep(searched)

    def keep(self, places: np.ndarray) -> None:
        """Search only some of those that were searched before."""
        self.places, known = places, self.ids[places]
        self._at = IdPlaces(known)
        whole = len(places) == self.index.ntotal
        self._allowed = None if whole else self.index.allow(known)
        self._kept = np.zeros(len(self.ids) + 1, bool)  # the last for no place, -1
        self._kept[places] = True

    def are_kept(self, places: np.ndarray) -> np.ndarray:
        """Tell which places of any shape are searched, of the same shape; -1 is not."""
        return np.asarray(self._kept[places])

    def of(self, places: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (q, k) float32 scores and int64 places of k candidates of images, best first.

        -inf and -1 where there are fewer; an image is not its own candidate.
        """
        embeddings = self.embeddings[places]
        near = self._named(embeddings, k)
        near[near == places[:, None]] = -1
        return best_first(self._scores(embeddings, near), near)

    def near(self, embeddings: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the k nearest of (q, d) raw embeddings of any images, as above."""
        near = self._named(embeddings, k)
        return best_first(self._scores(embeddings, near), near)

    def in_stored_order(self, places: np.ndarray) -> np.ndarray:
        """Sort images as the index holds them, cell by cell; last those that it does not hold."""
        at = IdPlaces(self.index.ids).of(self.ids[places])
        held = (at >= 0) & self._kept[places]
        return places[np.argsort(np.where(held, at, len(self.ids)), kind="stable")]

    def _named(self, embeddings: np.ndarray, k: int) -> np.ndarray:
        """The (q, k) places that the index names, -1 for none."""
        vectors = self.index.transform(embeddings)
        _, ids = self.index.search_vectors(
            vectors, min(k, len(self.places)), allowed=self._allowed, least=NEAR_IN_INDEX
        )
        at = self._at.of(ids)
        return np.where(at >= 0, self.places[at], -1)

    def _scores(self, embeddings: np.ndarray, near: np.ndarray) -> np.ndarray:
        """Cosine similarities of (q, d) raw embeddings and (q, k) places; -inf for -1."""
        queries, flat = unit_rows(embeddings), near.ravel()
        scores = np.full(len(flat), -np.inf, np.float32)
        for pairs in chunks(np.flatnonzero(flat >= 0), VERIFIED_AT_ONCE):
            wanted, back = np.unique(flat[pairs], return_inverse=True)
            others = unit_rows(self.embeddings[wanted])
            asked = queries[pairs // near.shape[1]]
            scores[pairs] = np.einsum("nd,nd->n", asked, others[back])
        return scores.reshape(near.shape)


def best_first(scores: np.ndarray, near: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sort (q, k) scores, and the places that have them, by score."""
    order = np.argsort(-scores, axis=1, kind="stable")
    return np.take_along_axis(scores, order, 1), np.take_along_axis(near, order, 1)

"""Rank a gallery for labelled queries, block by block, and score every ranking.

A block holds the scores of a few queries against the whole gallery, so memory grows with the
gallery, never with its square.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from retrieval import metrics
from retrieval.progress import Progress
from retrieval.refinement import (
    Neighbourhood,
    Refinement,
    Reranking,
    k_reciprocal_distances,
    weighted_mean,
)

CELLS_PER_BLOCK = 1 << 23  # scores held at a time
NOBODY = -1  # the label of an image without one, and of a neighbour that is not there


@dataclass(frozen=True)
class Labelled:
    """n images: (n, d) float32 unit vectors, (n,) int64 labels and (n,) int64 contents.

    labels: codes, -1 for an image without a label. contents: equal where the files are.
    """

    vectors: np.ndarray
    labels: np.ndarray
    contents: np.ndarray

    def __len__(self) -> int:
        return len(self.vectors)

    def rows(self, rows: np.ndarray) -> Labelled:
        """Take some of the images."""
        return Labelled(self.vectors[rows], self.labels[rows], self.contents[rows])


@dataclass(frozen=True)
class Ranked:
    """The neighbours and scores of q queries.

    labels: (q,) of the queries. totals: (q,) relevant images of each in the gallery. values: per
    metric (q,) float64. neighbours: (q, m) rows of the gallery, nearest first, -1 where there is
    none. found: (q, m) their labels. scores: (q, m) float32, -inf where there is none.
    """

    labels: np.ndarray
    totals: np.ndarray
    values: dict[str, np.ndarray]
    neighbours: np.ndarray
    found: np.ndarray
    scores: np.ndarray

    def rows(self, rows: np.ndarray) -> Ranked:
        """Take some of the queries."""
        return Ranked(
            self.labels[rows],
            self.totals[rows],
            {name: values[rows] for name, values in self.values.items()},
            self.neighbours[rows],
            self.found[rows],
            self.scores[rows],
        )


def joined_rankings(parts: Sequence[Ranked]) -> Ranked:
    """Join several rankings, in their order."""
    return Ranked(
        np.concatenate([p.labels for p in parts]),
        np.concatenate([p.totals for p in parts]),
        {name: np.concatenate([p.values[name] for p in parts]) for name in parts[0].values},
        np.concatenate([p.neighbours for p in parts]),
        np.concatenate([p.found for p in parts]),
        np.concatenate([p.scores for p in parts]),
    )


def rank(
    queries: Labelled,
    gallery: Labelled,
    *,
    ks: Sequence[int],
    depth: int,
    refinement: Refinement | None = None,
    progress: Progress | None = None,
) -> Ranked:
    """Rank the gallery for each query and score the rankings.

    An image of the same content is not a neighbour. ks: of precision@k, recall@k and nDCG@k.
    depth: neighbours that are kept. augmentation of the gallery is augmented()'s.
    """
    refinement = refinement or Refinement()
    counts = np.bincount(gallery.labels[gallery.labels >= 0], minlength=1)
    deep = max(depth, *ks, int(counts.max()))
    parts = []
    for block in _blocks(len(queries), len(gallery)):
        part = queries.rows(np.arange(block.start, block.stop))
        scores, order = _ranked_block(part, gallery, refinement)
        parts.append(_scored(part, gallery, scores, order, ks, depth, deep))
        if progress:
            progress("ranking", block.stop, len(queries))
    return joined_rankings(parts)


def nearest_rows(
    queries: Labelled, gallery: Labelled, n: int, refinement: Refinement | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(q, n) scores of the n nearest of each query and their rows, best first; as rank() has it.

    -inf and -1 where there are fewer.
    """
    scores = np.full((len(queries), n), -np.inf, np.float32)
    rows = np.full((len(queries), n), NOBODY, np.int64)
    width = min(n, len(gallery))
    for block in _blocks(len(queries), len(gallery)):
        part = queries.rows(np.arange(block.start, block.stop))
        all_scores, order = _ranked_block(part, gallery, refinement or Refinement())
        rows[block, :width] = order[:, :width]
        scores[block, :width] = np.take_along_axis(all_scores, order[:, :width], 1)
    rows[np.isneginf(scores)] = NOBODY
    return scores, rows


def augmented(gallery: Labelled, augment: Neighbourhood) -> Labelled:
    """Replace each vector of the gallery by the weighted mean of itself and its nearest."""
    vectors = np.empty_like(gallery.vectors)
    for block in _blocks(len(gallery), len(gallery)):
        scores = gallery.vectors[block] @ gallery.vectors.T
        scores[np.arange(len(scores)), np.arange(block.start, block.stop)] = -np.inf
        vectors[block] = _expanded(gallery.vectors[block], scores, gallery, augment)
    return Labelled(vectors, gallery.labels, gallery.contents)


def _blocks(queries: int, gallery: int) -> Iterator[slice]:
    step = max(1, CELLS_PER_BLOCK // max(1, gallery))
    return (slice(start, min(start + step, queries)) for start in range(0, queries, step))


def _ranked_block(
    queries: Labelled, gallery: Labelled, refinement: Refinement
) -> tuple[np.ndarray, np.ndarray]:
    """(b, n) scores, -inf for the query's own content, and the (b, n) order of the gallery."""
    own = queries.contents[:, None] == gallery.contents[None]
    vectors = queries.vectors
    scores = np.where(own, -np.inf, vectors @ gallery.vectors.T)
    if refinement.expand:
        vectors = _expanded(vectors, scores, gallery, refinement.expand)
        scores = np.where(own, -np.inf, vectors @ gallery.vectors.T)
    order = np.argsort(-scores, axis=1, kind="stable")
    if refinement.rerank:
        _rerank(vectors, gallery, order, scores, refinement.rerank)
    return scores.astype(np.float32), order


def _expanded(
    vectors: np.ndarray, scores: np.ndarray, gallery: Labelled, how: Neighbourhood
) -> np.ndarray:
    n = min(how.n, scores.shape[1])
    nearest = np.argpartition(-scores, n - 1, axis=1)[:, :n]
    return weighted_mean(
        vectors, gallery.vectors[nearest], np.take_along_axis(scores, nearest, 1), how.alpha
    )


def _rerank(
    vectors: np.ndarray, gallery: Labelled, order: np.ndarray, scores: np.ndarray, how: Reranking
) -> None:
    """Bring the first m of each row into their new order."""
    m = min(how.m, order.shape[1])
    step = max(1, CELLS_PER_BLOCK // (m + 1) ** 2)
    for start in range(0, len(order), step):
        rows = slice(start, start + step)
        first = order[rows, :m]
        among = np.concatenate([vectors[rows, None], gallery.vectors[first]], axis=1)
        distances = k_reciprocal_distances(among @ among.transpose(0, 2, 1), how)
        distances[np.isneginf(np.take_along_axis(scores[rows], first, 1))] = np.inf
        better = np.argsort(distances, axis=1, kind="stable")
        order[rows, :m] = np.take_along_axis(first, better, 1)


def _scored(
    queries: Labelled,
    gallery: Labelled,
    scores: np.ndarray,
    order: np.ndarray,
    ks: Sequence[int],
    depth: int,
    deep: int,
) -> Ranked:
    sorted_scores = np.take_along_axis(scores, order, 1)
    found = np.where(np.isneginf(sorted_scores), NOBODY, gallery.labels[order])
    labels = queries.labels
    totals = (found == labels[:, None]).sum(axis=1)
    full = found
    if found.shape[1] < deep:  # k is larger than the gallery
        missing = deep - found.shape[1]
        found = np.pad(found, ((0, 0), (0, missing)), constant_values=NOBODY)
        sorted_scores = np.pad(sorted_scores, ((0, 0), (0, missing)), constant_values=-np.inf)
        order = np.pad(order, ((0, 0), (0, missing)), constant_values=-1)
    values: dict[str, np.ndarray] = {}
    for name, measure in (("precision", metrics.precision_at_k), ("recall", metrics.recall_at_k)):
        values |= {f"{name}@{k}": measure(labels, found, k) for k in ks}
    values["MAP@R"] = metrics.average_precision_at_r(labels, found, totals)
    values["R-precision"] = metrics.r_precision(labels, found, totals)
    values["mAP"] = metrics.average_precision(labels, full, totals)
    values |= {f"nDCG@{k}": metrics.ndcg_at_k(labels, found, totals, k) for k in ks}
    kept = slice(0, depth)
    neighbours = np.where(np.isneginf(sorted_scores), -1, order)[:, kept]
    return Ranked(labels, totals, values, neighbours, found[:, kept], sorted_scores[:, kept])

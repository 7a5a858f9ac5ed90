"""What follows a first search of a gallery: expansion, augmentation, re-ranking."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from retrieval.errors import DataError
from retrieval.evaluation.keys import rows_of, scores_of
from retrieval.evaluation.tiles import Peers, nearest_keys, queries_at_once
from retrieval.evaluation.vectors import FLOAT32, Bounds, Labelled
from retrieval.refinement import Neighbourhood, Reranking, k_reciprocal_distances, weighted_mean


def expanded(
    queries: Labelled, gallery: Labelled, how: Neighbourhood, own: Peers, bounds: Bounds
) -> Labelled:
    """Replace each query by the weighted mean of itself and its nearest.

    own: the rows of each query's content, which are no neighbours of it.
    """
    keys = nearest_keys(queries, gallery, min(how.n, len(gallery)), own, bounds)
    rows, scores = np.maximum(rows_of(keys), 0), scores_of(keys)
    vectors = np.array(queries.vectors)
    step = queries_at_once(keys.shape[1] * vectors.shape[1], bounds)
    for start in range(0, len(vectors), step):
        part = slice(start, start + step)
        near = gallery.vectors[rows[part]]
        vectors[part] = weighted_mean(vectors[part], near, scores[part], how.alpha)
    return replace(queries, vectors=vectors)


def memory_to_augment(gallery: Labelled) -> int:
    """Return the bytes that augmented() takes: all vectors, as they are and as they become."""
    return 2 * len(gallery) * gallery.vectors[np.arange(1)].shape[1] * FLOAT32


def augmented(gallery: Labelled, augment: Neighbourhood, bounds: Bounds | None = None) -> Labelled:
    """Replace each vector of the gallery by the weighted mean of itself and its nearest.

    Raises DataError where the memory for it is not there.
    """
    itself = np.arange(len(gallery))
    alone = Peers(itself, itself, itself + 1)
    try:
        held = replace(gallery, vectors=gallery.vectors[:])
        return expanded(held, held, augment, alone, bounds or Bounds())
    except MemoryError as error:
        need = memory_to_augment(gallery) / 1e9
        raise DataError(
            f"Augmenting {len(gallery):,} images takes {need:.1f} GB of memory, which is not free. "
            "Leave --augment out, or use a machine with more memory."
        ) from error


def reranked(
    queries: Labelled,
    gallery: Labelled,
    found: tuple[np.ndarray, np.ndarray],
    how: Reranking,
    bounds: Bounds,
) -> tuple[np.ndarray, np.ndarray]:
    """Bring the first m of each query into their new order.

    found: (q, n) rows, -1 for none, and scores, n >= m or all that are. Returns both anew.
    """
    rows, scores = found[0].copy(), found[1].copy()
    m = min(how.m, len(gallery))
    candidates = np.maximum(rows[:, :m], 0)
    step = queries_at_once((m + 1) * max(m + 1, queries.vectors[:1].shape[1]), bounds)
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        vectors = queries.vectors[part]
        among = np.concatenate([vectors[:, None], gallery.vectors[candidates[part]]], axis=1)
        there = rows[part, :m] >= 0
        distances = k_reciprocal_distances(among @ among.transpose(0, 2, 1), how, there)
        better = np.argsort(distances, axis=1, kind="stable")
        for values in (rows, scores):
            values[part, :m] = np.take_along_axis(values[part, :m], better, 1)
    return rows, scores

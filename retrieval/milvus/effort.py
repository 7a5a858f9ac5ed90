"""How hard Milvus has to search: learnt on vectors of the gallery, held against exact search."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from retrieval.draw import evenly_drawn
from retrieval.index.cells import exact_neighbours, recalls
from retrieval.index.effort import RECALL_AT, RECALL_WANTED, Known
from retrieval.milvus.kinds import efforts
from retrieval.milvus.neighbours import SearchedCollection
from retrieval.milvus.rows import PublishedRows

QUERIES, LEAST_QUERIES, ROWS_A_QUERY = 500, 50, 10  # at most; at least; one of so many rows
STEPS, HARDLY = 3, 0.002


@dataclass(frozen=True)
class LearntEffort:
    """An effort of a search, and the recall@10 that it gave."""

    effort: int
    recall: float


def held_out_of(new: np.ndarray, n: int, seed: int = 0) -> np.ndarray:
    """Draw those of (m,) new ids that are written last, so that a search can be tried by them.

    A graph finds the neighbours of its own vectors too easily: tuned on them to 0.994, it found
    0.81 of those of others. n: how many rows there will be. None are drawn where they are too few.
    """
    wanted = min(QUERIES, n // ROWS_A_QUERY)
    few = not wanted or len(new) < min(LEAST_QUERIES, wanted)
    return new[:0] if few else new[evenly_drawn(len(new), wanted, seed=seed)]


def known_neighbours(rows: PublishedRows, asked: np.ndarray) -> Known:
    """Find the true neighbours of rows of (q,) ids among all others."""
    x = np.empty((len(asked), rows.transform.d_out), np.float32)
    for place, of, vectors in _those(rows.vectors(), asked):
        x[place] = vectors[of]
    others = (
        (ids[kept], vectors[kept])
        for ids, vectors in rows.vectors()
        if (kept := ~np.isin(ids, asked)).any()
    )
    return Known(asked, x, *exact_neighbours(x, asked, others))


def learn_served_effort(collection: SearchedCollection, known: Known) -> LearntEffort:
    """Try efforts until one gives the recall wanted, two standard errors above it.

    Where STEPS more give hardly more, the least one is chosen that is nearly as good.
    """
    said = collection.published
    k = min(RECALL_AT, said.rows)
    tried: list[LearntEffort] = []
    for effort in efforts(said.kind, said.rows):
        searched = replace(collection, published=replace(said, effort=effort))
        scores, found, _ = searched.search(known.x, k, passing=said.rows)
        exact = known.exact[:, :RECALL_AT], known.scores[:, :RECALL_AT]
        each = recalls(scores, found, known.ids, *exact)
        tried.append(LearntEffort(effort, round(float(each.mean()), 5)))
        if each.mean() - 2 * each.std() / math.sqrt(len(each)) >= RECALL_WANTED:
            return tried[-1]
        if len(tried) > STEPS and tried[-1].recall - tried[-1 - STEPS].recall < HARDLY:
            break
    best = max(one.recall for one in tried)
    return next(one for one in tried if one.recall > best - HARDLY)


def _those(
    batches: Iterator[tuple[np.ndarray, np.ndarray]], asked: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Batches with the places among asked, and in the batch, of the ids that both have."""
    for ids, vectors in batches:
        _, place, of = np.intersect1d(asked, ids, assume_unique=True, return_indices=True)
        if len(place):
            yield place, of, vectors

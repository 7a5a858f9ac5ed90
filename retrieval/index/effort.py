"""How many cells of an IVF index are searched: learnt from it, and held against exact search."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from retrieval.draw import evenly_drawn
from retrieval.index.cells import recalls
from retrieval.index.files import IndexFacts
from retrieval.index.reach import Reach
from retrieval.index.search import search_index
from retrieval.index.stored import StoredVectors
from retrieval.index.wider import search_wider

RECALL_AT, RECALL_WANTED = 10, 0.99
FIRST_ENOUGH = 0.75  # of the gallery's own vectors that the cells of the first round are to do for
FAR, FAR_KEPT = 50_000, 2_000  # vectors that stand for what is less near, and the nearest of them
QUERIES_A_STEP = 100
MORE = 1.25


@dataclass(frozen=True)
class Known:
    """Vectors of the gallery and their true nearest neighbours.

    ids: (q,) int64. x: (q, d) float32. exact, scores: (q, m), as exact_neighbours() gives them.
    """

    ids: np.ndarray
    x: np.ndarray
    exact: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class Effort:
    """How a search is done, and what that gave for vectors of the gallery.

    first: cells of the first round. reach: of the others. recall: recall@10. cells: how many were
    searched, on average.
    """

    first: int
    reach: Reach
    recall: float = 1.0
    cells: float = 0.0

    @property
    def facts(self) -> IndexFacts:
        """What the next search wants to know."""
        reach = str(self.reach)
        return {"nprobe": self.first, "reach": reach, "recall": self.recall, "cells": self.cells}

    def search(self, stored: StoredVectors, of: Known) -> tuple[np.ndarray, np.ndarray]:
        """Return the recall and the cells of each query: (q,) float64 and int64."""
        k = min(RECALL_AT + 1, stored.index.ntotal)
        scores, found, cells = search_wider(stored, of.x, k, self.first, self.reach)
        exact = of.exact[:, :RECALL_AT], of.scores[:, :RECALL_AT]
        return recalls(scores, found, of.ids, *exact), cells


def learnt_effort(stored: StoredVectors, groups: Sequence[Known], *, seed: int) -> Effort:
    """Learn how many cells give each group the recall wanted.

    The mean has to lie two standard errors above it, so that other queries get it as well. The
    recall is that of the group that has less.
    """
    pairs = [_pairs(stored, known, seed) for known in groups]
    scores, ranks = (np.concatenate(part) for part in zip(*pairs, strict=True))
    reach = Reach.of_pairs(scores, ranks, int(stored.index.nlist))
    last = np.concatenate([of.scores[:, :RECALL_AT][:, -1] for of in groups])
    first = int(np.quantile(reach.cells_for(last), FIRST_ENOUGH, method="higher"))
    while True:
        effort = Effort(first, reach)
        found = [effort.search(stored, of) for of in groups]
        mean = min(float(recall.mean()) for recall, _ in found)
        sure = min(float(r.mean() - 2 * r.std() / math.sqrt(len(r))) for r, _ in found)
        if sure >= RECALL_WANTED or (reach.is_all and first == reach.nlist):
            cells = float(np.concatenate([cells for _, cells in found]).mean())
            return Effort(first, reach, round(mean, 5), round(cells, 1))
        reach, first = reach.times(MORE), min(reach.nlist, max(first + 1, int(first * MORE)))


def _pairs(stored: StoredVectors, of: Known, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of a query and a vector: their scores, and the rank of its cell for the query, (n,).

    The nearest of each query, and of some vectors drawn from all, which stand for what is left
    where the nearest do not pass a filter or are not there.
    """
    drawn = stored.ids[evenly_drawn(len(stored.ids), FAR, seed=seed + 2)]
    others, their_cells = stored.of(drawn), stored.cells_of(drawn)
    quantizer = stored.quantizer
    scores, ranks = [], []
    for start in range(0, len(of.x), QUERIES_A_STEP):
        part = slice(start, start + QUERIES_A_STEP)
        x, exact = of.x[part], of.exact[part]
        order = search_index(quantizer, x, quantizer.ntotal, None)[1]
        rank_of = np.empty_like(order)
        np.put_along_axis(rank_of, order, np.arange(1, order.shape[1] + 1)[None], 1)
        far = x @ others.T
        far[drawn == of.ids[part, None]] = -np.inf
        kept = np.argpartition(-far, min(FAR_KEPT, far.shape[1]) - 1, axis=1)[:, :FAR_KEPT]
        own = np.hstack([stored.cells_of(np.maximum(exact, 0)), their_cells[kept]])
        near = np.hstack([of.scores[part], np.take_along_axis(far, kept, 1)])
        there = np.isfinite(near)
        scores.append(near[there])
        ranks.append(np.take_along_axis(rank_of, own, 1)[there])
    return np.concatenate(scores), np.concatenate(ranks)

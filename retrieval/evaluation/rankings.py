"""Rank a gallery for labelled queries and score the rankings, of which only the best are kept.

A metric of a whole ranking needs the ranks of what is relevant, not the ranking. So memory grows
neither with the gallery nor with queries times rows. A gallery whose vectors are held is gone
through once; another is read twice for each block of queries, whose relevant images are bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from retrieval import metrics
from retrieval.evaluation.keys import rows_of, scores_of
from retrieval.evaluation.refined import expanded, reranked
from retrieval.evaluation.relevant import RelevantRanks
from retrieval.evaluation.tiles import Groups, Peers, Top, nearest_keys, queries_at_once, tiles
from retrieval.evaluation.vectors import Bounds, Labelled
from retrieval.progress import Progress
from retrieval.refinement import Refinement

NOBODY = -1  # the label of an image without one, and of a neighbour that is not there


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
    bounds: Bounds | None = None,
) -> Ranked:
    """Rank the gallery for each query and score the rankings.

    An image of the same content is not a neighbour, and of equal scores the earlier row comes
    first. ks: of precision@k, recall@k and nDCG@k. depth: neighbours that are kept. augmentation
    of the gallery is augmented()'s.
    """
    search = _Search(gallery, refinement or Refinement(), bounds or Bounds())
    parts = []
    for block in search.blocks(queries.labels, depth):

        def told(share: float, block: range = block) -> None:
            if progress:
                progress("ranking", block.start + int(share * len(block)), len(queries))

        parts.append(search.ranked(queries.rows(np.asarray(block)), ks, depth, told))
    return joined_rankings(parts)


def nearest_rows(
    queries: Labelled,
    gallery: Labelled,
    n: int,
    refinement: Refinement | None = None,
    bounds: Bounds | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The (q, n) scores of the n nearest of each query and their rows, best first, as in rank().

    -inf and -1 where there are fewer.
    """
    search = _Search(gallery, refinement or Refinement(), bounds or Bounds())
    rows = np.empty((len(queries), n), np.int64)
    scores = np.empty((len(queries), n), np.float32)
    for block in search.blocks(queries.labels, n):
        part = slice(block.start, block.stop)
        rows[part], scores[part] = search.nearest(queries.rows(np.asarray(block)), n)
    return scores, rows


class _Search:
    """A gallery and how it is searched."""

    def __init__(self, gallery: Labelled, refinement: Refinement, bounds: Bounds) -> None:
        self._gallery = gallery
        self._refinement = refinement
        self._bounds = bounds
        self._by_label, self._by_content = Groups(gallery.labels), Groups(gallery.contents)
        self._held = isinstance(gallery.vectors, np.ndarray)
        self._reranked = refinement.rerank.m if refinement.rerank else 0

    def blocks(self, labels: np.ndarray, depth: int) -> Iterator[range]:
        """Give the queries that are searched for together, by their (q,) labels."""
        if self._held:
            step = queries_at_once(len(self._gallery), self._bounds)
            yield from (range(i, min(i + step, len(labels))) for i in range(0, len(labels), step))
            return
        most = queries_at_once(max(depth, self._reranked), self._bounds)
        pairs = np.cumsum(self._relevant(labels).counts)
        start = 0
        while start < len(labels):
            before = pairs[start - 1] if start else 0
            fit = int(pairs.searchsorted(before + self._bounds.pairs, "right"))
            stop = min(max(fit, start + 1), start + most)
            yield range(start, min(stop, len(labels)))
            start = stop

    def ranked(
        self, queries: Labelled, ks: Sequence[int], depth: int, told: Callable[[float], None]
    ) -> Ranked:
        """Rank the gallery for some queries. told: is called with the share that is done."""
        own = self._by_content.peers(queries.contents)
        queries = self._expanded(queries, own)
        relevant = RelevantRanks(self._relevant(queries.labels))
        top = Top(len(queries), max(depth, self._reranked))
        passes = 1 if self._held else 2
        for number in range(passes):
            for tile in tiles(queries, self._gallery, own, self._bounds):
                if number == 0:
                    relevant.collect(tile)
                if number == passes - 1:
                    relevant.count(tile, top)
                done = tile.start + (tile.stop - tile.start) * tile.queries.stop / len(queries)
                told((number + done / len(self._gallery)) / passes)
        rows, scores = self._refined(queries, top.best)
        found = np.where(rows >= 0, self._gallery.labels[rows], NOBODY)
        values, totals = [], np.empty(len(queries), np.int64)
        for query, label in enumerate(queries.labels.tolist()):
            ranks = self._in_new_order(relevant.of(query), found[query] == label)
            totals[query] = len(ranks)
            values.append(metrics.ranking_scores(ranks, ks))
        return Ranked(
            queries.labels,
            totals,
            {name: np.array([each[name] for each in values]) for name in values[0]},
            rows[:, :depth],
            found[:, :depth],
            scores[:, :depth],
        )

    def nearest(self, queries: Labelled, n: int) -> tuple[np.ndarray, np.ndarray]:
        """The (q, n) rows and scores of the n nearest of some queries."""
        own = self._by_content.peers(queries.contents)
        queries = self._expanded(queries, own)
        width = max(n, self._reranked)
        keys = nearest_keys(queries, self._gallery, width, own, self._bounds)
        rows, scores = self._refined(queries, keys)
        return rows[:, :n], scores[:, :n]

    def _relevant(self, labels: np.ndarray) -> Peers:
        """The rows of each query's label; none where it has no label."""
        peers = self._by_label.peers(labels)
        return replace(peers, last=np.where(labels >= 0, peers.last, peers.first))

    def _expanded(self, queries: Labelled, own: Peers) -> Labelled:
        how = self._refinement.expand
        return expanded(queries, self._gallery, how, own, self._bounds) if how else queries

    def _refined(self, queries: Labelled, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found, how = (rows_of(keys), scores_of(keys)), self._refinement.rerank
        return reranked(queries, self._gallery, found, how, self._bounds) if how else found

    def _in_new_order(self, ranks: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Ranks, of which those that were ranked again are told by (n,) right."""
        if not self._reranked:
            return ranks
        first = np.flatnonzero(right[: self._reranked]) + 1
        return np.concatenate([first, ranks[ranks > self._reranked]])

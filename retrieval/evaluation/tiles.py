"""Scores of some queries with some rows of the gallery at a time, and the best of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from retrieval.evaluation.keys import ABSENT, keys_of
from retrieval.evaluation.vectors import Bounds, Labelled, vector_blocks


class Groups:
    """The rows of a gallery, grouped by a number that each has: its label, or its content."""

    def __init__(self, values: np.ndarray) -> None:
        self._order = np.argsort(values, kind="stable")
        self._values = values[self._order]

    def peers(self, asked: np.ndarray) -> Peers:
        """Find the rows that have the number of each query."""
        first = np.searchsorted(self._values, asked, "left")
        return Peers(self._order, first, np.searchsorted(self._values, asked, "right"))


@dataclass(frozen=True)
class Peers:
    """The rows of each query: order[first:last], ascending."""

    order: np.ndarray
    first: np.ndarray
    last: np.ndarray

    @property
    def counts(self) -> np.ndarray:
        """The (q,) rows of each query."""
        return self.last - self.first

    def of(self, query: int) -> np.ndarray:
        """Return the rows of a query."""
        return self.order[self.first[query] : self.last[query]]

    def within(self, query: int, start: int, stop: int) -> tuple[int, np.ndarray]:
        """Return how many rows of a query lie before start, and those from there to stop."""
        rows = self.of(query)
        before, end = rows.searchsorted((start, stop))
        return int(before), rows[before:end]


@dataclass(frozen=True)
class Tile:
    """Keys of some queries with a block of the gallery's rows.

    keys: (b, n) of the queries with n rows from start; those that are not neighbours are ABSENT.
    """

    queries: range
    start: int
    keys: np.ndarray

    @property
    def stop(self) -> int:
        """The gallery's row after the last."""
        return self.start + self.keys.shape[1]


def tiles(queries: Labelled, gallery: Labelled, own: Peers, bounds: Bounds) -> Iterator[Tile]:
    """Give the keys of all queries with all rows, block by block of the gallery.

    own: the rows of each query's content, which are no neighbours of it.
    """
    for start, block in vector_blocks(gallery.vectors, bounds.rows):
        step = queries_at_once(len(block), bounds)
        for first in range(0, len(queries), step):
            rows = range(first, min(first + step, len(queries)))
            tile = Tile(
                rows, start, keys_of(queries.vectors[rows.start : rows.stop] @ block.T, start)
            )
            for place, query in enumerate(rows):
                _, mine = own.within(query, start, tile.stop)
                tile.keys[place, mine - start] = ABSENT
            yield tile


def queries_at_once(width: int, bounds: Bounds) -> int:
    """Return how many queries have their scores with so many rows held at a time."""
    return max(1, bounds.cells // max(1, width))


class Top:
    """The n best keys of each query among those that were added."""

    def __init__(self, queries: int, n: int) -> None:
        self._keys = np.full((queries, n), ABSENT)

    @property
    def n(self) -> int:
        """Keys that are kept of a query."""
        return self._keys.shape[1]

    @property
    def best(self) -> np.ndarray:
        """The (q, n) keys, best first."""
        return self._keys[:, ::-1]

    def add(self, queries: range, keys: np.ndarray) -> None:
        """Add (b, m) keys of some queries, in any order."""
        rows = slice(queries.start, queries.stop)
        both = np.concatenate([self._keys[rows], keys], axis=1)
        both.sort(axis=1)
        self._keys[rows] = both[:, both.shape[1] - self.n :]


def nearest_keys(
    queries: Labelled, gallery: Labelled, n: int, own: Peers, bounds: Bounds
) -> np.ndarray:
    """The (q, n) keys of the n nearest of each query, best first; absent where there are fewer."""
    top = Top(len(queries), n)
    for tile in tiles(queries, gallery, own, bounds):
        width = tile.keys.shape[1]
        if n < width:
            tile.keys.partition(width - n, axis=1)
        top.add(tile.queries, tile.keys[:, max(0, width - n) :])
    return top.best

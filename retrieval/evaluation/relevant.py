"""At which rank each relevant image of a query comes, without a ranking of the others.

Its rank is the number of neighbours that score more, and one. Those are counted block by block.
"""

from __future__ import annotations

import numpy as np

from retrieval.evaluation.keys import ABSENT
from retrieval.evaluation.tiles import Peers, Tile, Top

FEW_RELEVANT = 32  # keys that are quicker compared with all others than searched for among them
MOST_ABOVE = 0.6  # of the keys, to be sorted without the others


class RelevantRanks:
    """The keys of the images that have a query's label, and how many others are above each.

    First every tile is collected, then every one is counted.
    """

    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        self._ends = np.concatenate([[0], np.cumsum(peers.counts)])
        self._keys = np.empty(int(self._ends[-1]), np.int64)
        self._above = np.zeros(len(self._keys), np.int32)

    def collect(self, tile: Tile) -> None:
        """Take the keys of what is relevant from a tile."""
        for place, query in enumerate(tile.queries):
            part, columns = self._in_tile(query, tile)
            self._keys[part] = tile.keys[place, columns]

    def count(self, tile: Tile, top: Top) -> None:
        """Count what is above each, and add the best to top. The tile's keys change their order."""
        width = tile.keys.shape[1]
        best = max(0, width - top.n)
        for place, query in enumerate(tile.queries):
            keys = tile.keys[place]
            part, columns = self._in_tile(query, tile)
            keys[columns] = self._keys[part]  # another run of a product may round otherwise
            mine = slice(self._ends[query], self._ends[query + 1])
            self._above[mine] += _numbers_above(np.sort(self._keys[mine]), keys, best)
        top.add(tile.queries, tile.keys[:, best:])

    def of(self, query: int) -> np.ndarray:
        """The (R,) int64 ranks of what is relevant to a query, ascending, from 1."""
        start, end = self._ends[query : query + 2]
        there = np.count_nonzero(self._keys[start:end] != ABSENT)  # the others are its own content
        return self._above[end - there : end][::-1].astype(np.int64) + 1

    def _in_tile(self, query: int, tile: Tile) -> tuple[slice, np.ndarray]:
        """Places of a query's keys that a tile has, and their columns in it."""
        before, rows = self._peers.within(query, tile.start, tile.stop)
        start = int(self._ends[query]) + before
        return slice(start, start + len(rows)), rows - tile.start


def _numbers_above(wanted: np.ndarray, keys: np.ndarray, best: int) -> np.ndarray:
    """Count the keys above each of those that are wanted, which are sorted: int32.

    Leaves the greatest of the keys at the end of them, from the place best on.
    """
    if len(wanted) <= FEW_RELEVANT:
        if best:
            keys.partition(best)
        return np.array([np.count_nonzero(keys > key) for key in wanted], np.int32)
    above = keys > wanted[0]
    if np.count_nonzero(above) > MOST_ABOVE * len(keys):
        keys.sort()
        counted = keys
    else:
        counted = np.sort(keys[above])
        keys.partition(best)
    return np.asarray(len(counted) - counted.searchsorted(wanted, "right"), np.int32)

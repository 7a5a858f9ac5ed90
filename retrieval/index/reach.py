"""The cells of an IVF index in which neighbours of a query lie, by how near they are.

What scores high lies in the cells nearest to the query; what scores low may lie in any. That holds
whatever else passes a filter, and whether or not anything near the query is stored at all. So the
score of the k-th best that was found tells in how many cells a better one may still lie, as in
Li et al. 2020, "Improving approximate nearest neighbor search through learned adaptive early
termination", with that one feature in place of a learned tree.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

PAIRS_FOUND = 0.996  # of the pairs of each score: so many are to lie in the cells that are searched
FIRST_BIN, NEXT_BIN = 300, 1.15  # pairs of the highest scores, and times as many in the next bin
BIN_WIDTH, LEAST_BIN = 0.03, 300  # of a bin at most, in scores, where that leaves enough pairs
MOST_BINS, MOST_TEXT = 100, 4_000  # characters


@dataclass(frozen=True)
class Reach:
    """The cells in which to look for what scores as high as the k-th best so far.

    scores: falling. cells: for each of them, rising. nlist: all cells, for lower scores. What
    scores below least is not looked for.
    """

    scores: tuple[float, ...]
    cells: tuple[int, ...]
    nlist: int
    least: float = -1.0

    @classmethod
    def of_pairs(cls, scores: np.ndarray, ranks: np.ndarray, nlist: int) -> Reach:
        """Learn from (n,) pairs of a query and a vector: their score, and its cell's rank.

        ranks: from 1, in the order of the cells' centres by their score with the query.

        >>> pairs = np.linspace(1, 0, 1000), np.linspace(1, 50, 1000).astype(int)
        >>> reach = Reach.of_pairs(*pairs, 64)
        >>> reach.cells_for(np.array([0.99, 0.5, -1.0])).tolist()
        [15, 33, 64]
        """
        order = np.argsort(-scores, kind="stable")
        scores, ranks = scores[order], ranks[order]
        bins = _bins(scores)
        middles = [round(float(scores[(start + end) // 2]), 4) for start, end in bins]
        return cls(tuple(middles), tuple(_rising_cells(ranks, bins)), nlist)

    def cells_for(self, scores: np.ndarray) -> np.ndarray:
        """Return in how many cells to search for what beats (q,) scores: int64."""
        if not self.cells:
            return np.full(len(scores), self.nlist)
        scores = np.maximum(scores, self.least)
        log = np.interp(-scores, -np.array(self.scores), np.log(self.cells))
        cells = np.ceil(np.round(np.exp(log), 6)).astype(np.int64)
        return np.where(scores < self.scores[-1], self.nlist, cells)

    def down_to(self, least: float) -> Reach:
        """Return the same for a search in which what scores less need not be found."""
        return replace(self, least=least)

    def times(self, factor: float) -> Reach:
        """Return the reach of so many times as many cells, at least one more."""
        cells = (min(self.nlist, max(c + 1, int(c * factor))) for c in self.cells)
        return Reach(self.scores, tuple(cells), self.nlist)

    @classmethod
    def parse(cls, text: str, nlist: int) -> Reach:
        """Read what str() gave. Raises ValueError for what is no reach of so many cells.

        >>> str(Reach.parse("0.9:2 0.35:40", 64))
        '0.9:2 0.35:40'
        """
        if len(text) > MOST_TEXT:
            raise ValueError("its reach is too long")
        parts = [part.partition(":") for part in text.split()]
        scores, cells = [float(part[0]) for part in parts], [int(part[2]) for part in parts]
        if not all(map(math.isfinite, scores)) or sorted(scores, reverse=True) != scores:
            raise ValueError("its reach has no falling scores")
        if sorted(cells) != cells or not all(1 <= n <= nlist for n in cells):
            raise ValueError("its reach has no rising cells")
        return cls(tuple(scores), tuple(cells), nlist)

    def __str__(self) -> str:
        return " ".join(f"{s}:{n}" for s, n in zip(self.scores, self.cells, strict=True))

    @property
    def is_all(self) -> bool:
        """Whether every cell is searched for any score."""
        return not self.cells or self.cells[0] >= self.nlist


def _bins(scores: np.ndarray) -> list[tuple[int, int]]:
    """Start and end of the bins of falling scores."""
    bins: list[tuple[int, int]] = []
    start, size = 0, float(FIRST_BIN)
    while start < len(scores) and len(bins) < MOST_BINS:
        wide = int(np.searchsorted(-scores, BIN_WIDTH - scores[start], side="right"))
        end = min(len(scores), start + int(size), max(wide, start + LEAST_BIN))
        bins.append((start, end))
        start, size = end, size * NEXT_BIN
    return bins


def _rising_cells(ranks: np.ndarray, bins: list[tuple[int, int]]) -> list[int]:
    """The cells that hold the share wanted of the pairs of each bin, never fewer than before.

    Bins in the wrong order are one (pool adjacent violators; Robertson and Wright 1980, "Algorithms
    in order restricted statistical inference and the Cauchy mean value property", for quantiles):
    a burst of pictures in one far cell would raise all bins behind its own.
    """
    pools: list[tuple[int, int, int, int]] = []  # start, end, cells, bins
    for start, end in bins:
        pools.append((start, end, _cells_of(ranks[start:end]), 1))
        while len(pools) > 1 and pools[-2][2] > pools[-1][2]:
            (first, _, _, before), (_, last, _, behind) = pools[-2:]
            pools[-2:] = [(first, last, _cells_of(ranks[first:last]), before + behind)]
    return [cells for _, _, cells, count in pools for _ in range(count)]


def _cells_of(ranks: np.ndarray) -> int:
    return int(np.quantile(ranks, PAIRS_FOUND, method="higher"))

"""Which ids a search is among, as FAISS takes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np

from retrieval.index.cell_counts import PassingCounts
from retrieval.index.gathered import GatheredVectors
from retrieval.sorted_ids import IdPlaces, distinct

MOST_OF_A_BITMAP = 1 << 24  # bytes
FEW_SELECTED = 1000  # ids, of which a hash set is made in less time than a bitmap


@dataclass(frozen=True)
class Selection:
    """Some ids, made ready for any number of searches. count: how many pass.

    passing: how many pass in each cell. gathered: their vectors side by side, where the ids
    themselves are known.
    """

    count: int
    selector: Any
    passing: PassingCounts
    gathered: GatheredVectors | None = None

    @classmethod
    def of(cls, ids: np.ndarray) -> Selection:
        """Select (n,) ids, at least 0."""
        ids = distinct(ids)
        size = int(ids.max(initial=0)) // 8 + 1
        if len(ids) <= FEW_SELECTED or size > MOST_OF_A_BITMAP:
            places, selector = IdPlaces(ids), faiss.IDSelectorBatch(ids)
            counts = PassingCounts(lambda stored: places.of(stored) >= 0)
            return cls(len(ids), selector, counts, GatheredVectors(ids))
        passes = np.zeros(8 * size, bool)
        passes[ids] = True
        bits = np.packbits(passes, bitorder="little")
        counts = PassingCounts(lambda stored: _are_set(bits, stored))
        return cls(len(ids), faiss.IDSelectorBitmap(bits), counts, GatheredVectors(ids))

    @classmethod
    def without(cls, ids: np.ndarray, total: int) -> Selection:
        """Select all of the total but (n,) distinct ids."""
        left_out = cls.of(ids)
        counts = PassingCounts(lambda stored: ~left_out.passing.passes(stored))
        return cls(total - len(ids), faiss.IDSelectorNot(left_out.selector), counts)


def _are_set(bits: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Tell which of (m,) ids have their bit in a bitmap, which may end before them."""
    places = ids >> 3
    found = bits[np.minimum(places, len(bits) - 1)] >> (ids & 7).astype(np.uint8) & 1
    return (found == 1) & (places < len(bits))

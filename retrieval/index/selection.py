"""Which ids a search is among, as FAISS takes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np

from retrieval.index.gathered import GatheredVectors, ReadVectors
from retrieval.sorted_ids import distinct

MOST_OF_A_BITMAP = 1 << 24  # bytes
READ_WHOLE = 0.1  # of the vectors
FEW_SELECTED = 1000  # ids, of which a hash set is made in less time than a bitmap


def compares_most(among: Selection | None, total: int) -> bool:
    """Tell whether a search among so many vectors compares with most of what it passes by.

    Where fewer than READ_WHOLE pass, it reads little of a cell.
    """
    return among is None or among.count > READ_WHOLE * total


@dataclass(frozen=True)
class Selection:
    """Some ids, made ready for any number of searches. count: how many pass.

    gathered: their vectors side by side, where the ids themselves are known.
    """

    count: int
    selector: Any
    gathered: GatheredVectors | None = None

    @classmethod
    def of(cls, ids: np.ndarray, read: ReadVectors | None = None) -> Selection:
        """Select (n,) ids, at least 0. read: see GatheredVectors."""
        ids = distinct(ids)
        size = int(ids.max(initial=0)) // 8 + 1
        if len(ids) <= FEW_SELECTED or size > MOST_OF_A_BITMAP:
            return cls(len(ids), faiss.IDSelectorBatch(ids), GatheredVectors(ids, read))
        passes = np.zeros(8 * size, bool)
        passes[ids] = True
        bits = np.packbits(passes, bitorder="little")
        return cls(len(ids), faiss.IDSelectorBitmap(bits), GatheredVectors(ids, read))

    @classmethod
    def without(cls, ids: np.ndarray, total: int) -> Selection:
        """Select all of the total but (n,) distinct ids."""
        return cls(total - len(ids), faiss.IDSelectorNot(cls.of(ids).selector))

"""Which index suits a number of vectors in Milvus, and how hard it is searched.

hnsw      a graph in memory: the fastest, and 4 bytes a number and 256 a vector
ivf_sq8   cells of bytes: a quarter of the memory; the best are scored again by their floats
diskann   a graph on the disk: a sixth of the memory, on NVMe
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from retrieval.index.cells import cells_for
from retrieval.words import ServedKind

HNSW_UP_TO, IVF_UP_TO = 10_000_000, 100_000_000  # vectors
SEGMENT = 250_000  # vectors that one index of a server is built of, about
MOST_FOUND = 16_384  # neighbours that a server gives
TUNED_AT = 10  # neighbours that the effort is learnt for
FEW_PASS = 0.02  # of the vectors: their nearest may lie anywhere
LINKS, BUILT_WITH = 32, 200  # of a graph: with 16 and 128, some rows are found by no filter
RESCORED = 4  # times as many as are wanted, by their floats


@dataclass(frozen=True)
class ServedIndex:
    """One kind. name: Milvus's. effort: its parameter of a search, from least to most.

    exact: whether the scores of a search are those of the vectors.
    """

    name: str
    effort: str
    least: int
    most: int
    exact: bool = True


INDEXES: dict[ServedKind, ServedIndex] = {
    "hnsw": ServedIndex("HNSW", "ef", 32, 32_768),
    "ivf_sq8": ServedIndex("IVF_SQ8", "nprobe", 8, 65_536, exact=False),
    "diskann": ServedIndex("DISKANN", "search_list", 32, 65_535),
}


def served_kind_for(n: int) -> ServedKind:
    """Choose the kind for n vectors.

    >>> served_kind_for(1_000_000), served_kind_for(50_000_000), served_kind_for(10**9)
    ('hnsw', 'ivf_sq8', 'diskann')
    """
    return "hnsw" if n <= HNSW_UP_TO else "ivf_sq8" if n <= IVF_UP_TO else "diskann"


def build_parameters(kind: ServedKind, n: int) -> dict[str, int]:
    """Return how an index of n vectors is built."""
    if kind == "hnsw":
        return {"M": LINKS, "efConstruction": BUILT_WITH}
    return {"nlist": cells_for(min(n, SEGMENT))} if kind == "ivf_sq8" else {}


def efforts(kind: ServedKind, n: int) -> Iterator[int]:
    """Give the efforts to try with n vectors, from the least to the most."""
    index, last = INDEXES[kind], 0
    most = build_parameters(kind, n)["nlist"] if kind == "ivf_sq8" else min(index.most, 4096)
    step = 0
    while last < most:
        effort = min(most, round(index.least * 1.4**step))
        step += 1
        if effort > last:
            yield effort
            last = effort


def search_parameters(
    kind: ServedKind, n: int, effort: int, limit: int, share: float = 1.0
) -> dict[str, Any]:
    """Return how hard a search for so many neighbours looks.

    effort: learnt for TUNED_AT of all. share: of the vectors that pass a filter, above 0.
    """
    index = INDEXES[kind]
    if kind == "ivf_sq8":
        cells = build_parameters(kind, n)["nlist"]
        wider = math.ceil(effort * math.sqrt(max(1.0, limit / TUNED_AT / share)))
        return {index.effort: min(cells, wider) if share > FEW_PASS else cells}
    wider = math.ceil((effort + max(0, limit - TUNED_AT)) / max(share, FEW_PASS))
    return {index.effort: min(index.most, max(limit, wider))}

"""What other kinds of IVF index would take: bytes a vector and CPU a query at a recall of 0.99."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import faiss
import numpy as np

from benchmarks.table import Table
from benchmarks.vectors import expanded, nearest, real_embeddings
from retrieval.transform import fit

ROWS, QUICK = 1_000_000, 5_000
QUERIES, K, WANTED = 200, 10, 0.99
CELLS_TRIED = (4, 8, 12, 16, 24, 32, 48, 64, 96)
REFINED = (0, 30, 100)  # candidates that are compared again in float16
Make = Callable[[Any, int, int], Any]

_SQ = faiss.ScalarQuantizer
_IP = faiss.METRIC_INNER_PRODUCT


def _scalar(kind: int) -> Make:
    return lambda q, d, n: faiss.IndexIVFScalarQuantizer(q, d, n, kind, _IP)


KINDS: dict[str, Make] = {
    "float16": _scalar(_SQ.QT_fp16),
    "8 bits": _scalar(_SQ.QT_8bit),
    "6 bits": _scalar(_SQ.QT_6bit),
    "4 bits": _scalar(_SQ.QT_4bit),
    "RaBitQ": lambda q, d, n: faiss.IndexIVFRaBitQ(q, d, n, _IP),
    "PQ fast scan": lambda q, d, n: faiss.IndexIVFPQFastScan(q, d, n, d // 2, 4, _IP),
}


def measure(*, quick: bool) -> list[Table]:
    """One row a kind and a number of refined candidates; all share the cells."""
    n = QUICK if quick else ROWS
    table = Table(
        "Kinds of index",
        f"The {K} nearest of {n:,} vectors of 512 numbers (as in Searching), {QUERIES} held-out "
        f"queries one at a time in one thread, in the fewest cells of {CELLS_TRIED} that give a "
        f"recall of {WANTED}, or the most. refined: candidates that are compared again with their "
        "float16 vectors, which lie elsewhere and are not counted. bytes: a vector with its id.",
        ["kind", "refined", "cells", "recall", "CPU", "bytes"],
    )
    x = expanded(real_embeddings(quick=quick), n + QUERIES)
    transform = fit("whiten:512", x[:: max(1, n // 20_000)])
    vectors = np.concatenate([transform.apply(part).astype(np.float16) for part in _parts(x)])
    held = np.random.default_rng(1).choice(len(x), QUERIES, replace=False)
    queries, vectors = vectors[held].astype(np.float32), np.delete(vectors, held, axis=0)
    true = nearest(vectors, queries, K)
    cells = min(4096, max(1, n // 40))
    quantizer = _trained(vectors, cells)
    for name, make in KINDS.items():
        index = _filled(make(quantizer, vectors.shape[1], cells), vectors)
        for refined in REFINED[: 1 if name == "float16" else None]:
            _add(table, name, index, refined, (vectors, queries, true))
    return [table]


def _parts(x: np.ndarray) -> Iterator[np.ndarray]:
    for at in range(0, len(x), 20_000):
        yield x[at : at + 20_000].astype(np.float32)


def _trained(vectors: np.ndarray, cells: int) -> Any:
    quantizer = faiss.IndexFlatIP(vectors.shape[1])
    ivf = faiss.IndexIVFFlat(quantizer, vectors.shape[1], cells, _IP)
    ivf.cp.min_points_per_centroid = 1
    ivf.train(vectors[:: max(1, len(vectors) // (40 * cells))].astype(np.float32))
    return quantizer


def _filled(index: Any, vectors: np.ndarray) -> Any:
    index.own_fields = False
    index.train(vectors[:: max(1, len(vectors) // 65_536)].astype(np.float32))
    for part in _parts(vectors):
        index.add(part)
    return index


def _add(
    table: Table, name: str, index: Any, refined: int,
    asked: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:  # fmt: skip
    vectors, queries, true = asked
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    for cells in CELLS_TRIED:
        index.nprobe = cells
        start, found = time.thread_time(), []
        for query in queries:
            _, ids = index.search(query[None], refined or K)
            near = ids[0][ids[0] >= 0]
            if refined:
                near = near[np.argsort(-(vectors[near].astype(np.float32) @ query))][:K]
            found.append(near)
        taken = 1e3 * (time.thread_time() - start) / len(queries)
        recall = np.mean([np.isin(a, b).mean() for a, b in zip(true, found, strict=True)])
        if recall >= WANTED:
            break
    faiss.omp_set_num_threads(threads)
    table.add(name, str(refined or ""), str(cells), f"{recall:.4f}", f"{taken:.2f} ms",
              str(index.code_size + 8))  # fmt: skip

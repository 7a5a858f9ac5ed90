"""What other kinds of index would take: bytes a vector, CPU a query and recall, held to IVF's."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import faiss
import numpy as np

from benchmarks.lance_rq import lance_rows
from benchmarks.table import Table
from benchmarks.vectors import expanded, fitted, held_out, nearest, real_embeddings
from retrieval.metrics import neighbour_recall

ROWS, QUICK = 1_000_000, 5_000
QUERIES, K = 200, 10
CELLS = (16, 48)
EXPANSIONS = (64, 256)  # of HNSW
REFINED = (0, 30, 100)  # candidates that are compared again in float16
Make = Callable[[Any, int, int], Any]

_SQ = faiss.ScalarQuantizer
_IP = faiss.METRIC_INNER_PRODUCT


def _scalar(kind: int) -> Make:
    return lambda q, d, n: faiss.IndexIVFScalarQuantizer(q, d, n, kind, _IP)


def _rabitq(bits: int) -> Make:
    return lambda q, d, n: faiss.IndexIVFRaBitQ(q, d, n, _IP, True, bits)  # noqa: FBT003


KINDS: dict[str, Make] = {
    "float16": _scalar(_SQ.QT_fp16),
    "8 bits": _scalar(_SQ.QT_8bit),
    "4 bits": _scalar(_SQ.QT_4bit),
    "RaBitQ, 1 bit": _rabitq(1),
    "RaBitQ, 8 bits": _rabitq(8),
    "PQ fast scan": lambda q, d, n: faiss.IndexIVFPQFastScan(q, d, n, d // 2, 4, _IP),
    "HNSW, 8 bits": lambda _, d, __: faiss.IndexHNSWSQ(d, _SQ.QT_8bit, 16, _IP),
}


def measure(*, quick: bool) -> list[Table]:
    """One row a kind and a number of refined candidates; those with cells share them."""
    n = QUICK if quick else ROWS
    table = Table(
        "Kinds of index",
        f"The {K} nearest of {n:,} vectors of 512 numbers (as in Searching), for {QUERIES} "
        "held-out queries one at a time in one thread. Little effort is "
        f"{CELLS[0]} cells, or an expansion of {EXPANSIONS[0]}; more is {CELLS[1]} or "
        f"{EXPANSIONS[1]}. `refined` has the candidates that are compared again with their float16 "
        "vectors, which lie elsewhere and are not counted. `bytes` are those of a vector with its "
        "id and links. `adding` is CPU time a vector. Lance runs in threads of its own, so its CPU "
        "is that of all.",
        ["kind", "refined", "bytes", "adding", "recall", "CPU", "recall, more", "CPU, more"],
    )
    x = expanded(real_embeddings(quick=quick), n + QUERIES)
    transform = fitted(x)
    vectors = np.concatenate([transform.apply(part).astype(np.float16) for part in _parts(x)])
    del x
    queries, vectors = held_out(vectors, QUERIES)
    true = nearest(vectors, queries, K)
    cells = min(4096, max(1, n // 40))
    quantizer = _trained(vectors, cells)
    nearest_cells = [quantizer.search(part, 1)[1][:, 0] for part in _parts(vectors)]
    for name, make in KINDS.items():
        index = make(quantizer, vectors.shape[1], cells)
        adding = _fill(index, vectors, nearest_cells)
        for refined in REFINED[: 1 if name == "float16" else None]:
            row = _rows_of(index, refined, vectors, queries, true)
            table.add(name, str(refined or ""), str(_bytes_a_vector(index)), adding, *row)
    for row in lance_rows(vectors, queries, true, REFINED, cells, CELLS):
        table.add(*row)
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


def _fill(index: Any, vectors: np.ndarray, nearest_cells: list[np.ndarray]) -> str:
    """Train it and add all; return the CPU that adding takes, cells being known."""
    index.own_fields = isinstance(index, faiss.IndexHNSW)
    index.train(vectors[:: max(1, len(vectors) // 65_536)].astype(np.float32))
    start, first = time.process_time(), 0
    for part, cells in zip(_parts(vectors), nearest_cells, strict=True):
        ids = np.arange(first, first + len(part))
        if isinstance(index, faiss.IndexHNSW | faiss.IndexIVFPQFastScan):
            index.add(part)
        else:
            index.add_core(len(part), *(faiss.swig_ptr(a) for a in (part, ids, cells)))
        first += len(part)
    index.ntotal = len(vectors)
    return f"{1e3 * (time.process_time() - start) / len(vectors):.3f} ms"


def _bytes_a_vector(index: Any) -> int:
    if isinstance(index, faiss.IndexHNSW):
        links = 4 * index.hnsw.neighbors.size() / index.ntotal
        return round(faiss.downcast_index(index.storage).code_size + links)
    return int(index.code_size) + 8


def _rows_of(
    index: Any, refined: int, vectors: np.ndarray, queries: np.ndarray, true: np.ndarray
) -> list[str]:
    """Recall and CPU a query, with little effort and with more."""
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    cells_of: list[str] = []
    for cells, expansion in zip(CELLS, EXPANSIONS, strict=True):
        if isinstance(index, faiss.IndexHNSW):
            index.hnsw.efSearch = expansion
        else:
            index.nprobe = cells
        for query in queries[:20]:
            index.search(query[None], refined or K)
        start, found = time.thread_time(), []
        for query in queries:
            near = index.search(query[None], refined or K)[1][0]
            if refined:
                scores = vectors[near].astype(np.float32) @ query
                near = near[np.argsort(np.where(near >= 0, -scores, np.inf))][:K]
            found.append(near)
        taken = 1e3 * (time.thread_time() - start) / len(queries)
        recall = neighbour_recall(np.array(found), true)
        cells_of += [f"{recall:.4f}", f"{taken:.2f} ms"]
    faiss.omp_set_num_threads(threads)
    return cells_of

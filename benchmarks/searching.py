"""A query at growing sizes, beside scikit-learn, and hnswlib and usearch where installed."""

from __future__ import annotations

import importlib.util
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from benchmarks.photographs import CACHE
from benchmarks.table import Table
from benchmarks.vectors import batches, expanded, fitted, held_out, nearest, real_embeddings
from retrieval.index import Index
from retrieval.metrics import neighbour_recall

SIZES, QUICK = (10_000, 100_000, 1_000_000), (2_000, 5_000)
QUERIES, K, ROUNDS = 200, 10, 3
MANY, FEW = 100_000, 20  # beyond so many vectors scikit-learn takes a second a query
LINKS, EXPANSION = 16, 100  # of the graphs: a vector's, and while it is added
EXPANSIONS = (16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048)  # of a query
Search = Callable[[np.ndarray], np.ndarray]


@dataclass
class Candidate:
    """A search of (1, d) vectors, what it took to make, and what its rounds took."""

    name: str
    search: Search
    built: float
    size: int
    wall: list[np.ndarray] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    found: np.ndarray = field(default_factory=lambda: np.empty((0, K), np.int64))


def measure(*, quick: bool) -> list[Table]:
    """One row a size and a search."""
    table = Table(
        "Searching",
        f"One query at a time in one thread, the {K} nearest of n vectors of 512 numbers that are "
        "already transformed. Medians of "
        f"{ROUNDS} rounds in turns, of {QUERIES} held-out queries (scikit-learn beyond "
        f"{MANY:,}: {FEW}), warm: each round searches for them once before. The vectors are "
        "MobileNetV2's of CIFAR-10 (96 px), and beyond those points between an embedding and one "
        "of its ten neighbours, with noise. Recall is against exact search. `hnswlib` and "
        f"`usearch` (float16) have graphs of {LINKS} links, with the least expansion that reaches "
        "imgret's recall, or the most tried. `scikit-learn` searches by brute force. `built in` is "
        "CPU time. `bytes` are those of a vector in the file, or in memory with scikit-learn.",
        ["vectors", "search", "p50", "p95", "CPU", f"recall@{K}", "built in", "bytes"],
    )
    real = real_embeddings(quick=quick)
    for n in QUICK if quick else SIZES:
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            _measure_one(table, real, n, Path(folder))
    return [table]


def _measure_one(table: Table, real: np.ndarray, n: int, folder: Path) -> None:
    from threadpoolctl import threadpool_limits

    index, queries, built = _index(real, n)
    vectors = np.concatenate([v for _, v in index.stored.batches()])
    ids = index.ids
    file = folder / "index.faiss"
    index.save(file)
    index = Index.load(file, index.settings)
    ours = Candidate(
        f"imgret: {index.kind}", lambda q: index.search_vectors(q, K)[1], built, file.stat().st_size
    )
    exact = _scikit_learn(vectors, ids)
    truth = ids[nearest(vectors, queries, K)]
    with threadpool_limits(1):
        faiss.omp_set_num_threads(1)
        _run(ours, queries)
        wanted = neighbour_recall(ours.found, truth)
        candidates = [ours, exact]
        for name, make in PEERS.items():
            if importlib.util.find_spec(name):
                candidates.append(make(vectors, ids, folder, queries, (truth, wanted)))
        for one in candidates:
            one.wall.clear(), one.cpu.clear()
        for _ in range(ROUNDS):
            for one in candidates:
                _run(one, queries[:FEW] if one is exact and n > MANY else queries)
        for one in candidates:
            table.add(f"{n:,}", *_cells(one, truth[: len(one.found)], n))


def _index(real: np.ndarray, n: int) -> tuple[Index, np.ndarray, float]:
    """An index of n embeddings, held-out queries transformed, and CPU seconds of building it."""
    queries, x = held_out(expanded(real, n + QUERIES), QUERIES)
    transform = fitted(x)
    start = time.process_time()
    index = Index.build(transform, lambda: batches(x), n)
    built = time.process_time() - start
    return index, index.transform(queries), built


def _scikit_learn(vectors: np.ndarray, ids: np.ndarray) -> Candidate:
    from sklearn.neighbors import NearestNeighbors

    start = time.process_time()
    exact = NearestNeighbors(n_neighbors=K, metric="cosine", algorithm="brute").fit(vectors)
    built = time.process_time() - start
    return Candidate("scikit-learn", lambda q: ids[exact.kneighbors(q)[1]], built, vectors.nbytes)


def _hnswlib(
    vectors: np.ndarray, ids: np.ndarray, folder: Path, queries: np.ndarray, held_to: Any
) -> Candidate:
    import hnswlib

    start = time.process_time()
    graph = hnswlib.Index("ip", vectors.shape[1])
    graph.init_index(len(vectors), M=LINKS, ef_construction=EXPANSION)
    graph.add_items(vectors, ids)
    built = time.process_time() - start
    graph.set_num_threads(1)
    graph.save_index(str(folder / "hnswlib"))
    one = Candidate("hnswlib", lambda q: graph.knn_query(q, K)[0].astype(np.int64), built,
                    (folder / "hnswlib").stat().st_size)  # fmt: skip
    return _as_good(one, graph.set_ef, queries, *held_to)


def _usearch(
    vectors: np.ndarray, ids: np.ndarray, folder: Path, queries: np.ndarray, held_to: Any
) -> Candidate:
    from usearch.index import Index as Graph

    start = time.process_time()
    graph = Graph(ndim=vectors.shape[1], metric="cos", dtype="f16", connectivity=LINKS,
                  expansion_add=EXPANSION)  # fmt: skip
    graph.add(ids, vectors)
    built = time.process_time() - start
    graph.save(str(folder / "usearch"))
    one = Candidate("usearch", lambda q: graph.search(q, K, threads=1).keys.reshape(1, K), built,
                    (folder / "usearch").stat().st_size)  # fmt: skip
    return _as_good(one, lambda n: setattr(graph, "expansion_search", n), queries, *held_to)


PEERS = {"hnswlib": _hnswlib, "usearch": _usearch}


def _as_good(
    one: Candidate, expand: Callable[[int], Any], queries: np.ndarray,
    truth: np.ndarray, wanted: float,
) -> Candidate:  # fmt: skip
    """Search with the least expansion that reaches the recall wanted."""
    for expansion in EXPANSIONS:
        expand(expansion)
        _run(one, queries)
        if neighbour_recall(one.found, truth) >= wanted:
            break
    one.name += f", expansion {expansion}"
    return one


def _run(one: Candidate, queries: np.ndarray) -> None:
    """Search for each query twice, and measure the second time: what others read in between may
    have taken the place of the pages that it needs."""
    for query in queries:
        one.search(query[None])
    times, found, cpu = [], [], time.thread_time()
    for query in queries:
        start = time.perf_counter()
        found.append(one.search(query[None])[0])
        times.append(time.perf_counter() - start)
    one.cpu.append((time.thread_time() - cpu) / len(queries))
    one.wall.append(np.array(times))
    one.found = np.array(found).astype(np.int64)


def _cells(one: Candidate, truth: np.ndarray, n: int) -> list[str]:
    p50, p95 = np.quantile(np.concatenate(one.wall), [0.5, 0.95]) * 1e3
    return [
        one.name, f"{p50:.2f} ms", f"{p95:.2f} ms", f"{np.median(one.cpu) * 1e3:.2f} ms",
        f"{neighbour_recall(one.found, truth):.4f}", f"{one.built:.1f} s", f"{one.size / n:,.0f}",
    ]  # fmt: skip

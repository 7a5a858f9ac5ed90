"""Query latency at growing sizes, beside scikit-learn's NearestNeighbors."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from benchmarks.photographs import CACHE
from benchmarks.table import Table
from benchmarks.vectors import expanded, real_embeddings

SIZES, QUICK = (10_000, 100_000, 1_000_000), (2_000, 5_000)
QUERIES = 300


def measure(*, quick: bool) -> list[Table]:
    """One row a size and a search."""
    table = Table(
        "Searching",
        "One query at a time, the 10 nearest of n vectors of 512 dimensions, transform included. "
        "The vectors are MobileNetV2's of CIFAR-10 (96 px), and beyond those points between an "
        "embedding and one of its ten neighbours, with noise. recall@10 is against exact search. "
        "scikit-learn: NearestNeighbors(metric='cosine'), brute force, on transformed vectors. "
        "The queries are held out of the same vectors. load: opening the file, memory-mapped.",
        ["vectors", "search", "p50", "p95", "recall@10", "built in", "load", "file"],
    )
    real = real_embeddings(quick=quick)
    for n in QUICK if quick else SIZES:
        _measure_one(table, real, n)
    return [table]


def _measure_one(table: Table, real: np.ndarray, n: int) -> None:
    from sklearn.neighbors import NearestNeighbors

    from retrieval import transform as transforms
    from retrieval.index import Index
    from retrieval.metrics import neighbour_recall

    x = expanded(real, n + QUERIES)
    held_out = np.random.default_rng(1).choice(len(x), QUERIES, replace=False)
    queries = x[held_out].astype(np.float32)
    x[held_out[held_out < n]] = x[n:][~np.isin(np.arange(n, len(x)), held_out)]
    x = x[:n]
    transform = transforms.fit("whiten:512", x[:: max(1, n // 20_000)])

    def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for at in range(0, n, 4096):
            yield np.arange(at, min(n, at + 4096)), x[at : at + 4096]

    start = time.perf_counter()
    index = Index.build(transform, batches, n)
    built = time.perf_counter() - start
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        file = Path(folder) / "index.faiss"
        index.save(file)
        start = time.perf_counter()
        index = Index.load(file, index.settings)
        load, size = time.perf_counter() - start, file.stat().st_size
        times, found = _one_by_one(lambda q: index.search(q, 10)[1], queries)
    vectors = np.concatenate([index.transform(part) for _, part in batches()])
    exact = NearestNeighbors(n_neighbors=10, metric="cosine", algorithm="brute").fit(vectors)
    asked = queries[:100]
    theirs, truth = _one_by_one(lambda q: exact.kneighbors(index.transform(q))[1], asked)
    recall = neighbour_recall(found[: len(truth)], truth)
    table.add(f"{n:,}", f"imgret: {index.kind}", *_quantiles(times), f"{recall:.4f}",
              f"{built:.1f} s", f"{load * 1e3:.1f} ms", f"{size / 1e6:.0f} MB")  # fmt: skip
    table.add(f"{n:,}", "scikit-learn", *_quantiles(theirs), "1", "", "", "")


def _one_by_one(
    search: Callable[[np.ndarray], np.ndarray], queries: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    for query in queries[:50]:
        search(query[None])
    times, found = [], []
    for query in queries:
        start = time.perf_counter()
        found.append(search(query[None])[0])
        times.append(time.perf_counter() - start)
    return np.array(times), np.array(found)


def _quantiles(times: np.ndarray) -> tuple[str, str]:
    p50, p95 = np.quantile(times, [0.5, 0.95]) * 1e3
    return f"{p50:.2f} ms", f"{p95:.2f} ms"

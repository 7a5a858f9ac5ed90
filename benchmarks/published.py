"""Searches of a gallery that is published in Milvus, beside those of its file."""

from __future__ import annotations

import importlib.util
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.galleries import gallery_of_points
from benchmarks.milvus_server import MilvusProcess
from benchmarks.photographs import CACHE
from benchmarks.table import Table
from benchmarks.vectors import expanded, held_out, real_embeddings
from retrieval.index.cells import exact_neighbours
from retrieval.retriever import Retriever
from retrieval.words import ServedKind

ROWS, QUICK = 100_000, 2_000
QUERIES, K, ROUNDS = 200, 10, 3
KINDS: tuple[ServedKind, ...] = ("hnsw", "ivf_sq8")  # diskann is made for more than fits here


def measure(*, quick: bool) -> list[Table]:
    """One row a search; none where no server can be started."""
    if importlib.util.find_spec("milvus") is None or MilvusProcess.runs_elsewhere():
        print("  skipped: no Milvus server can be started here", file=sys.stderr)
        return []
    n = QUICK if quick else ROWS
    table = Table(
        "Published galleries",
        f"`Retriever.search_embeddings` for the {K} nearest of {n:,} images, one query at a time: "
        "vectors, matches, paths and labels. Embeddings and queries are those of `benchmarks "
        f"searching`, transformed to 512 numbers; {QUERIES} queries. Milvus 2.3.5 runs on the same "
        f"two cores. Medians of {ROUNDS} rounds in turns; CPU is that of this process and of the "
        "server. `published` is the time of `imgret publish`, and the CPU of both.",
        ["search", "p50", "p95", "CPU here", "CPU there", f"recall@{K}", "published"],
    )
    with tempfile.TemporaryDirectory(dir=CACHE) as made:
        queries, x = held_out(expanded(real_embeddings(quick=quick), n + QUERIES), QUERIES)
        gallery = gallery_of_points(Path(made) / "gallery", x)
        server = MilvusProcess(Path(made) / "milvus")
        try:
            server.start()
            _measure_all(table, gallery, server, queries)
        finally:
            server.kill()
    return [table]


def _measure_all(table: Table, gallery: Path, server: MilvusProcess, queries: np.ndarray) -> None:
    local = Retriever(gallery)
    searched, told = {f"file: {local.info().index}": local}, {"": ""}
    for kind in KINDS:
        place = f"milvus://127.0.0.1:{server.port}/{kind}"
        cpu = time.process_time(), server.cpu
        done = local.publish(place, kind=kind)
        cpu = time.process_time() - cpu[0], server.cpu - cpu[1]
        name = f"Milvus: {kind}, effort {done.effort}"
        searched[name] = Retriever(f"{place}?gallery={gallery}")
        told[name] = f"{done.seconds:.0f} s, CPU {cpu[0]:.0f} + {cpu[1]:.0f} s"
    truth = _nearest(local, queries)
    walls: dict[str, list[float]] = {name: [] for name in searched}
    cpus: dict[str, list[tuple[float, float]]] = {name: [] for name in searched}
    found: dict[str, list[list[int]]] = {}
    for _ in range(ROUNDS):
        for name, retriever in searched.items():
            retriever.search_embeddings(queries[:3], K)
            before = time.process_time(), server.cpu
            found[name] = [_timed(retriever, query, walls[name]) for query in queries]
            cpus[name].append((time.process_time() - before[0], server.cpu - before[1]))
    for name in searched:
        here, there = 1e3 * np.median(cpus[name], axis=0) / QUERIES
        p50, p95 = 1e3 * np.quantile(walls[name], [0.5, 0.95])
        recall = np.mean([len({*a} & {*b}) / K for a, b in zip(found[name], truth, strict=True)])
        table.add(name, f"{p50:.1f} ms", f"{p95:.1f} ms", f"{here:.1f} ms",
                  f"{there:.1f} ms" if "Milvus" in name else "", f"{recall:.4f}",
                  told.get(name, ""))  # fmt: skip


def _timed(retriever: Retriever, query: np.ndarray, walls: list[float]) -> list[int]:
    start = time.perf_counter()
    (matches,) = retriever.search_embeddings(query, K)
    walls.append(time.perf_counter() - start)
    return [match.id for match in matches]


def _nearest(local: Retriever, queries: np.ndarray) -> list[list[int]]:
    """The ids of the nearest by exact search."""
    with local.open() as gallery:
        index, table = gallery.state.index, gallery.state.table
        transform: Callable[[np.ndarray], np.ndarray] = index.transform
        unit = queries / np.linalg.norm(queries, axis=1, keepdims=True)
        batches = ((ids, transform(x)) for ids, x in table.embeddings())
        ids, _ = exact_neighbours(transform(unit), np.full(len(queries), -1), batches)
    return [[int(i) for i in row[:K]] for row in ids]

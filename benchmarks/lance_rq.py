"""Lance's own index of one-bit codes (IVF_RQ), in the rows of `benchmarks kinds`."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa

from benchmarks.photographs import CACHE
from retrieval.files import disk_use
from retrieval.metrics import neighbour_recall

ROWS_AT_ONCE = 20_000


def lance_rows(
    vectors: np.ndarray, queries: np.ndarray, true: np.ndarray, refined: Sequence[int],
    partitions: int, probes: Sequence[int],
) -> Iterator[list[str]]:  # fmt: skip
    """One row a number of refined candidates; CPU is of all threads, since Lance has its own."""
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        place = Path(folder) / "vectors.lance"
        dataset = lance.write_dataset(_batches(vectors), place, _schema(vectors.shape[1]))
        start = time.process_time()
        dataset.create_index("vector", "IVF_RQ", metric="dot", num_partitions=partitions)
        adding = f"{1e3 * (time.process_time() - start) / len(vectors):.3f} ms"
        held = round(disk_use(place / "_indices") / len(vectors))
        for candidates in refined:
            row = ["Lance IVF_RQ, 1 bit", str(candidates or ""), str(held), adding]
            for cells in probes:
                row += _cells(dataset, queries, true, candidates, cells)
            yield row


def _schema(dim: int) -> pa.Schema:
    return pa.schema([("id", pa.int64()), ("vector", pa.list_(pa.float16(), dim))])


def _batches(vectors: np.ndarray) -> pa.RecordBatchReader:
    schema = _schema(vectors.shape[1])

    def made() -> Iterator[pa.RecordBatch]:
        for at in range(0, len(vectors), ROWS_AT_ONCE):
            part = vectors[at : at + ROWS_AT_ONCE]
            column = pa.FixedSizeListArray.from_arrays(pa.array(part.ravel()), part.shape[1])
            ids = pa.array(np.arange(at, at + len(part)))
            yield pa.RecordBatch.from_arrays([ids, column], schema=schema)

    return pa.RecordBatchReader.from_batches(schema, made())


def _cells(
    dataset: Any, queries: np.ndarray, true: np.ndarray, candidates: int, cells: int
) -> list[str]:
    k = true.shape[1]
    near: dict[str, Any] = {"column": "vector", "k": k, "nprobes": cells}
    if candidates:
        near["refine_factor"] = candidates // k

    def found(query: np.ndarray) -> np.ndarray:
        scanner = dataset.scanner(["id", "_distance"], nearest={**near, "q": query})
        return np.asarray(scanner.to_table()["id"])

    for query in queries[:20]:
        found(query)
    start = time.process_time()
    ids = [found(query) for query in queries]
    taken = 1e3 * (time.process_time() - start) / len(queries)
    return [f"{neighbour_recall(np.array(ids), true):.4f}", f"{taken:.2f} ms"]

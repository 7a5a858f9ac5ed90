"""Rows, embeddings and transformed embeddings as one file for others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from retrieval.errors import ArgumentError
from retrieval.files import replaced, scratch_folder
from retrieval.gallery import Gallery
from retrieval.gallery.filter import INDEXED
from retrieval.retriever.snapshot import Snapshot
from retrieval.text import unwritable


def export_gallery(gallery: Gallery, snapshot: Snapshot, file: Path) -> int:
    """Write what is searched, row by row, to Parquet or NumPy's npz; atomically."""
    writers = {".parquet": _export_parquet, ".npz": _export_npz}
    suffix = file.suffix.lower()
    if suffix not in writers:
        raise ArgumentError(f"{file} has an unknown suffix. Use .parquet or .npz.")
    try:
        with replaced(file.absolute()) as made, scratch_folder(made.parent) as scratch:
            rows = writers[suffix](gallery, snapshot, made, scratch)
    except OSError as error:
        raise unwritable(file, error) from error
    return rows


def _export_parquet(gallery: Gallery, snapshot: Snapshot, file: Path, _: Path) -> int:
    d, out = snapshot.table.dim, snapshot.index.d_out
    schema = pa.schema(
        [
            ("ids", pa.int64()),
            ("paths", pa.string()),
            ("labels", pa.string()),
            ("embeddings", pa.list_(pa.float32(), d)),
            ("transformed", pa.list_(pa.float32(), out)),
        ]
    )
    rows = 0
    with pq.ParquetWriter(file, schema) as writer:
        for block in snapshot.table.blocks("id", "path", "label", "embedding"):
            raw = block.embeddings.astype(np.float32)
            paths = [str(gallery.full(path)) for path in block.paths]
            done = snapshot.index.transform(raw)
            columns = [pa.array(block.ids), pa.array(paths), pa.array(block.labels, pa.string())]
            columns += [
                pa.FixedSizeListArray.from_arrays(pa.array(m.ravel()), m.shape[1])
                for m in (raw, done)
            ]
            writer.write_batch(pa.record_batch(columns, schema=schema))
            rows += len(block)
    return rows


def _export_npz(gallery: Gallery, snapshot: Snapshot, file: Path, scratch: Path) -> int:
    """The two matrices lie on disk while they are made, so that memory stays small."""
    n, table = snapshot.table.count(INDEXED), snapshot.table
    named = table.block("id", "path", "label", where=INDEXED)
    matrices = {
        name: np.lib.format.open_memmap(
            scratch / f"{name}.npy", "w+", dtype=np.float32, shape=(n, width)
        )
        for name, width in (("embeddings", table.dim), ("transformed", snapshot.index.d_out))
    }
    start = 0
    for block in table.blocks("embedding"):
        rows = slice(start, start + len(block))
        matrices["embeddings"][rows] = block.embeddings
        matrices["transformed"][rows] = snapshot.index.transform(matrices["embeddings"][rows])
        start = rows.stop
    np.savez(
        file,
        ids=named.ids,
        paths=np.array([str(gallery.full(path)) for path in named.paths], np.str_),
        labels=np.array([label or "" for label in named.labels], np.str_),
        embeddings=matrices["embeddings"],
        transformed=matrices["transformed"],
    )
    return n

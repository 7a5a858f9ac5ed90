"""Look after a gallery: describe, estimate, remove, verify, export, open for searching."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from retrieval.encoder import Encoder
from retrieval.errors import GalleryError, ImgretError
from retrieval.files import disk_use, replaced, scratch_folder
from retrieval.gallery import Gallery, ImageTable, IndexState, Settings, storable
from retrieval.gallery.rows import as_matrix
from retrieval.gallery.settings import read_text
from retrieval.gallery.table import INDEXED
from retrieval.loader import load_images
from retrieval.retriever.plan import Plan
from retrieval.retriever.publish import (
    bring_up_index,
    build_index,
    load_index,
    open_to_write,
)
from retrieval.retriever.results import GalleryInfo, IndexEstimate
from retrieval.retriever.snapshot import Snapshot
from retrieval.retriever.writer import Reading, encode_batches
from retrieval.text import unwritable

PROBED = 64
ROW_BYTES = 300  # path, hash, label and what Lance adds, without the embedding


def stamp(gallery: Gallery) -> tuple[int, ...]:
    """Changes whenever something is published."""
    try:
        stat = gallery.settings_path.stat()
    except FileNotFoundError:
        return ()
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


def open_snapshot(gallery: Gallery) -> Snapshot:
    """What can be searched now; an index that is missing or damaged is made again.

    Raises GalleryError when there is nothing to search yet.
    """
    while True:
        seen = stamp(gallery)
        settings, table = gallery.settings(), gallery.open_table()
        state = gallery.index_state(settings, table)
        if state is not None:
            with contextlib.suppress(GalleryError):
                return open_published(gallery, state, settings)
        if stamp(gallery) == seen:  # else a writer has published anew, and taken away what we read
            break
    usable = table.count(INDEXED)
    if usable == 0:
        raise _nothing_in(gallery)
    try:
        if table.stepped_back is not None:
            raise GalleryError(table.stepped_back)  # who only reads gives no version up
        with gallery.lock(wait=0):
            settings, table = open_to_write(gallery)
            if gallery.index_state(settings, table) is None:  # raises, saying why there is none
                settings = bring_up_index(gallery, table, settings.without_derived())
    except GalleryError:  # another process writes, or nobody may: then for this search alone
        index, _ = build_index(table, settings, usable)
        return Snapshot(gallery, table, index, settings)
    if settings.index is None:
        raise _nothing_in(gallery)
    return open_published(gallery, settings.index, settings)


def _nothing_in(gallery: Gallery) -> GalleryError:
    return GalleryError(
        f"{gallery.path} holds no image that could be embedded. Run `imgret index FOLDER`; "
        "`imgret info --failed` tells why images failed."
    )


def open_published(gallery: Gallery, state: IndexState, settings: Settings) -> Snapshot:
    """The published rows and index. Raises GalleryError when they are damaged."""
    table = gallery.open_table(state.version)
    if (
        table.is_ours
        and read_text(table.settings, gallery.table_path) != settings.without_derived()
    ):
        table.is_ours = gallery.open_table().is_ours  # it is the newest that has these settings
    return Snapshot(gallery, table, load_index(gallery, state), settings)


def estimate(plan: Plan, encoder: Encoder | None, reading: Reading) -> IndexEstimate:
    """Counts from a plan, time and disk from reading and encoding a few of its images."""
    new = sum(task.stored is None for task in plan.tasks)
    seconds = size = None
    probed = 0
    if encoder is not None and plan.tasks:
        step = max(1, len(plan.tasks) // PROBED)
        sample = [task.file for task in plan.tasks[::step]][:PROBED]
        batch_size = min(reading.batch_size or encoder.batch_size, len(sample))
        pixels = encoder.spec.preprocessing.size
        encoder.encode(np.zeros((batch_size, pixels, pixels, 3), np.uint8))
        start = time.monotonic()
        loaded = load_images(
            sample,
            encoder.spec.preprocessing,
            max_pixels=reading.max_pixels,
            workers=reading.workers,
        )
        probed = sum(len(batch) for batch in encode_batches(loaded, encoder, batch_size))
        seconds = (time.monotonic() - start) / probed * len(plan.tasks)
        size = len(plan.tasks) * (ROW_BYTES + 2 * encoder.spec.dim + 4 * min(encoder.spec.dim, 512))
    return IndexEstimate(
        new=new,
        changed=len(plan.tasks) - new,
        unchanged=plan.unchanged + plan.failed,
        removed=len(plan.gone),
        seconds=seconds,
        bytes=size,
        probed=probed,
        engine=encoder.engine if encoder else None,
        passed_over=plan.passed_over_by_kind,
    )


def describe(gallery: Gallery) -> GalleryInfo:
    """A gallery in figures, with the path and reason of each failed row."""
    settings, table = gallery.settings(), gallery.open_table()
    state = gallery.index_state(settings, table)
    index = None
    if state is not None:
        try:
            index = load_index(gallery, state)
        except GalleryError:
            state = None
    failures = table.columns(["path", "error"], "error IS NOT NULL").to_pylist()
    notes = table.columns(["path", "facts"], "facts.note IS NOT NULL").to_pylist()
    passed_over = sum((Counter(p.kinds) for p in settings.passed_over), Counter[str]())
    usable, b = table.count(INDEXED), settings.backbone
    return GalleryInfo(
        gallery=gallery.path,
        images=usable,
        failed=len(failures),
        labels=len(table.columns(["label"], f"label IS NOT NULL AND {INDEXED}")["label"].unique()),
        backbone=b.name,
        weights_sha256=b.weights_sha256,
        size=b.size,
        fit=b.fit,
        pool=b.pool,
        views=b.views,
        dim=b.dim,
        engine=settings.engine,
        transform=state.transform if state else "",
        transform_asked=settings.transform,
        transform_dim=index.d_out if index else 0,
        fitted_on=state.fitted_on if state else 0,
        index=index.kind if index else "none yet",
        recall=index.recall if index else None,
        indexed=index.ntotal if index else 0,
        current=bool(index and index.ntotal == usable and state and state.version == table.version),
        bytes_images=disk_use(gallery.table_path),
        bytes_index=sum(file.stat().st_size for file in gallery.path.glob("index-*.faiss")),
        version=table.version,
        failures=tuple((row["path"], row["error"]) for row in failures),
        leftovers=tuple(gallery.leftovers()),
        notes=tuple((row["path"], row["facts"]["note"]) for row in notes),
        passed_over=tuple(passed_over.most_common()),
        confidence=_confidence(settings),
    )


def _confidence(settings: Settings) -> str:
    known = settings.calibration
    if known is None or known.method != settings.method:
        return ""
    what = "has the query's class" if known.kind == "class" else "shows the same thing"
    return (
        f"that a match {what}; off by {known.error:.3f} on average, learnt from {known.queries:,} "
        f"queries, where {known.prior_known:.0%} have an answer"
    )


def rows_below(gallery: Gallery, table: ImageTable, paths: Sequence[Path]) -> list[int]:
    """Ids of the rows of these files and of all files below these folders, there or not."""
    roots_above = gallery.roots_above(storable(gallery.stored_root(path)) for path in paths)
    columns = table.columns(["id", "path"])
    ids, stored = columns["id"].to_pylist(), columns["path"].to_pylist()
    return [i for i, path in zip(ids, stored, strict=True) if roots_above(path)]


def published_rows(gallery: Gallery, paths: Sequence[Path]) -> list[int]:
    """rows_below() of the version that is searched; none where that cannot be read."""
    try:
        state = gallery.settings().index
        table = gallery.open_table(state.version) if state else None
        return rows_below(gallery, table, paths) if table else []
    except GalleryError:
        return []


def export_gallery(gallery: Gallery, snapshot: Snapshot, file: Path) -> int:
    """Write what is searched, row by row, to Parquet or NumPy's npz; atomically."""
    writers = {".parquet": _export_parquet, ".npz": _export_npz}
    if file.suffix not in writers:
        raise ImgretError(f"{file}: export writes .parquet or .npz. Give such a name.")
    try:
        with replaced(file.absolute()) as made, scratch_folder(made.parent) as scratch:
            rows = writers[file.suffix](gallery, snapshot, made, scratch)
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
        for batch in snapshot.table.batches(["id", "path", "label", "embedding"]):
            raw = as_matrix(batch["embedding"]).astype(np.float32)
            paths = [str(gallery.full(path)) for path in batch["path"].to_pylist()]
            done = snapshot.index.transform(raw)
            columns = [batch["id"], pa.array(paths), batch["label"]]
            columns += [
                pa.FixedSizeListArray.from_arrays(pa.array(m.ravel()), m.shape[1])
                for m in (raw, done)
            ]
            writer.write_batch(pa.record_batch(columns, schema=schema))
            rows += batch.num_rows
    return rows


def _export_npz(gallery: Gallery, snapshot: Snapshot, file: Path, scratch: Path) -> int:
    """The two matrices lie on disk while they are made, so that memory stays small."""
    n, table = snapshot.table.count(INDEXED), snapshot.table
    facts = table.columns(["id", "path", "label"], INDEXED)
    matrices = {
        name: np.lib.format.open_memmap(
            scratch / f"{name}.npy", "w+", dtype=np.float32, shape=(n, width)
        )
        for name, width in (("embeddings", table.dim), ("transformed", snapshot.index.d_out))
    }
    start = 0
    for batch in table.batches(["embedding"]):
        rows = slice(start, start + batch.num_rows)
        matrices["embeddings"][rows] = as_matrix(batch["embedding"])
        matrices["transformed"][rows] = snapshot.index.transform(matrices["embeddings"][rows])
        start = rows.stop
    np.savez(
        file,
        ids=facts["id"].to_numpy(),
        paths=np.array([str(gallery.full(path)) for path in facts["path"].to_pylist()], np.str_),
        labels=np.array([label or "" for label in facts["label"].to_pylist()], np.str_),
        embeddings=matrices["embeddings"],
        transformed=matrices["transformed"],
    )
    return n

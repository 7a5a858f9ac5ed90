"""A gallery in figures, and what a run of index would cost."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

import numpy as np

from retrieval.encoder import Encoder
from retrieval.errors import GalleryError
from retrieval.files import disk_use
from retrieval.gallery import Gallery, ImageTable, IndexState, Settings, read_one_state
from retrieval.gallery.dataset import changed
from retrieval.gallery.filter import FAILED, INDEXED, LABELLED, NOTED
from retrieval.index import GrowingIndex
from retrieval.loader import load_images
from retrieval.milvus import ServedAddress
from retrieval.retriever.batches import encode_batches
from retrieval.retriever.current import stamp
from retrieval.retriever.file_neighbours import faiss_of
from retrieval.retriever.plan import Plan
from retrieval.retriever.publish import (
    load_index,
)
from retrieval.retriever.reports import GalleryInfo, IndexEstimate
from retrieval.retriever.snapshot import Snapshot
from retrieval.retriever.writer import Reading

PROBED = 64
ROW_BYTES = 300  # path, hash, label and what Lance adds, without the embedding


def estimate(plan: Plan, encoder: Encoder | None, reading: Reading) -> IndexEstimate:
    """Estimate from a plan, and from reading and encoding a few of its images."""
    new = plan.tasks.new
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


def describe(gallery: Gallery, address: ServedAddress | None = None) -> GalleryInfo:
    """Describe a gallery in figures, with the path and reason of each failed row.

    address: where it was published, which is described, too.
    """
    found = read_one_state(partial(_described, gallery))
    if address is None:
        return found
    from retrieval.retriever.served import describe_served

    return replace(found, served=describe_served(address, gallery))


def _described(gallery: Gallery, leases: ExitStack) -> GalleryInfo:
    seen, settings, table = stamp(gallery), gallery.settings(), gallery.open_table()
    leases.enter_context(table.lease())
    state = gallery.index_state(settings, table)
    index = None
    if state is not None:
        try:
            index = load_index(gallery, state)
        except GalleryError:
            state = None
    if index is None and stamp(gallery) != seen:  # a writer published another, and deleted this one
        raise changed(gallery.path)
    return _told(gallery, settings, table, state, index)


def describe_state(snapshot: Snapshot) -> GalleryInfo:
    """Describe one published state, which is open, whatever was written since."""
    settings = snapshot.settings
    faiss = faiss_of(snapshot)
    return _told(snapshot.gallery, settings, snapshot.table, settings.index, faiss)


def _told(
    gallery: Gallery,
    settings: Settings,
    table: ImageTable,
    state: IndexState | None,
    index: GrowingIndex | None,
) -> GalleryInfo:
    failures = table.block("path", "error", where=FAILED)
    noted = table.block("path", "facts", where=NOTED)
    pairs = zip(noted.paths, noted.facts, strict=True)
    passed_over = sum((Counter(p.kinds) for p in settings.passed_over), Counter[str]())
    usable, b = table.count(INDEXED), settings.backbone
    return GalleryInfo(
        gallery=gallery.path,
        images=usable,
        failed=len(failures),
        labels=table.block("label", where=LABELLED & INDEXED).count_distinct("label"),
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
        bytes_index=sum(file.stat().st_size for file in gallery.path.glob("index-*")),
        version=table.version,
        state=table.state_name,
        failures=tuple(zip(failures.paths, failures.reasons, strict=True)),
        leftovers=tuple(gallery.leftovers()),
        notes=tuple((path, f.note) for path, f in pairs if f and f.note),
        passed_over=tuple(passed_over.most_common()),
        confidence=_confidence(settings, usable),
        labels_set=int(table.block("label_set").labels_set.sum()),
    )


def _confidence(settings: Settings, images: int) -> str:
    known = settings.calibration_of(images)
    if known is None:
        return ""
    what = "has the query's class" if known.kind == "class" else "shows the same thing"
    return (
        f"that a match {what}; off by {known.error:.3f} on average, learnt from {known.queries:,} "
        f"queries, where {100 * known.prior_known:g} % have an answer"
    )

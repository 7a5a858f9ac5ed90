"""Past one machine: Lance's manifest at many fragments; 10^9 images over 100 nodes, simulated."""

from __future__ import annotations

import tempfile
import time
import tracemalloc
from pathlib import Path

import lance
import numpy as np
import pyarrow as pa

from benchmarks.photographs import CACHE
from benchmarks.simulated import AT_ONCE, HOUR, PART, CommitCosts, Fleet, SimulatedRun
from benchmarks.table import Table
from retrieval.gallery import Gallery
from retrieval.gallery import rows as stored
from retrieval.gallery.stored_rows import StoredRows
from retrieval.retriever.labels import labels_from
from retrieval.retriever.plan import make_plan

FRAGMENTS, QUICK_FRAGMENTS = (100, 1_000, 5_000, 15_000), (20, 60)
FILES, QUICK_FILES, DIM = 50_000, 500, 1280


def measure(*, quick: bool) -> list[Table]:
    """The manifest is measured, the rest is simulated with what it costs."""
    table, costs = _manifests(quick=quick)
    planned = bytes_planned(QUICK_FILES if quick else FILES)
    return [table, _simulations(costs, planned, quick=quick)]


def bytes_planned(files: int) -> float:
    """Bytes that the driver holds of each new image, once its plan is made."""
    with tempfile.TemporaryDirectory(dir=CACHE) as name:
        folder = Path(name) / "photos"
        for n in range(files):
            file = folder / f"{n // 1000:04}" / f"IMG_{n:08}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
        gallery, rows = Gallery(Path(name) / "g.imgret"), StoredRows.read(None)
        tracemalloc.start()
        plan = make_plan(gallery, rows, [folder], labels_from("folder"))
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        if len(plan.tasks) != files:
            raise ValueError("the plan is not of all files")
        return held / files


def _manifests(*, quick: bool) -> tuple[Table, CommitCosts]:
    table = Table(
        "Lance's manifest",
        f"A table of imgret's columns ({DIM}-d) of so many fragments, one row each: what is in "
        f"them does not matter here. `commit` appends {AT_ONCE} staged fragments (median of 5), "
        "`open` opens the newest version, `take` reads one row by its place. `manifest` is the "
        "size of what each commit writes anew. On this machine's disk.",
        ["fragments", "commit", "open", "take", "manifest", "bytes a fragment"],
    )
    found: list[tuple[int, float, int]] = []
    with tempfile.TemporaryDirectory(dir=CACHE) as name:
        path = Path(name) / "images.lance"
        schema = stored.schema(DIM, "", "scale")
        lance.write_dataset(schema.empty_table(), str(path), data_storage_version="2.2")
        for count in QUICK_FRAGMENTS if quick else FRAGMENTS:
            there = len(lance.dataset(str(path)).get_fragments())
            for first in range(there, count, 500):
                _append(path, schema, first, min(500, count - first))
            seconds = []
            for n in range(5):
                staged = _staged(path, schema, count + n * AT_ONCE, AT_ONCE)
                began = time.perf_counter()
                _commit(path, staged)
                seconds.append(time.perf_counter() - began)
            commit = float(np.median(seconds))
            began = time.perf_counter()
            dataset = lance.dataset(str(path))
            opened = time.perf_counter() - began
            began = time.perf_counter()
            dataset.take([count // 2], columns=["path"])
            taken = time.perf_counter() - began
            total = len(dataset.get_fragments())
            size = max(file.stat().st_size for file in (path / "_versions").iterdir())
            found.append((total, commit, size))
            table.add(
                f"{total:,}", f"{1e3 * commit:.0f} ms", f"{1e3 * opened:.0f} ms",
                f"{1e3 * taken:.0f} ms", f"{size / 1e6:.2f} MB", f"{size / total:.0f}",
            )  # fmt: skip
    slope, base = np.polyfit([n for n, _, _ in found], [seconds for _, seconds, _ in found], 1)
    last = found[-1]
    return table, CommitCosts(max(0.0, float(base)), max(0.0, float(slope)), last[2] / last[0])


def _append(path: Path, schema: pa.Schema, first: int, count: int) -> None:
    _commit(path, _staged(path, schema, first, count))


def _staged(path: Path, schema: pa.Schema, first: int, count: int) -> list[lance.FragmentMetadata]:
    pieces = []
    for n in range(first, first + count):
        row = stored.Row(
            id=n, path=f"photos/{n:09}.jpg", root="photos", size=1, mtime_ns=1,
            embedding=np.zeros(DIM, np.float16),
        )  # fmt: skip
        data = stored.to_arrow([row], schema)
        pieces += lance.fragment.write_fragments(data, str(path), data_storage_version="2.2")
    return pieces


def _commit(path: Path, pieces: list[lance.FragmentMetadata]) -> None:
    operation = lance.LanceOperation.Append(pieces)
    version = lance.dataset(str(path)).version
    lance.LanceDataset.commit(str(path), operation, read_version=version)


def _simulations(costs: CommitCosts, planned: float, *, quick: bool) -> Table:
    small = {"images": 20_000_000} if quick else {}
    fleets = [
        Fleet("no failures", **small),
        Fleet("a node lives 1,000 h, the driver 1,000 h", node_life=1e3, driver_life=1e3, **small),
        Fleet("spot: a node 6 h, the driver 100 h", node_life=6, driver_life=100, **small),
        Fleet("bad: a node 1 h, the driver half an hour", node_life=1, driver_life=0.5, **small),
        Fleet("1 image of 10^7 kills its worker", poisoned=1e-7, **small),
        Fleet("8 cores each, no GPU, spot", rate=500, node_life=6, driver_life=100, **small),
    ]
    table = Table(
        "Simulated runs",
        f"{fleets[0].images:,} images over {fleets[0].nodes} nodes of {fleets[0].rate:,.0f} "
        f"images/s (but for the last), in parts of {PART:,}, {AT_ONCE} parts a commit, which cost "
        "what the table above says. A lost node is back after 10 minutes, a lost driver after 5. "
        "Seed 0. `lost` is the share of the nodes' time that was done again or waited. `driver` is "
        "the share of the time in which the driver commits. `plan` is what it holds of the images "
        f"that are not stored yet, {planned:,.0f} bytes each (measured).",
        ["failures", "time", "lost", "nodes lost", "drivers lost", "driver", "fragments",
         "manifest", "plan"],
    )  # fmt: skip
    for fleet in fleets:
        out = SimulatedRun(fleet, costs).run()
        table.add(
            fleet.name, f"{out.seconds / HOUR:.2f} h",
            f"{100 * out.lost / (out.seconds * fleet.nodes):.1f} %", f"{out.nodes_lost:,}",
            f"{out.drivers_lost}", f"{100 * out.committing / out.seconds:.1f} %",
            f"{out.fragments:,}", f"{out.fragments * costs.bytes_each / 1e6:.1f} MB",
            f"{fleet.images * planned / 1e9:,.0f} GB",
        )  # fmt: skip
    return table

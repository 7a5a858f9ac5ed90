"""What a run of index has to do: the same as by plain dicts, without an object for each row."""

from __future__ import annotations

import hashlib
import os
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import hypothesis
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import strategies as st

from retrieval.gallery import Gallery, ImageTable, Row, stored_rows
from retrieval.gallery.contents import Contents
from retrieval.gallery.filter import UNSETTLED
from retrieval.gallery.reader import TableReader
from retrieval.gallery.stored_rows import StoredRow, StoredRows, tells_changes_after
from retrieval.images import ImageFile, find_images
from retrieval.retriever.labels import labels_from
from retrieval.retriever.plan import Plan, make_plan
from retrieval.retriever.tasks import Task

FOLDERS, FILES, WIDTH = 100, 200, 256
WRITTEN, READ = 10**18 + 5, 11 * 10**17


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def save_empty(file: Path, size: int, mtime_ns: int = WRITTEN) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    os.truncate(file, size)
    os.utime(file, ns=(mtime_ns, mtime_ns))


def store(gallery: Gallery, rows: Sequence[Row], width: int = 4) -> ImageTable:
    gallery.path.mkdir()
    table = ImageTable.create(gallery.table_path, width, "")
    table.write(rows, replace=False)
    return table


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Gallery:
    """20,000 files of no content, stored as they are."""
    home, rows = tmp_path_factory.mktemp("large"), []
    embeddings = np.random.default_rng(0).random((FOLDERS * FILES, WIDTH)).astype(np.float16)
    for n, embedding in enumerate(embeddings):
        folder = f"{n // FILES:03} on the beach"
        path = f"p/{folder}/IMG_20240102_{n:06}.jpg"
        save_empty(home / path, n)
        rows.append(
            Row(n, path, "p", n, WRITTEN, sha256(path), 9, 9, folder, embedding, stored_ns=READ)
        )
    gallery = Gallery(home / ".imgret")
    store(gallery, rows, WIDTH)
    return gallery


def plan_of(gallery: Gallery, rows: StoredRows, **options: Any) -> Plan:
    return make_plan(gallery, rows, [gallery.base / "p"], labels_from("folder"), **options)


def counting(real: Callable[..., None], made: dict[str, int], name: str) -> Callable[..., None]:
    def init(self: object, *values: object, **named: object) -> None:
        made[name] += 1
        real(self, *values, **named)

    return init


@contextmanager
def counted(*kinds: type) -> Iterator[dict[str, int]]:
    """Count the objects of some classes that are made meanwhile."""
    made = {kind.__name__: 0 for kind in kinds}
    with pytest.MonkeyPatch.context() as patch:
        for kind in kinds:
            patch.setattr(kind, "__init__", counting(kind.__init__, made, kind.__name__))
        yield made


def test_only_what_is_done_becomes_an_object(large: Gallery) -> None:
    rows, told = StoredRows.read(large.open_table()), []
    with counted(StoredRow, Task, ImageFile) as made:
        plan = plan_of(large, rows, progress=lambda _, done, __: told.append(done))
    assert (plan.unchanged, [*plan.tasks], plan.gone) == (FOLDERS * FILES, [], {})
    assert made == {"StoredRow": 0, "Task": 0, "ImageFile": 0}
    assert told == list(range(100, FOLDERS * FILES + 1, 100))
    new, changed = large.base / "p" / "new.png", large.base / "p/001 on the beach"
    save_empty(new, 5)
    (changed / "IMG_20240102_000200.jpg").rename(changed / "IMG_20240102_000201.jpg")
    try:
        with counted(StoredRow, Task, ImageFile) as made:
            plan = plan_of(large, rows)
        with counted(StoredRow, Task, ImageFile) as made_then:
            tasks = [*plan.tasks]
    finally:
        new.unlink()
        (changed / "IMG_20240102_000201.jpg").rename(changed / "IMG_20240102_000200.jpg")
        save_empty(changed / "IMG_20240102_000201.jpg", 201)
    assert (len(tasks), len(plan.gone), plan.unchanged) == (2, 1, FOLDERS * FILES - 2)
    assert made == {"StoredRow": 1, "Task": 0, "ImageFile": 0}
    assert made_then == {"StoredRow": 1, "Task": 2, "ImageFile": 2}


def test_a_row_costs_few_bytes_also_with_its_content(large: Gallery) -> None:
    table = large.open_table()
    plan_of(large, StoredRows.read(table))  # imports and caches
    tracemalloc.start()
    try:
        of_arrow = pa.total_allocated_bytes()
        rows = StoredRows.read(table)
        plan = plan_of(large, rows)
        contents = Contents.read(table, rows)
        held = tracemalloc.get_traced_memory()[0] + pa.total_allocated_bytes() - of_arrow
    finally:
        tracemalloc.stop()
    assert plan.unchanged == FOLDERS * FILES
    assert contents.places(sha256(rows.path(7))).tolist() == [7]
    assert held / len(rows) < 120


def test_reading_rows_holds_nothing_of_what_was_read_with_their_columns(
    large: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, held = TableReader.batches, []

    def batches(*arguments: Any, **named: Any) -> Iterator[pa.RecordBatch]:
        """Give batches whose columns lie in one buffer each, of the pool that counts."""
        before, rows = pa.total_allocated_bytes(), 0
        for batch in real(*arguments, **named):
            data = batch.serialize()
            schema, rows = batch.schema, rows + len(batch)
            del batch
            yield pa.ipc.read_record_batch(data, schema)
            del data
            held.append((pa.total_allocated_bytes() - before) / rows)

    table = large.open_table()
    monkeypatch.setattr(TableReader, "batches", batches)
    monkeypatch.setattr(stored_rows, "ROWS_A_BATCH", 1000)
    tracemalloc.start()
    try:
        rows = StoredRows.read(table)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(held) == len(rows) / 1000
    assert held[-1] < 60
    assert peak / len(rows) < 120


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="tells bytes read on Linux alone")
def test_no_embedding_is_read(large: Gallery) -> None:
    def bytes_read() -> int:
        return int(Path("/proc/self/io").read_text().split()[1])

    table, before = large.open_table(), bytes_read()
    assert plan_of(large, StoredRows.read(table)).unchanged == FOLDERS * FILES
    assert bytes_read() - before < FOLDERS * FILES * 2 * WIDTH / 4


def test_contents_give_the_places_of_copies_and_none_for_what_was_not_read(tmp_path: Path) -> None:
    ends_in_zero = sha256("x")[:-4] + "0000"
    sums = {"b/1.png": ends_in_zero, "a/1.png": sha256("y"), "b/0.png": "", "1.png": ends_in_zero}
    table = store(
        Gallery(tmp_path / "g"), [Row(n, *p, sha256=s) for n, (p, s) in enumerate(
            ((path, "."  , 1, 1), s) for path, s in sums.items())]
    )  # fmt: skip
    rows = StoredRows.read(table)
    contents = Contents.read(table, rows)
    assert [rows.path(place) for place in contents.places(ends_in_zero)] == ["b/1.png", "1.png"]
    assert [rows.path(place) for place in contents.places(sha256("y"))] == ["a/1.png"]
    assert [*contents.places(""), *contents.places(sha256("z"))] == []
    assert [rows.row(int(place)).id for place in contents.places(ends_in_zero)] == [0, 3]
    assert list(Contents.none().places(ends_in_zero)) == []


# The same plan as by plain dicts

BELOW = ("", "p/", "p/q/", "p/q.png/", "r/")
PATHS = [f"{below}{name}" for below in BELOW for name in ("a.png", "c.dat", "é.webp", "link.png")]
PATHS.append("p/q.png")  # was a file, and is a folder
GIVEN = (".", "p", "p/q", "p/q.png", "r", "p/a.png", "a.png", "r/é.webp")
KINDS = {  # what may be stored; the first value, of a file that needs nothing, is the usual one
    "size": (5, 6),
    "mtime_ns": (WRITTEN, WRITTEN + 1),
    "stored_ns": (READ, WRITTEN),
    "label": ("p", "q", None),
    "error": (None, "truncated", "pip install it", "unread"),
}


def draw_facts(random: Random) -> dict[str, Any]:
    return {
        name: random.choice(values) if random.random() < 0.3 else values[0]
        for name, values in KINDS.items()
    }


def row_of(number: int, path: str, facts: dict[str, Any]) -> Row:
    embedding = None if facts["error"] else np.ones(4, np.float16)
    content = "" if facts["error"] == "unread" else sha256(path)
    return Row(number, path, "p", sha256=content, embedding=embedding, **facts)


def by_dicts(
    gallery: Gallery, table: ImageTable, paths: Sequence[Path], *, checksum: bool
) -> dict[str, Any]:
    """What a plan says, from a dict of all rows and a list of all files."""
    names = ["id", "path", "size", "mtime_ns", "label", "error", "stored_ns"]
    rows = {row["path"]: row for row in table.columns(names).to_pylist()}
    retried = set(table.columns(["id"], UNSETTLED)["id"].to_pylist())
    known = {gallery.base / path for path in rows}
    files = find_images(paths, known=lambda of: {p.name for p in known if p.parent == of.resolve()})
    said: dict[str, Any] = {"tasks": [], "relabel": [], "unchanged": 0, "failed": 0}
    seen = set()
    for file in files:
        path = (file.path.parent.resolve() / file.path.name).relative_to(gallery.base).as_posix()
        seen.add(path)
        row, label = rows.get(path), file.path.absolute().parent.name
        if (
            row is None
            or checksum
            or file.error
            or (row["size"], row["mtime_ns"]) != (file.size, file.mtime_ns)
            or not tells_changes_after(file.mtime_ns, row["stored_ns"])
            or row["id"] in retried
        ):
            said["tasks"].append((file, path, label, row and row["id"]))
            continue
        said["failed" if row["error"] else "unchanged"] += 1
        if row["label"] != label:
            said["relabel"].append((row["id"], label))
    whole = [path.resolve() for path in paths]
    said["gone"] = {
        path: row["id"]
        for path, row in rows.items()
        if path not in seen and {gallery.base / path, *(gallery.base / path).parents} & set(whole)
    }
    said["searched"] = {
        gallery.stored_root(path): sum(
            {gallery.base / file, *(gallery.base / file).parents} >= {root} for file in seen
        )
        for path, root in zip(paths, whole, strict=True)
    }
    return said


@hypothesis.settings(max_examples=25)
@hypothesis.given(st.randoms(use_true_random=True), st.booleans())
def test_a_plan_is_that_of_plain_dicts(random: Random, checksum: bool) -> None:
    stored = {path: draw_facts(random) for path in random.sample(PATHS, 14)}
    with tempfile.TemporaryDirectory() as home:
        gallery = Gallery(Path(home) / ".imgret")
        for folder in BELOW:
            (gallery.base / folder).mkdir(parents=True, exist_ok=True)
        for path in random.sample(PATHS[:-1], 14):
            if path.endswith("link.png"):
                (gallery.base / path).symlink_to("nowhere")
            else:
                save_empty(gallery.base / path, 5)
        table = store(gallery, [row_of(n, path, stored[path]) for n, path in enumerate(stored)])
        given = random.sample(GIVEN, random.choice([1, 2, 3]))
        roots = [gallery.base / path for path in given if (gallery.base / path).exists()]
        expected = by_dicts(gallery, table, roots, checksum=checksum)
        plan = make_plan(
            gallery, StoredRows.read(table), roots, labels_from("folder"), checksum=checksum
        )
        assert {
            "tasks": [(t.file, t.path, t.label, t.stored and t.stored.id) for t in plan.tasks],
            "relabel": plan.relabel,
            "unchanged": plan.unchanged,
            "failed": plan.failed,
            "gone": {path: row.id for path, row in plan.gone.items()},
            "searched": plan.searched,
        } == expected

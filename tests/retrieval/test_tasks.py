"""The files of a plan in columns: what goes in comes out, at few bytes a file."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st

from retrieval.gallery import Gallery, ImageTable, Row
from retrieval.gallery.stored_rows import StoredRow, StoredRows
from retrieval.images import FoundFile, FoundFolder, ImageFile
from retrieval.images.files import image_file
from retrieval.objects import ObjectPath
from retrieval.retriever import plan as plans
from retrieval.retriever.labels import labels_from
from retrieval.retriever.plan import Plan, make_plan
from retrieval.retriever.tasks import Task, TaskFolder, Tasks

FILES = 20_000
INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
# every string that Python may have, surrogates of any kind included, and long ones
TEXTS = st.text(st.characters(exclude_categories=())) | st.sampled_from(
    ["a\udcff.jpg", "\udcc3\udca9.png", "\ud800", "two\nlines.png", "n" * 5000, "ÿ.png", ""]
)
NAMES = TEXTS.map(lambda text: text.replace("/", "").replace("\0", "")).filter(
    lambda name: name not in ("", ".", "..")
)
FOLDERS = st.sampled_from(
    [Path(), Path("p"), Path("/p/q"), Path("s3:/b/p"), ObjectPath("s3://b/p"), ObjectPath("gs://b")]
) | NAMES.map(Path)
FILES_FOUND = st.builds(
    FoundFile, NAMES, INT64, INT64, st.none() | TEXTS, st.none() | TEXTS, st.none()
)
ROWS = st.builds(
    StoredRow, INT64, TEXTS, INT64, INT64, st.none() | TEXTS, INT64, st.booleans(), st.booleans()
)
IMAGES = st.builds(
    lambda folder, name, *facts: ImageFile(folder / name, *facts),
    FOLDERS, NAMES, FOLDERS, INT64, INT64, st.none() | TEXTS, st.none() | TEXTS,
)  # fmt: skip
TASKS = st.builds(
    Task, IMAGES, TEXTS, TEXTS, st.none() | TEXTS, st.none() | ROWS, st.booleans()
)  # fmt: skip


def spelled(tasks: list[Task]) -> list[tuple[Task, type, type]]:
    """The tasks with the kinds of their paths: an address may equal a path of the same parts."""
    return [(task, type(task.file.path), type(task.file.root)) for task in tasks]


@hypothesis.given(st.lists(TASKS))
def test_any_task_comes_back_as_it_was(tasks: list[Task]) -> None:
    held = Tasks()
    for task in tasks:
        held.append(task)
    assert len(held) == len(tasks)
    assert spelled(list(held)) == spelled(tasks)
    assert held[::-2] == tasks[::-2]
    assert [held[place] for place in range(-len(tasks), len(tasks))] == tasks * 2
    with pytest.raises(IndexError):
        held[len(tasks)]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> StoredRows:
    table = ImageTable.create(tmp_path_factory.mktemp("rows") / "images.lance", 4, "")
    table.write([Row(n, f"p/{n}", "p", n, n) for n in range(3)], replace=False)
    return StoredRows.read(table)


@hypothesis.given(
    st.lists(
        st.tuples(
            FOLDERS, FOLDERS, TEXTS, TEXTS, FILES_FOUND, st.none() | TEXTS, st.none() | TEXTS,
            st.none() | st.integers(0, 2), st.booleans(),
        )
    )
)  # fmt: skip
def test_a_found_file_comes_back_as_the_task_that_it_is(
    rows: StoredRows,
    found: list[tuple[Path, Path, str, str, FoundFile, str | None, str | None, int | None, bool]],
) -> None:
    held, tasks = Tasks(rows), []
    for folder, root, prefix, stored_root, file, other_path, label, place, by_hand in found:
        path = prefix + file.name if other_path is None else other_path
        at = TaskFolder(folder, root, prefix, stored_root)
        held.add(at, file, path, label, place, label_set=by_hand)
        image = image_file(FoundFolder(folder, root, ()), file)
        row = None if place is None else rows.row(place)
        tasks.append(Task(image, path, stored_root, label, row, by_hand))
    assert spelled(list(held)) == spelled(tasks)
    new = [task for task in tasks if task.stored is None]
    assert held.new == len(new)
    wanted = {task.file.size for task in tasks[::2]}
    assert held.new_sizes_among(wanted) == wanted & {task.file.size for task in new}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    return tmp_path / "photos"


def planned(
    monkeypatch: pytest.MonkeyPatch,
    given: Path,
    describe: Callable[[int], FoundFile],
    *,
    in_folder: int = 1000,
    labels: str = "folder",
) -> tuple[Plan, float]:
    """The plan of FILES found files, and what it holds in bytes a file."""
    folders = [
        FoundFolder(given / f"{n:05}", given, [describe(n + m) for m in range(in_folder)])
        for n in range(0, FILES, in_folder)
    ]
    monkeypatch.setattr(plans, "find_folders", lambda *_, **__: iter(folders))
    gallery, none = Gallery(given.parent / "g.imgret"), StoredRows.read(None)
    make_plan(gallery, none, [given], labels_from(labels))  # imports and caches
    tracemalloc.start()
    try:
        plan = make_plan(gallery, none, [given], labels_from(labels))
        return plan, tracemalloc.get_traced_memory()[0] / FILES
    finally:
        tracemalloc.stop()


def test_a_new_file_costs_its_name_and_few_bytes(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, held = planned(
        monkeypatch, photos, lambda n: FoundFile(f"IMG_{n:07}.jpg", 10**5 + n, 10**18 + n)
    )
    assert len(plan.tasks) == plan.tasks.new == FILES
    assert len(plan.tasks[7].file.path.name) == 15
    assert held < 75


def test_a_folder_of_one_new_file_costs_its_path_and_few_bytes(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, held = planned(
        monkeypatch, photos, lambda n: FoundFile(f"IMG_{n:07}.jpg", n, n),
        in_folder=1, labels="none",
    )  # fmt: skip
    assert plan.tasks[-1].file.path == photos / f"{FILES - 1:05}" / f"IMG_{FILES - 1:07}.jpg"
    assert held < 75 + 1.2 * (50 + len(str(photos)) + len("photos/00000/"))


def test_a_new_object_costs_its_etag_as_well(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, held = planned(
        monkeypatch, photos, lambda n: FoundFile(f"{n:011}.jpg", n, n, None, f'"{n:032}"')
    )
    assert plan.tasks[-1].file.etag == f'"{FILES - 1:032}"'
    assert held < 75 + 1.2 * 35

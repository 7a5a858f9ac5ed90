"""What each command reads, writes and holds of a gallery of 20,000 rows: counts, not times."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retrieval.encoder import cache_folder
from retrieval.evaluation import vectors
from retrieval.gallery import ImageTable, Row
from retrieval.index import EXACT_UP_TO
from retrieval.retriever import Retriever, usable
from retrieval.retriever.duplicates import opened
from retrieval.retriever.publish import bring_up_index
from tests.samples import picture

ROWS, A_FOLDER, NEW = 20_000, 200, 20
COUNTS = Path("/proc/self/io")

pytestmark = pytest.mark.skipif(not COUNTS.is_file(), reason="needs Linux' counts of bytes")


@dataclass(frozen=True)
class Grown:
    """A folder of files of zeros beside one picture, and a gallery of them with made-up vectors."""

    folder: Path
    retriever: Retriever

    @property
    def embeddings(self) -> int:
        """Their bytes in the table."""
        return 2 * ROWS * self.retriever.gallery.settings().backbone.dim

    @property
    def index(self) -> int:
        """The bytes of the large index file."""
        state = self.retriever.gallery.settings().index
        assert state is not None
        return self.retriever.gallery.index_files_of(state).main.stat().st_size


@dataclass
class Bytes:
    """What a step read and wrote by system calls; mapped files are not counted.

    held: by Python and NumPy at most, where that was asked for.
    """

    read: int = 0
    written: int = 0
    held: int = 0


def counted(step: Callable[[], object]) -> Bytes:
    before = counts()
    step()
    after = counts()
    return Bytes(after["rchar"] - before["rchar"], after["wchar"] - before["wchar"])


def counted_with_held(step: Callable[[], object]) -> Bytes:
    """Count what a step holds, too; it then takes twice as long."""
    tracemalloc.start()
    try:
        cost = counted(step)
        return replace(cost, held=tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()


def counts() -> dict[str, int]:
    lines = (line.split(": ") for line in COUNTS.read_text().splitlines())
    return {name: int(value) for name, value in lines}


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grown]:
    folder = tmp_path_factory.mktemp("grown")
    picture(1).save(folder / "picture.png")
    os.utime(folder / "picture.png", (1e9 + 0.5, 1e9 + 0.5))
    retriever = Retriever(folder / ".imgret", transform="whiten:64")
    retriever.index(folder)
    table, random = retriever.gallery.open_table(), np.random.default_rng(0)
    vectors = random.normal(size=(ROWS, table.dim)).astype(np.float16)
    rows = [row_of(folder, n, vectors[n]) for n in range(ROWS)]
    ids = table.next_ids(ROWS)
    table.write(
        [Row(**{**vars(r), "id": i}) for i, r in zip(ids, rows, strict=True)], replace=False
    )
    bring_up_index(retriever.gallery, table, retriever.gallery.settings(), refit=True)
    yield Grown(folder, retriever)
    shutil.rmtree(folder)


def row_of(folder: Path, n: int, vector: np.ndarray) -> Row:
    name = f"class{n // A_FOLDER:03}/{n:05}.jpg"
    file = folder / name
    file.parent.mkdir(exist_ok=True)
    with file.open("wb") as stream:
        os.truncate(stream.fileno(), 1000 + n)
    status = file.stat()
    sha256 = hashlib.sha256(name.encode()).hexdigest()
    return Row(
        0, name, ".", status.st_size, status.st_mtime_ns, sha256, 80, 60, file.parent.name, vector,
        stored_ns=time.time_ns() + 10**10,
    )  # fmt: skip


def fresh(grown: Grown) -> Retriever:
    """A retriever that has nothing open."""
    return Retriever(grown.retriever.gallery.path)


def test_the_gallery_is_large_enough_to_tell(grown: Grown) -> None:
    assert ROWS < EXACT_UP_TO
    assert grown.embeddings > 5_000_000
    assert grown.index > 5_000_000


def test_looking_and_searching_read_a_few_columns(grown: Grown) -> None:
    query = grown.folder / "picture.png"
    steps: dict[str, Callable[[], object]] = {
        "info": lambda: fresh(grown).info(),
        "query": lambda: fresh(grown).search(query),
        "where": lambda: fresh(grown).search(query, where="label = 'class003'"),
        "exclude_self": lambda: fresh(grown).search(query, exclude_self=True),
    }
    fresh(grown).search(query)  # opens the encoder, which reads more
    read = {name: counted(step).read for name, step in steps.items()}
    compiled = sum(file.stat().st_size for file in cache_folder().glob("compiled/*"))
    assert max(read.values()) - compiled < 0.25 * grown.embeddings, read


def test_leaving_a_stranger_out_reads_no_column(
    grown: Grown, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = tmp_path / "stranger.png"
    read: list[str] = []
    picture(3).save(stranger)
    columns = ImageTable.columns

    def noted(self: ImageTable, names: list[str], *rest: Any) -> Any:
        read.extend(names)
        return columns(self, names, *rest)

    monkeypatch.setattr(ImageTable, "columns", noted)
    assert len(fresh(grown).search(stranger, exclude_self=True)) == 5
    assert not {"path", "size", "sha256"} & set(read)


def test_a_run_with_nothing_new_reads_no_embedding_and_writes_next_to_nothing(grown: Grown) -> None:
    reports = []
    cost = counted(lambda: reports.append(fresh(grown).index(grown.folder)))
    assert reports[0].unchanged == ROWS + 1
    assert cost.read < 0.4 * grown.embeddings
    assert cost.written < 200_000


def test_a_few_new_images_and_their_removal_leave_the_large_files_alone(grown: Grown) -> None:
    new, retriever = grown.folder / "new", fresh(grown)
    new.mkdir()
    for n in range(NEW):
        picture(100 + n).save(new / f"{n}.png")
    state = retriever.gallery.settings().index
    assert state is not None
    main = retriever.gallery.index_files_of(state).main
    before = main.stat().st_ino, main.stat().st_mtime_ns
    added = counted(lambda: fresh(grown).index(new))
    assert fresh(grown).search(new / "3.png")[0].path == new / "3.png"
    removed = counted(lambda: fresh(grown).remove(new))
    assert all(match.path.parent != new for match in fresh(grown).search(new / "3.png"))
    assert (main.stat().st_ino, main.stat().st_mtime_ns) == before
    for cost in (added, removed):
        assert cost.read < 0.5 * grown.embeddings
        assert cost.written < 1_000_000
    shutil.rmtree(new)


def test_verify_reads_each_embedding_once(grown: Grown) -> None:
    cost = counted(lambda: fresh(grown).verify())
    least = grown.embeddings + grown.index
    assert least < cost.read < 1.5 * least


def test_duplicates_of_bytes_and_a_map_read_a_few_columns(grown: Grown) -> None:
    steps: dict[str, Callable[[], object]] = {
        "bytes": lambda: fresh(grown).duplicates(tier="bytes"),
        "map": lambda: fresh(grown).map(most_images=60),
    }
    for name, step in steps.items():
        step()  # imports
        cost = counted_with_held(step)
        assert cost.read < 0.1 * grown.embeddings, name
        assert cost.written < 100_000, name
        assert cost.held < 500 * ROWS, name


def test_similar_images_are_copied_once_and_compared_in_blocks(
    grown: Grown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opened, "LARGE_FROM", ROWS // 2)  # as above 100,000 rows
    reports = []
    cost = counted_with_held(lambda: reports.append(fresh(grown).duplicates()))
    assert reports[0].approximate
    assert reports[0].images == ROWS + 1
    assert cost.read < 1.3 * grown.embeddings
    assert cost.written < 1.1 * grown.embeddings
    assert cost.held < 2.5 * grown.embeddings


def test_an_evaluation_of_few_queries_holds_blocks_of_the_gallery(
    grown: Grown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usable.read_images, "__kwdefaults__", {"held": 0})  # as above 256 MB
    small = vectors.Bounds(rows=1 << 12, held=0)
    monkeypatch.setattr(vectors.Bounds.__init__, "__defaults__", tuple(vars(small).values()))

    def step() -> object:
        return fresh(grown).evaluate(k=[1, 5], most_queries=64, calibrate=False)

    step()  # imports
    cost = counted_with_held(step)
    assert cost.read < 2.5 * grown.embeddings
    assert cost.written < 100_000
    assert cost.held < 0.8 * grown.embeddings


def test_compacting_after_a_few_changes_writes_each_row_once_at_most(grown: Grown) -> None:
    new = grown.folder / "new"
    new.mkdir()
    for n in range(NEW):
        picture(100 + n).save(new / f"{n}.png")
    fresh(grown).index(new)
    shutil.rmtree(new)
    fresh(grown).remove(new)
    cost = counted(lambda: fresh(grown).index(grown.folder, compact=True))
    once = grown.embeddings + grown.index
    assert cost.read < 3.3 * once  # to compare it, to merge it, and for its checksum
    assert cost.written < 1.3 * once

"""Ids that are reserved, and rows that are staged by one and committed by another."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings as checked
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from retrieval.errors import GalleryError
from retrieval.gallery import Gallery, ImageTable, Row
from retrieval.gallery.staged import (
    StagedRows,
    commit_staged,
    drop_staged,
    reserve_ids,
    stage_rows,
)
from retrieval.gallery.table import IDS_PER_VERSION

DIM = 4


def row(id_: int, path: str) -> Row:
    vector = np.random.default_rng(id_).random(DIM).astype(np.float16)
    return Row(id=id_, path=path, root="p", size=1, mtime_ns=0, sha256="ab" * 32, embedding=vector)


def stored_rows(ids: range | list[int]) -> list[Row]:
    return [row(i, f"p/{i}.png") for i in ids]


def data_files(table: ImageTable) -> set[str]:
    return {file.name for file in (table.path / "data").iterdir()}


@pytest.fixture
def table(tmp_path: Path) -> ImageTable:
    return ImageTable.create(tmp_path / "images.lance", DIM, "")


def test_staged_rows_are_seen_by_nobody_until_they_are_committed_together(
    table: ImageTable,
) -> None:
    ids = reserve_ids(table, 6)
    other = ImageTable.open(table.path)
    parts = [stage_rows(other, stored_rows(ids[:3])), stage_rows(other, stored_rows(ids[3:]))]
    assert ImageTable.open(table.path).count() == 0
    before = table.version
    commit_staged(table, parts)
    assert (table.version, table.count()) == (before + 1, 6)
    assert sorted(table.ids().tolist()) == list(ids)
    blocks = [b for piece in table.pieces() for b in table.blocks_of_piece(piece)]
    assert not any(block.damaged.any() for block in blocks)
    assert table.is_ours
    table.drop_old_versions()
    assert ImageTable.open(table.path).count() == 6


def test_what_nobody_committed_is_swept_by_the_next_writer_and_what_was_staged_since_is_not_lost(
    table: ImageTable,
) -> None:
    stage_rows(table, stored_rows(reserve_ids(table, 2)))
    assert len(data_files(table)) == 1
    table.drop_old_versions()
    assert data_files(table) == set()
    kept, dropped = (stage_rows(table, stored_rows(reserve_ids(table, 2))) for _ in range(2))
    commit_staged(table, [kept])
    drop_staged(table, [dropped])
    assert data_files(table) == {file.name for file in table.files() if file.suffix == ".lance"}


def test_a_commit_leaves_alone_what_another_process_is_writing(
    table: ImageTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its file is renamed at any moment, and then there is none of its first name to sync."""
    synced = []
    monkeypatch.setattr("retrieval.gallery.versions.sync", lambda path: synced.append(path.name))
    staged = stage_rows(table, stored_rows(reserve_ids(table, 2)))
    (table.path / "data" / ".tmpA1b2C3").write_bytes(b"half")
    commit_staged(table, [staged])
    assert data_files(table) - {".tmpA1b2C3"} <= set(synced)
    assert ".tmpA1b2C3" not in synced
    monkeypatch.undo()
    table.drop_old_versions()
    assert ".tmpA1b2C3" not in data_files(table)


@pytest.mark.parametrize("harm", ["short", "gone", "outside", "no json", "other"])
def test_a_piece_that_is_not_as_it_was_staged_is_refused_and_nothing_is_committed(
    table: ImageTable, harm: str
) -> None:
    staged = stage_rows(table, stored_rows(reserve_ids(table, 2)))
    (file,) = (table.path / "data").iterdir()
    text = json.loads(staged.pieces[0])
    if harm == "short":
        file.write_bytes(file.read_bytes()[:-9])
    elif harm == "gone":
        file.unlink()
    elif harm == "outside":
        text["files"][0]["path"] = "../" + text["files"][0]["path"]
    piece = {"no json": "{", "other": '{"id": 1}'}.get(harm, json.dumps(text))
    good = stage_rows(table, stored_rows(reserve_ids(table, 2)))
    with pytest.raises(GalleryError, match="Run the same command again"):
        commit_staged(table, [good, StagedRows((piece,), 2)])
    assert ImageTable.open(table.path).count() == 0


def test_ids_that_many_reserve_at_once_never_meet(table: ImageTable) -> None:
    given: list[range] = []

    def reserve() -> None:
        mine = ImageTable.open(table.path)
        for n in (1, 7, 3):
            given.append(reserve_ids(mine, n))

    threads = [threading.Thread(target=reserve) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(given) == 12
    ids = [i for part in given for i in part]
    assert len(set(ids)) == len(ids) == 4 * 11


def test_who_was_overtaken_by_a_commit_of_rows_gives_none_of_its_ids(table: ImageTable) -> None:
    stale = ImageTable.open(table.path)
    table.write(stored_rows(list(table.next_ids(3))), replace=False)
    behind = table.next_ids(IDS_PER_VERSION)  # of a writer that has read this version
    reserved = reserve_ids(stale, 5)
    ids = {*table.ids().tolist(), *behind, *reserved}
    assert len(ids) == 3 + IDS_PER_VERSION + 5
    assert table.ids().max() < reserved.start


class EveryWayToGiveIds(RuleBasedStateMachine):
    """No id is given twice, whatever commands come one after the other."""

    @initialize()
    def create(self) -> None:
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.gallery = Path(self.folder.name) / "images.lance"
        self.table = ImageTable.create(self.gallery, DIM, "")
        self.given: set[int] = set()
        self.staged: list[StagedRows] = []
        self.others = 0

    def give(self, ids: range) -> None:
        assert self.given.isdisjoint(ids)
        self.given |= set(ids)

    @rule(n=st.integers(1, 3))
    def index(self, n: int) -> None:
        ids = self.table.next_ids(n)
        self.give(ids)
        self.table.write(stored_rows(ids), replace=False)

    @rule(n=st.integers(1, 3), crashes=st.booleans())
    def stage(self, n: int, crashes: bool) -> None:
        ids = reserve_ids(self.table, n)
        self.give(ids)
        staged = stage_rows(self.table, stored_rows(ids))
        if crashes:
            self.table = ImageTable.open(self.gallery)
        else:
            self.staged.append(staged)

    @rule()
    def commit(self) -> None:
        commit_staged(self.table, self.staged)
        self.staged = []

    @rule()
    def remove(self) -> None:
        self.table.remove(self.table.ids()[:2].tolist())

    @rule()
    def compact(self) -> None:
        self.table.compact(everything=True)
        if not self.staged:
            self.table.drop_old_versions()

    @rule(parts=st.lists(st.integers(1, 3), max_size=4))
    def reembed(self, parts: list[int]) -> None:
        """The new table has ids of its own, and a name of its own."""
        self.others += 1
        place = self.gallery.with_name(f"other-{self.others}.lance")
        new = ImageTable.create(place, DIM, "")
        for n in parts:
            ids = reserve_ids(new, n)
            commit_staged(new, [stage_rows(new, stored_rows(ids))])
            self.given |= set(ids)
        self.table.become(new)
        self.staged = []

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            ids = self.table.ids().tolist()
            assert len(set(ids)) == len(ids)
            self.folder.cleanup()


EveryWayToGiveIds.TestCase.settings = checked(
    max_examples=12, stateful_step_count=12, deadline=None
)
TestEveryWayToGiveIds = EveryWayToGiveIds.TestCase


def test_a_plain_run_after_a_reservation_finds_its_rows(tmp_path: Path) -> None:
    """The ids of what is indexed later lie behind all that were reserved."""
    from retrieval.retriever import Retriever
    from tests.retrieval.stored import save_small

    save_small(tmp_path / "p", "a.png", "b.png")
    retriever = Retriever(tmp_path / "g.imgret")
    retriever.index(tmp_path / "p")
    reserved = reserve_ids(Gallery(tmp_path / "g.imgret").open_table(), 1_000_000)
    save_small(tmp_path / "p", "c.png", first=9)
    retriever.index(tmp_path / "p")
    ids = Gallery(tmp_path / "g.imgret").open_table().ids().tolist()
    assert len(ids) == 3
    assert max(ids) >= reserved.stop
    assert not set(ids) & set(reserved)
    assert retriever.verify().ok

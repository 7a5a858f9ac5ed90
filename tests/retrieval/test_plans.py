"""The plan of a run of workers, as it lies in the gallery."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from retrieval.errors import GalleryWriteError
from retrieval.gallery import Gallery
from retrieval.gallery.plans import ROWS_WRITTEN, PlanFile, PlannedFile
from retrieval.retriever import Retriever
from tests.retrieval.stored import save_small

FILE = PlannedFile(
    id=7, part=0, file=Path("/p/a.png"), path="p/a.png", root="p", size=12, mtime_ns=5, label=None,
    error=None, etag=None, is_stored=False,
)  # fmt: skip


def test_a_plan_gives_the_files_of_a_part_as_they_were_written(tmp_path: Path) -> None:
    odd = Path(os.fsdecode(b"/p/odd-\xff.png"))
    rare = replace(FILE, file=odd, label="Zoë", error="it is a folder", is_stored=True, size=-1)
    files = [replace(FILE, id=n) for n in range(ROWS_WRITTEN)] + [rare]
    plan = PlanFile.write(tmp_path, files)
    assert plan.files(ROWS_WRITTEN - 1, ROWS_WRITTEN + 1) == files[-2:]
    assert plan.files(3, 5) == files[3:5]
    plan.delete()
    assert list(tmp_path.iterdir()) == []


def test_a_plan_takes_the_place_of_those_of_killed_runs(tmp_path: Path) -> None:
    killed = PlanFile.write(tmp_path, [FILE])
    plan = PlanFile.write(tmp_path, [FILE])
    assert not killed.path.exists()
    assert plan.files(0, 1) == [FILE]


def test_plans_that_are_a_link_of_a_stranger_lead_nobody_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "kept").write_text("x")
    pictures = save_small(tmp_path / "p", "a.png")
    retriever = Retriever(tmp_path / "g.imgret")
    retriever.index(pictures)
    link = tmp_path / "g.imgret" / "plans"
    for _ in range(2):
        link.symlink_to(tmp_path / "precious")
        retriever.index(pictures)
        assert not link.is_symlink()
    link.symlink_to(tmp_path / "precious")
    assert PlanFile.write(tmp_path / "g.imgret", [FILE]).path.parent == link
    assert not link.is_symlink()
    assert [file.name for file in (tmp_path / "precious").iterdir()] == ["kept"]


def test_a_plan_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(GalleryWriteError, match="cannot be written"):
        PlanFile.write(tmp_path / "file", [FILE])
    assert Gallery(tmp_path / "g.imgret").leftovers() == []

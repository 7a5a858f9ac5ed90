"""Files and folders that are replaced whole, and what processes that were killed leave of them."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from retrieval import files
from retrieval.files import (
    PREFIX,
    delete,
    disk_use,
    leftovers,
    new_folder,
    replaced,
    scratch_folder,
    sweep,
    write_atomically,
)

ROOT = Path(__file__).parents[2]
BEGIN = """
import sys, time
from pathlib import Path
from retrieval.files import *
from retrieval.files import new_folder, replaced, scratch_folder
place = Path(sys.argv[1])
makes = {"replaced": replaced(place / "a.txt"), "new_folder": new_folder(place / "f"),
         "scratch_folder": scratch_folder(place)}
with makes[sys.argv[2]] as made:
    (made / "x" if made.is_dir() else made).write_bytes(b"half")
    print("begun", flush=True)
    time.sleep(60)
"""
KINDS = ["replaced", "new_folder", "scratch_folder"]


@pytest.fixture
def begun(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    """A process that is in the middle of making something in tmp_path."""
    process = subprocess.Popen(
        [sys.executable, "-c", BEGIN, tmp_path, request.param],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        yield process
        process.kill()


@pytest.mark.parametrize("begun", KINDS, indirect=True)
def test_what_a_killed_process_left_is_swept_and_what_a_running_one_makes_is_not(
    tmp_path: Path, begun: subprocess.Popen[str]
) -> None:
    sweep(tmp_path)
    assert leftovers(tmp_path) == []
    (made,) = tmp_path.iterdir()
    begun.send_signal(signal.SIGKILL)
    begun.wait()
    assert leftovers(tmp_path) == [made]
    assert disk_use(made) == 4
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("begun", ["replaced"], indirect=True)
def test_who_next_writes_into_a_folder_sweeps_it(
    tmp_path: Path, begun: subprocess.Popen[str]
) -> None:
    begun.kill()
    begun.wait()
    write_atomically(tmp_path / "a.txt", b"whole")
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


def test_a_file_is_replaced_whole_or_stays(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    write_atomically(file, b"old")

    def fail() -> None:
        with replaced(file) as made:
            made.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]
    write_atomically(file, b"new")
    assert file.read_bytes() == b"new"


@pytest.mark.parametrize("make", [new_folder, scratch_folder])
def test_a_folder_that_fails_leaves_nothing(tmp_path: Path, make: object) -> None:
    place = tmp_path / "f" if make is new_folder else tmp_path

    def fail() -> None:
        with make(place) as made:  # type: ignore[operator]
            (made / "x").write_bytes(b"half")
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_new_folder_never_takes_the_place_of_a_full_one(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "mine").touch()
    with pytest.raises(OSError, match=r"f"), new_folder(tmp_path / "f") as made:
        (made / "x").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["f", "mine"]


def test_names_may_be_as_long_as_the_file_system_takes(tmp_path: Path) -> None:
    for name in ("x" * 255, "x" * 200 + "." + "y" * 54, "日" * 85):
        write_atomically(tmp_path / name, b"whole")
        assert (tmp_path / name).read_bytes() == b"whole"
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_new_files_have_the_rights_that_the_umask_leaves(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_atomically(tmp_path / "a", b"")
        with new_folder(tmp_path / "f") as made:
            (made / "x").touch()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o666 & ~umask
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o777 & ~umask


def test_errors_name_the_file_that_was_to_be_written(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"no/a\.txt"), replaced(tmp_path / "no" / "a.txt") as made:
        made.touch()


def test_a_link_of_our_name_is_neither_followed_nor_taken_for_a_leftover(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "x").touch()
    (tmp_path / f"{PREFIX}0").symlink_to(tmp_path / "mine")
    os.mkfifo(tmp_path / f"{PREFIX}1")
    sweep(tmp_path)
    assert (tmp_path / "mine" / "x").exists()
    delete(tmp_path / f"{PREFIX}0")
    assert (tmp_path / "mine" / "x").exists()


def test_folders_that_are_made_are_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(files, "sync", synced.append)
    files.make_folder(tmp_path / "a" / "b")
    assert synced == [tmp_path, tmp_path / "a"]
    files.make_folder(tmp_path / "a" / "b")
    assert len(synced) == 2

"""Files and folders that are replaced whole, and what processes that were killed leave of them."""

from __future__ import annotations

import errno
import mmap
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from retrieval import claims, files
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
from retrieval.gallery import Gallery
from retrieval.retriever import Retriever
from retrieval.text import unwritable
from tests.samples import save_pictures

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


def open_files() -> set[str]:
    handles = Path("/proc/self/fd").iterdir()
    return {str(handle.readlink()) for handle in handles if handle.is_symlink()}


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Windows does: no locks, and no file is renamed or deleted while this process has it open.

    No test runs there; see docs/reliability.md.
    """

    def refuse_open(path: Path) -> None:
        if str(path) in open_files():
            raise PermissionError(errno.EACCES, "Access is denied", str(path))

    def renames(path: Path, target: Path) -> Path:
        for end in (path, Path(target)):
            refuse_open(end)
        return replace(path, target)

    def deletes(path: Path, *, missing_ok: bool = False) -> None:
        refuse_open(path)
        unlink(path, missing_ok=missing_ok)

    replace, unlink = Path.replace, Path.unlink
    monkeypatch.setattr(files, "fcntl", None)
    monkeypatch.setattr(claims, "fcntl", None)
    monkeypatch.setattr(files, "PAUSE", 0.01)
    monkeypatch.setattr(Path, "replace", renames)
    monkeypatch.setattr(Path, "unlink", deletes)


@pytest.mark.usefixtures("windows")
def test_without_locks_a_file_is_replaced_whole_or_stays(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    write_atomically(file, b"old")

    def fail() -> None:
        with replaced(file) as made:
            made.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(tmp_path.iterdir()) == [file]
    write_atomically(file, b"new")
    assert file.read_bytes() == b"new"


@pytest.mark.usefixtures("windows")
def test_a_file_that_a_reader_has_open_is_replaced_once_it_is_closed(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    write_atomically(file, b"old")
    reader = file.open()
    closing = threading.Timer(0.02, reader.close)
    closing.start()
    write_atomically(file, b"new")
    closing.join()
    assert file.read_bytes() == b"new"


@pytest.mark.usefixtures("windows")
def test_a_file_that_stays_open_elsewhere_is_one_clear_sentence(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    write_atomically(file, b"old")
    with file.open(), pytest.raises(OSError, match="another program has it open") as caught:
        write_atomically(file, b"new")
    assert caught.value.filename == str(file)
    assert str(unwritable(file, caught.value)).endswith(
        "(another program has it open). Close the program that has it open, and "
        "run the same command again."
    )
    assert (file.read_bytes(), list(tmp_path.iterdir())) == (b"old", [file])


@pytest.mark.usefixtures("windows")
def test_without_locks_only_what_is_a_day_old_was_left_behind(tmp_path: Path) -> None:
    old, new = (tmp_path / f"{PREFIX}{name}" for name in ("old", "new"))
    for file in (old, new):
        file.touch()
    yesterday = time.time() - claims.ABANDONED - 60
    os.utime(old, (yesterday, yesterday))
    assert leftovers(tmp_path) == [old]


@pytest.mark.usefixtures("windows")
def test_an_index_that_a_reader_has_mapped_stays_until_the_next_time(tmp_path: Path) -> None:
    gallery = Gallery(tmp_path / "g")
    retriever = Retriever(gallery.path)
    retriever.index(save_pictures(tmp_path / "pictures"))
    settings = gallery.settings()
    old = gallery.index_files(1, 1).main
    old.write_bytes(b"of an earlier version")
    with old.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ):
        gallery.publish(settings)
        assert old.is_file()
    gallery.publish(settings)
    assert not old.exists()
    assert len(retriever.search(tmp_path / "pictures" / "class0" / "00.jpg", k=1)) == 1

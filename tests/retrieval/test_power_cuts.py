"""Cuts of the power, as root: the gallery lies on ext4 in a file, and a copy of that file is what a
disk holds when the power goes."""

from __future__ import annotations

import filecmp
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from retrieval.errors import ImgretError
from retrieval.retriever import Retriever
from tests.samples import command_environment, picture

CUTS = 44
# what is done over and over, and a line after each that has ended: to the disk it is safe then
WORK = """
import itertools, sys
from pathlib import Path
from retrieval.retriever import Retriever, writer
writer.ROWS_PER_COMMIT = 8
gallery, images, done = map(Path, sys.argv[1:])
for n in itertools.count():
    sizes = itertools.cycle([64, 96])
    steps = {
        "index a": lambda: Retriever(gallery).index(images / "a", batch_size=4),
        "index all": lambda: Retriever(gallery).index(images, batch_size=4),
        "remove": lambda: Retriever(gallery).remove(images / "b"),
        "index again": lambda: Retriever(gallery).index(images, batch_size=4),
        "refit": lambda: Retriever(gallery).index(images, refit=True),
        "reembed": lambda: Retriever(gallery, size=[64, 96][n % 2]).index(images, reembed=True),
        "remove again": lambda: Retriever(gallery).remove(images / "b"),
    }
    for name, step in steps.items():
        step()
        with done.open("a") as file:
            file.write(name + "\\n")
"""
AFTER = {
    "": "", "index a": "a", "index all": "ab", "remove": "a", "index again": "ab", "refit": "ab",
    "reembed": "ab", "remove again": "a",
}  # fmt: skip
NEXT = dict(zip(AFTER, [*list(AFTER)[1:], "index a"], strict=True))


def can_mount() -> bool:
    tools = all(shutil.which(tool) for tool in ("mkfs.ext4", "mount", "umount", "losetup"))
    if os.geteuid() != 0 or not tools:
        return False
    return subprocess.run(["losetup", "-f"], capture_output=True).returncode == 0


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not can_mount(), reason="needs root, ext4's tools and a loop device"),
]


@dataclass(frozen=True)
class Cut:
    """A disk as it was, and the step that had ended before it was copied and after."""

    disk: Path
    before: str
    after: str


@contextmanager
def mounted(disk: Path, place: Path) -> Iterator[Path]:
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", "-o", "loop", disk, place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("power") / "images"
    for n in range(32):
        file = folder / "ab"[n % 2] / f"{n:02}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        picture(n, 160, 120).save(file)
    return folder


@pytest.fixture(scope="module")
def cuts(images: Path, cache: Path) -> list[Cut]:
    """Copies of the disk at random moments of the work."""
    folder, moments = images.parent, random.Random(0)  # noqa: S311
    disk, done = folder / "disk.img", folder / "done.txt"
    with disk.open("wb") as file:
        file.truncate(96 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", disk], check=True)
    done.touch()
    found = []
    with mounted(disk, folder / "mounted") as place:
        work = subprocess.Popen(
            [sys.executable, "-c", WORK, place / "g.imgret", images, done],
            env=command_environment(cache),
            stderr=subprocess.DEVNULL,
        )
        try:
            for n in range(CUTS):
                time.sleep(moments.uniform(0.2, 2.0))
                assert work.poll() is None, "the work has ended by itself"
                before = ended(done)
                copy = folder / f"cut{n}.img"
                copy_at_one_moment(disk, copy, work)
                found.append(Cut(copy, before, ended(done)))
        finally:
            work.kill()
            work.wait()
    return found


def copy_at_one_moment(disk: Path, copy: Path, work: subprocess.Popen[bytes]) -> None:
    """Copy the disk as it is at one moment; one that is written to meanwhile never was so."""
    work.send_signal(signal.SIGSTOP)
    try:
        for _ in range(100):
            subprocess.run(["cp", "--sparse=always", disk, copy], check=True)
            if filecmp.cmp(disk, copy, shallow=False):  # only the kernel can have written
                return
        raise AssertionError("the disk does not come to rest")
    finally:
        work.send_signal(signal.SIGCONT)


def ended(done: Path) -> str:
    return (done.read_text().split("\n")[:-1] or [""])[-1]


def stored(gallery: Path) -> set[str]:
    return {Path(path).parent.name + "/" + Path(path).name for path in
            Retriever(gallery).gallery.open_table().paths()}  # fmt: skip


def test_no_cut_loses_a_gallery_or_what_was_committed(cuts: list[Cut], images: Path) -> None:
    assert len(cuts) >= 40
    all_files = {f"{file.parent.name}/{file.name}" for file in images.rglob("*.png")}
    opened, faults = 0, []
    for n, cut in enumerate(cuts):
        with mounted(cut.disk, images.parent / "cut") as place:
            gallery = place / "g.imgret"
            if not (gallery / "images.lance").is_dir():
                if cut.before:
                    faults.append(f"cut {n} after {cut.before!r}: there is no gallery")
                continue
            opened += 1
            fault = look(gallery, cut, all_files)
            try:
                Retriever(gallery).verify(repair=True)
                Retriever(gallery).index(images)
                if stored(gallery) != all_files or not Retriever(gallery).verify().ok:
                    fault = fault or "the next index does not make it whole"
            except ImgretError as error:
                fault = fault or str(error)
            if fault:
                faults.append(f"cut {n} after {cut.before!r}: {fault}")
    assert not faults
    assert opened >= 30


def look(gallery: Path, cut: Cut, all_files: set[str]) -> str | None:
    """What is wrong with a gallery after a cut, before anything has written to it."""
    try:
        rows = stored(gallery)
    except ImgretError as error:
        return str(error)
    # the cut fell between the moments before and after its copy, in one step or at its ends
    steps = [cut.before, NEXT[cut.before]]
    while steps[-1] != NEXT[cut.after]:
        steps.append(NEXT[steps[-1]])
    may = {file for file in all_files if any(file[0] in AFTER[step] for step in steps)}
    must = {file for file in all_files if all(file[0] in AFTER[step] for step in steps)}
    if not must <= rows <= may:
        return f"rows gone {sorted(must - rows)}, rows that should not be {sorted(rows - may)}"
    return None

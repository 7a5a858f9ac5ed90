"""Killed and interrupted runs, as processes."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from retrieval.gallery import Gallery
from retrieval.retriever import Retriever
from tests.samples import command_environment, picture

IMAGES = 160
SIZE = (320, 240)
# many small commits, so that a short run can be killed between and within them; mini, since a
# process that needs no torch starts sooner
RUN = """
import sys
from retrieval.retriever import Retriever, writer
writer.ROWS_PER_COMMIT = 8
Retriever(sys.argv[1], backbone="mini").index(sys.argv[2], batch_size=8)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("crashes")
    for n in range(IMAGES):
        file = root / "pictures" / f"class{n % 4}" / f"{n:03}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        picture(n, *SIZE).save(file)
    return root


def start(gallery: Path, folder: Path, cache: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", RUN, str(gallery), str(folder / "pictures")],
        env=command_environment(cache),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def stored(gallery: Path) -> dict[str, tuple[object, ...]]:
    table = Retriever(gallery).gallery.open_table()
    names = ["path", "label", "sha256", "width", "error", "embedding"]
    return {
        row["path"]: (*(row[n] for n in names[:-1]), np.array(row["embedding"]).tobytes())
        for row in table.columns(names).to_pylist()
    }


def rows_in(gallery: Path) -> int:
    return Gallery(gallery).open_table().count() if (gallery / "images.lance").is_dir() else 0


def wait_for_rows(gallery: Path, process: subprocess.Popen[bytes], more_than: int) -> None:
    while process.poll() is None and rows_in(gallery) <= more_than:
        time.sleep(0.01)


@pytest.mark.long
def test_a_run_that_is_killed_at_random_moments_ends_as_an_undisturbed_one(
    folder: Path, cache: Path
) -> None:
    calm, killed = folder / "calm.imgret", folder / "killed.imgret"
    assert start(calm, folder, cache).wait(timeout=300) == 0
    moments, before, kills = random.Random(0), 0, 0  # noqa: S311
    for _ in range(5):
        process = start(killed, folder, cache)
        wait_for_rows(killed, process, before)
        time.sleep(moments.uniform(0, 0.1))
        process.kill()
        kills += process.wait() == -signal.SIGKILL
        now = rows_in(killed)
        assert now >= before, "what was committed is lost"
        before = now
    assert kills >= 2
    assert start(killed, folder, cache).wait(timeout=300) == 0
    # the bytes of a PNG decide its pixels, and its pixels its embedding, in whichever batch
    ours, theirs = stored(killed), stored(calm)
    assert {p: row[:-1] for p, row in ours.items()} == {p: row[:-1] for p, row in theirs.items()}
    for path, row in ours.items():
        one, other = (np.frombuffer(r[-1]) for r in (row, theirs[path]))
        assert one == pytest.approx(other, abs=2e-3)
    assert Retriever(killed).verify().ok
    for n in range(0, IMAGES, 16):
        for gallery in (killed, calm):
            (match,) = Retriever(gallery).search(picture(n, *SIZE), k=1)
            assert match.path.name == f"{n:03}.png"


@pytest.mark.long
def test_an_interrupt_stores_what_is_encoded_and_the_next_run_goes_on(
    folder: Path, cache: Path
) -> None:
    gallery = folder / "interrupted.imgret"
    process = start(gallery, folder, cache)
    wait_for_rows(gallery, process, 0)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=300) != 0
    before = rows_in(gallery)
    assert 0 < before < IMAGES
    report = Retriever(gallery).index(folder / "pictures")
    assert (report.unchanged, report.added) == (before, IMAGES - before)


def test_a_gallery_whose_first_run_was_killed_can_be_searched(folder: Path, cache: Path) -> None:
    gallery = folder / "partial.imgret"
    process = start(gallery, folder, cache)
    wait_for_rows(gallery, process, 0)
    process.kill()
    process.wait()
    found = Retriever(gallery).search(picture(0, *SIZE), k=1)
    assert len(found) == 1

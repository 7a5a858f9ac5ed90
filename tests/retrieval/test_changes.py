"""Files that changed in secret, and facts of files that a table cannot hold as they are."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from retrieval.retriever import Retriever
from retrieval.retriever.writer import Writer
from tests.conftest import Command
from tests.retrieval.stored import age, rows, save_small
from tests.samples import picture


@pytest.fixture
def blobs(tmp_path: Path) -> tuple[Retriever, Path]:
    """A gallery of pictures whose files have all the same size."""
    for n in range(4):
        save(tmp_path / "b" / f"{n}.bmp", n)
        age(tmp_path / "b" / f"{n}.bmp")
    retriever = Retriever(tmp_path / "g.imgret")
    retriever.index(tmp_path / "b")
    return retriever, tmp_path / "b"


def save(file: Path, seed: int) -> None:
    file.parent.mkdir(exist_ok=True)
    picture(seed, 32, 24).save(file)


def test_checksum_sees_other_bytes_of_the_same_size_and_time(
    blobs: tuple[Retriever, Path],
) -> None:
    retriever, folder = blobs
    save(folder / "0.bmp", 50)
    age(folder / "0.bmp")
    assert retriever.index(folder).changed == 0
    assert retriever.estimate(folder, checksum=True).changed == 4  # those that it would read
    report = retriever.index(folder, checksum=True)
    assert (report.changed, report.unchanged, report.encoded) == (1, 3, 1)
    assert retriever.search(picture(50, 32, 24), k=1)[0].path.name == "0.bmp"


def test_checksum_is_an_option_of_the_command(
    inline: Command, blobs: tuple[Retriever, Path]
) -> None:
    _, folder = blobs
    save(folder / "0.bmp", 50)
    age(folder / "0.bmp")
    done = inline("index", "b", "--gallery", "g.imgret", "--checksum")
    assert done.returncode == 0
    assert "changed" in done.stdout


def rewrite_within_a_tick(file: Path, seed: int) -> None:
    """Save another picture, and keep the time stamp, as if the clock had not moved on."""
    stamp = file.stat().st_mtime_ns
    save(file, seed)
    os.utime(file, ns=(stamp, stamp))


def test_a_file_that_is_no_older_than_its_row_is_read_again(
    blobs: tuple[Retriever, Path],
) -> None:
    retriever, folder = blobs
    save(folder / "0.bmp", 60)
    ahead = time.time_ns() + 10**9 + 1
    os.utime(folder / "0.bmp", ns=(ahead, ahead))
    retriever.index(folder)
    rewrite_within_a_tick(folder / "0.bmp", 61)
    assert retriever.index(folder).changed == 1
    assert retriever.search(picture(61, 32, 24), k=1)[0].score > 0.99


def test_a_time_stamp_of_whole_seconds_may_be_of_a_coarse_clock(
    blobs: tuple[Retriever, Path],
) -> None:
    retriever, folder = blobs
    save(folder / "0.bmp", 60)
    second = int(time.time())
    os.utime(folder / "0.bmp", (second, second))
    retriever.index(folder)
    rewrite_within_a_tick(folder / "0.bmp", 61)
    assert retriever.index(folder).changed == 1


def test_a_row_is_as_old_as_the_reading_of_its_file_not_as_its_commit(
    blobs: tuple[Retriever, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    retriever, folder = blobs
    save(folder / "0.bmp", 60)
    ahead = time.time_ns() + 10**9 + 1
    os.utime(folder / "0.bmp", ns=(ahead, ahead))
    commit = Writer.commit

    def late(writer: Writer) -> None:
        time.sleep(2)  # as where many files are decoded before the next commit
        commit(writer)

    monkeypatch.setattr(Writer, "commit", late)
    retriever.index(folder)
    monkeypatch.undo()
    rewrite_within_a_tick(folder / "0.bmp", 61)
    assert retriever.index(folder).changed == 1


def test_a_file_is_not_read_again_for_ever(blobs: tuple[Retriever, Path]) -> None:
    retriever, folder = blobs
    save(folder / "0.bmp", 60)
    retriever.index(folder)
    time.sleep(0.05)
    retriever.index(folder)  # read once more, and found to be what is stored
    row = rows(retriever.gallery.path)["b/0.bmp"]
    assert retriever.estimate(folder).changed == 0
    assert row["mtime_ns"] == (folder / "0.bmp").stat().st_mtime_ns


@pytest.mark.parametrize("seconds", [15_032_385_535, -2_000_000_000, -11_644_473_600])
def test_a_time_stamp_of_any_year_is_stored(blobs: tuple[Retriever, Path], seconds: int) -> None:
    retriever, folder = blobs
    try:
        os.utime(folder / "0.bmp", (seconds, seconds))
    except (OSError, OverflowError):
        pytest.skip("this file system knows no such time")
    for _ in range(2):
        report = retriever.index(folder)
        assert (report.unchanged, report.failed, report.encoded) == (4, 0, 0)
    assert retriever.verify().ok


def test_a_folder_whose_name_is_not_utf_8_is_a_row_with_its_reason(
    blobs: tuple[Retriever, Path],
) -> None:
    retriever, folder = blobs
    bad = Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9"))
    save_small(bad, "0.png")
    for given in (folder, bad, bad / "0.png"):
        for _ in range(2):
            assert retriever.index(given, checksum=True).failed == 1
    assert retriever.verify().ok
    assert retriever.remove(bad) == 2


@pytest.mark.parametrize("label", ["caf\udce9", "a\0b", "", "x" * 100_000])
def test_a_label_of_any_text_is_stored(tmp_path: Path, label: str) -> None:
    save_small(tmp_path / "p", "0.png")
    retriever = Retriever(tmp_path / "g.imgret")
    retriever.index(tmp_path / "p")
    table = retriever.gallery.open_table()
    (row,) = rows(tmp_path / "g.imgret").values()
    table.update({"id": [row["id"]], "label": [label]})
    (after,) = rows(tmp_path / "g.imgret").values()
    assert after["label"] == label.encode(errors="surrogateescape").decode(
        errors="backslashreplace"
    )


def test_a_label_of_a_file_of_labels_may_be_any_text(tmp_path: Path) -> None:
    save_small(tmp_path / "p", "0.png")
    (tmp_path / "labels.csv").write_text('path,label\np/0.png,"a\x01\n\'\U0001f600"\n', "utf-8")
    retriever = Retriever(tmp_path / "g.imgret")
    retriever.index(tmp_path / "p", labels=str(tmp_path / "labels.csv"))
    (row,) = rows(tmp_path / "g.imgret").values()
    assert row["label"] == "a\x01\n'\U0001f600"
    assert np.isfinite(row["embedding"]).all()

"""A data file is cut short or gone: the rows of the others stay, and images are indexed again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from retrieval.errors import GalleryError
from retrieval.retriever import Retriever
from tests.retrieval.stored import save_small


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Three folders, each a piece of the table."""
    for place, folder in enumerate("abc"):
        save_small(tmp_path / folder, *(f"{n}.png" for n in range(6)), first=10 * place)
        Retriever(tmp_path / "g", transform="none").index(tmp_path / folder)
    return tmp_path


def data_files(home: Path) -> list[Path]:
    table = Retriever(home / "g").gallery.open_table()
    return [file for piece in table.pieces() for file in table.files_of_piece(piece)]


@pytest.mark.parametrize("harm", [cut_short, Path.unlink, lambda file: file.write_bytes(b"")])
def test_repair_keeps_all_pieces_but_the_damaged(
    home: Path, harm: Callable[[Path], object]
) -> None:
    _, second, _ = data_files(home)
    harm(second)
    for read in (Retriever(home / "g").verify, Retriever(home / "g").info):
        with pytest.raises(GalleryError, match=r"Run `imgret verify --repair`"):
            read()
    report = Retriever(home / "g").verify(repair=True)
    assert report.ok
    assert "rows dropped that cannot be read: 6; index their folders" in report.repaired
    assert not any("written anew" in said for said in report.repaired)
    assert Retriever(home / "g").search(home / "a" / "3.png", k=1)[0].path == home / "a" / "3.png"
    again = Retriever(home / "g").index([home / name for name in "abc"])
    assert (again.added, again.unchanged) == (6, 12)
    assert Retriever(home / "g").verify().ok


def test_repair_ends_where_every_piece_is_damaged(home: Path) -> None:
    for file in data_files(home):
        cut_short(file)
    assert Retriever(home / "g").verify(repair=True).ok
    assert Retriever(home / "g").index([home / name for name in "abc"]).added == 18


def test_an_older_version_that_a_reader_kept_is_told_to_hold_what_was_removed(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lease = Retriever(home / "g").gallery.open_table().lease()
    with lease:
        Retriever(home / "g").remove(home / "a" / "3.png")
        save_small(home / "d", "0.png", first=90)
        Retriever(home / "g").index(home / "d")
        cut_short(data_files(home)[-1])
        caplog.clear()
        Retriever(home / "g").info()
    assert "so version" in caplog.text
    assert "images that were removed since are found again" in caplog.text

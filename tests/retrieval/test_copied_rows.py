"""Damage of a row stays known, whatever copies the row; and a sound index is no damage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from retrieval.errors import GalleryError
from retrieval.gallery import ImageTable
from retrieval.retriever import Retriever
from tests.retrieval.stored import save_small

PICTURES = 30
VICTIM = "p/c2/05.png"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Two pieces of a table with an index, and one number of an embedding flipped on the disk."""
    names = [f"c{n % 3}/{n:02}.png" for n in range(PICTURES)]
    save_small(tmp_path / "p", *names)
    Retriever(tmp_path / "g", transform="none").index(tmp_path / "p")
    save_small(tmp_path / "p", "c1/later.png", first=100)
    Retriever(tmp_path / "g").index(tmp_path / "p")
    flip_sign(tmp_path / "g")
    return tmp_path


def flip_sign(gallery: Path, path: str = VICTIM) -> None:
    """Flip the sign of a number of an image's embedding, wherever it is stored."""
    table = Retriever(gallery).gallery.open_table().columns(["path", "embedding"])
    stored = dict(zip(*(table[name].to_pylist() for name in table.column_names), strict=True))
    embedding = np.array(stored[path], np.float16).tobytes()
    for file in gallery.glob("**/data/*.lance"):
        content = bytearray(file.read_bytes())
        place = content.find(embedding)
        if place >= 0:
            content[place + 1] ^= 0x80
            file.write_bytes(content)
            return
    raise AssertionError("no file holds it as it is")


def relabel(home: Path, *, many: bool) -> None:
    chosen = sorted((home / "p").rglob("*.png")) if many else [home / VICTIM]
    lines = [f"{file},other" for file in chosen]
    (home / "labels.csv").write_text("\n".join(["path,label", *lines]))
    Retriever(home / "g").index(home / "p", labels=home / "labels.csv")


def remove(home: Path) -> None:
    Retriever(home / "g").remove(home / "p" / "c0" / "27.png")
    (home / "p" / "c0" / "27.png").unlink()


def move(home: Path) -> None:
    (home / VICTIM).rename(home / "p" / "c2" / "moved.png")
    Retriever(home / "g").index(home / "p")


def compact(home: Path) -> None:
    with pytest.raises(GalleryError, match=r"is not what was written.*--repair"):
        Retriever(home / "g").compact()


@pytest.mark.long
@pytest.mark.parametrize(
    "write",
    [
        remove,
        compact,
        move,
        lambda home: relabel(home, many=True),
        lambda home: relabel(home, many=False),
    ],
    ids=["remove", "compact", "move", "relabel all", "relabel it"],
)
def test_no_copy_hides_a_damaged_row(home: Path, write: Callable[[Path], None]) -> None:
    write(home)
    damaged = Retriever(home / "g").verify().damaged
    assert damaged == (VICTIM if write is not move else "p/c2/moved.png",)
    after = Retriever(home / "g").verify(repair=True)
    assert after.ok
    Retriever(home / "g").compact()
    assert Retriever(home / "g").verify().ok
    for file in (home / "p").rglob("*.png"):
        found = Retriever(home / "g").search(file, k=1)[0]
        assert found.path == file
        assert found.score > 0.999


def test_pieces_that_lost_rows_are_kept_where_they_are_damaged(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As after any change of many rows, not only where all is compacted."""
    Retriever(home / "g").remove(sorted((home / "p" / "c0").iterdir()))
    assert "is not what was written, so nothing is copied from it" in caplog.text
    assert Retriever(home / "g").verify().damaged == (VICTIM,)


def test_what_an_interrupted_run_had_embedded_is_compared_before_it_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_small(tmp_path / "p", *(f"{n}.png" for n in range(8)))
    Retriever(tmp_path / "g").index(tmp_path / "p")
    with monkeypatch.context() as interrupted:

        def become(*_: object) -> None:
            raise KeyboardInterrupt

        interrupted.setattr(ImageTable, "become", become)
        with pytest.raises(KeyboardInterrupt):
            Retriever(tmp_path / "g", size=96).index(tmp_path / "p", reembed=True)
    staging = Retriever(tmp_path / "g").gallery.staging()
    flip_sign(staging.path, "p/3.png")
    report = Retriever(tmp_path / "g", size=96).index(tmp_path / "p", reembed=True)
    assert report.failed == 0
    assert Retriever(tmp_path / "g").verify().ok
    found = Retriever(tmp_path / "g").search(tmp_path / "p" / "3.png", k=1)[0]
    assert (found.path.name, found.score > 0.999) == ("3.png", True)


@pytest.mark.long
@pytest.mark.parametrize("transform", ["none", "auto", "whiten:8"])
@pytest.mark.parametrize("augment", [None, "3"])
def test_verify_knows_an_index_of_these_images_from_one_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, transform: str, augment: str | None
) -> None:
    save_small(tmp_path / "p", *(f"c{n % 4}/{n:02}.png" for n in range(40)))
    sound, wrong = (
        Retriever(tmp_path / name, transform=transform, augment=augment) for name in "sw"
    )
    sound.index(tmp_path / "p")
    embeddings = ImageTable.embeddings

    def exchanged(
        table: ImageTable, ids: np.ndarray | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for found, vectors in embeddings(table, ids):
            yield np.roll(found, 7), vectors

    with monkeypatch.context() as broken:
        broken.setattr(ImageTable, "embeddings", exchanged)
        wrong.index(tmp_path / "p")
    assert sound.verify().ok
    assert wrong.verify().problems == ("the vectors of the index are not those of the table",)
    assert wrong.verify(repair=True).ok

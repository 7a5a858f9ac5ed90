"""A gallery's folder that is deleted, moved or replaced while it is being written."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from retrieval.errors import GalleryError
from retrieval.progress import Progress
from retrieval.retriever import (
    Retriever,
)
from tests.retrieval.stored import save_small


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("places")
    save_small(root / "p", *(f"{'ab'[n % 2]}/{n:02}.png" for n in range(12)))
    Retriever(root / "g.imgret").index(root / "p", labels="none")
    return root


@pytest.fixture
def home(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "home"))


def deleted(gallery: Path) -> None:
    shutil.rmtree(gallery)


def moved(gallery: Path) -> None:
    gallery.rename(gallery.with_name("moved"))


def replaced(gallery: Path) -> None:
    other = gallery.with_name("other")
    shutil.copytree(gallery, other)
    shutil.rmtree(gallery)
    other.rename(gallery)


def table_deleted(gallery: Path) -> None:
    shutil.rmtree(gallery / "images.lance")


def table_replaced(gallery: Path) -> None:
    shutil.copytree(gallery / "images.lance", gallery / "other")
    shutil.rmtree(gallery / "images.lance")
    (gallery / "other").rename(gallery / "images.lance")


WRITERS: dict[str, Callable[[Path, Progress], object]] = {
    "first": lambda home, progress: Retriever(home / "g.imgret").index(
        home / "p", batch_size=4, progress=progress
    ),
    "index": lambda home, progress: Retriever(home / "g.imgret").index(
        home / "p", labels="none", checksum=True, batch_size=4, progress=progress
    ),
    "reembed": lambda home, progress: Retriever(home / "g.imgret", size=96).index(
        home / "p", reembed=True, batch_size=4, progress=progress
    ),
    "refit": lambda home, progress: Retriever(home / "g.imgret").index(
        home / "p", labels="none", refit=True, progress=progress
    ),
    "repair": lambda home, progress: Retriever(home / "g.imgret").verify(
        repair=True, progress=progress
    ),
}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("away", [deleted, moved, replaced, table_deleted, table_replaced])
def test_a_gallery_that_goes_away_under_its_writer_is_not_made_again(
    writer: str, away: Callable[[Path], None], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery = home / "g.imgret"
    monkeypatch.setattr("retrieval.retriever.writer.ROWS_PER_COMMIT", 4)
    save_small(home / "p", *(f"c/{n}.png" for n in range(8)), first=50)
    if writer == "first":
        shutil.rmtree(gallery)
    if writer == "repair":
        (gallery / "gallery.toml").unlink()
    after: list[set[Path]] = []

    def progress(what: str, done: int, total: int | None) -> None:
        begun = what in ("fitting", "verifying") or (what == "encoding" and done >= 4)
        if begun and not after and (gallery / "images.lance").is_dir():
            away(gallery)
            after.append(set(home.rglob("*")))

    with pytest.raises(GalleryError, match=r"deleted or moved|cannot be (read|written)|no gallery"):
        WRITERS[writer](home, progress)
    assert after
    made = {path for path in set(home.rglob("*")) - after[0] if path.name != "lock"}
    assert [path for path in made if "reembed" not in path.parts] == []

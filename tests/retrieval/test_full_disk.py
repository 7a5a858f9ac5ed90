"""A disk that is nearly full: what does not fit is put off, and nothing that was sound is lost."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from retrieval.errors import GalleryWriteError
from retrieval.index import GrowingIndex
from retrieval.retriever import Retriever
from tests.retrieval.stored import faults, save_small, small_disk
from tests.samples import files_of_at_most

NOT_MERGED = "its index is not merged now"
FREE = 1 << 20  # bytes: for a list of ids, not for an index with its transform of 6 MB


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("full")
    save_small(root / "p", *(f"{n:02}.png" for n in range(16)))
    Retriever(root / "g.imgret").index(root / "p")
    return root


@pytest.fixture
def home(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "home"))


@pytest.fixture
def full(original: Path, tmp_path: Path) -> Iterator[Path]:
    """The gallery on a disk of its own that has FREE bytes free."""
    with small_disk(tmp_path / "full", on_disk(original) + FREE) as place:
        shutil.copytree(original, place, dirs_exist_ok=True)
        yield place


def on_disk(folder: Path) -> int:
    """The bytes of all files and folders below one, in whole pages."""
    return sum(4096 + -(-path.stat().st_size // 4096) * 4096 for path in folder.rglob("*"))


def main_file(home: Path) -> Path:
    (file,) = (home / "g.imgret").glob("index-*[0-9].faiss")
    return file


def found(home: Path, name: str) -> bool:
    """Whether a search for a picture finds it."""
    matches = Retriever(home / "g.imgret").search(home / "p" / name, k=20)
    return home / "p" / name in [match.path for match in matches]


def check_put_off(home: Path, before: bytes, log: str) -> None:
    """One picture was removed beside the large file, which is as it was, and then is merged."""
    assert NOT_MERGED in log
    assert "imgret index --compact" in log
    assert main_file(home).read_bytes() == before
    state = Retriever(home / "g.imgret").gallery.settings().index
    assert state is not None
    assert state.removed["ids"] == 1
    assert not found(home, "03.png")
    assert found(home, "04.png")
    assert [f for f in faults(home / "g.imgret") if "are gone" not in f] == []


def test_a_merge_that_cannot_be_written_is_put_off(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = main_file(home).read_bytes()
    with files_of_at_most(FREE):
        assert Retriever(home / "g.imgret").remove(home / "p" / "03.png") == 1
    check_put_off(home, before, caplog.text)
    Retriever(home / "g.imgret").compact()
    assert main_file(home).read_bytes() != before
    assert not found(home, "03.png")
    assert faults(home / "g.imgret") == []


def test_a_merge_that_does_not_fit_is_put_off(full: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = main_file(full).read_bytes()
    assert Retriever(full / "g.imgret").remove(full / "p" / "03.png") == 1
    check_put_off(full, before, caplog.text)


def test_a_merge_that_was_put_off_is_made_by_whatever_writes_next(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with files_of_at_most(FREE):
        Retriever(home / "g.imgret").remove(home / "p" / "03.png")
    (home / "p" / "03.png").unlink()
    caplog.clear()
    Retriever(home / "g.imgret").index(home / "p")
    assert NOT_MERGED not in caplog.text
    state = Retriever(home / "g.imgret").gallery.settings().index
    assert state is not None
    assert not state.removed
    assert faults(home / "g.imgret") == []


def test_an_index_is_given_up_only_where_not_even_a_list_of_ids_can_be_written(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise GalleryWriteError("nothing can be written. Free some space.")

    with monkeypatch.context() as patch, files_of_at_most(FREE):
        patch.setattr(GrowingIndex, "save_delta", fails)
        with pytest.raises(GalleryWriteError):
            Retriever(home / "g.imgret").remove(home / "p" / "03.png")
    assert Retriever(home / "g.imgret").gallery.settings().index is None
    assert not found(home, "03.png")


def test_compact_says_what_it_needs_and_changes_nothing(full: Path) -> None:
    Retriever(full / "g.imgret").remove(full / "p" / "03.png")
    before = main_file(full).read_bytes()
    with pytest.raises(GalleryWriteError, match=r"needs [67]\.\d MB of disk, and [01]\.\d MB are"):
        Retriever(full / "g.imgret").compact()
    assert main_file(full).read_bytes() == before
    assert not found(full, "03.png")

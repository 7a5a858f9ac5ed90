"""A disk that is nearly full: what does not fit is put off, and nothing that was sound is lost."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from retrieval.errors import GalleryWriteError
from retrieval.index import GrowingIndex, delta
from retrieval.retriever import Retriever
from retrieval.words import SettingsAsked
from tests.retrieval.stored import faults, save_small, small_disk
from tests.samples import files_of_at_most, no_room_for

NOT_MERGED = "its index is not merged now"
NEEDS = r"and the index needs [67]\.\d MB of disk, and 1\.0 MB are free"
LISTS = 20_000  # bytes: larger than a list of ids or a manifest, smaller than rows
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
    before = main_file(full).read_bytes(), data_files(full)
    with pytest.raises(GalleryWriteError, match=r"needs [67]\.\d MB of disk, and [01]\.\d MB are"):
        Retriever(full / "g.imgret").compact()
    assert (main_file(full).read_bytes(), data_files(full)) == before
    assert not found(full, "03.png")


def test_compact_with_room_for_the_rows_alone_leaves_them_as_they_are(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grow(monkeypatch)
    Retriever(home / "g.imgret").remove(home / "p" / "03.png")
    save_small(home / "p", "new.png", first=50)
    Retriever(home / "g.imgret").index(home / "p" / "new.png")
    before = main_file(home).read_bytes(), data_files(home)
    assert len(before[1]) > 1
    nearly_full(monkeypatch, FREE)
    with pytest.raises(GalleryWriteError, match=NEEDS):
        Retriever(home / "g.imgret").compact()
    with pytest.raises(GalleryWriteError, match=NEEDS):
        Retriever(home / "g.imgret").index(home / "p" / "new.png", compact=True)
    assert (main_file(home).read_bytes(), data_files(home)) == before
    nearly_full(monkeypatch, 8 * FREE)
    Retriever(home / "g.imgret").compact()
    assert len(data_files(home)) == 1
    assert main_file(home).read_bytes() != before[0]


def test_rows_alone_are_compacted_where_the_index_stays(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_small(home / "p", "new.png", first=50)
    Retriever(home / "g.imgret").index(home / "p" / "new.png")
    before = main_file(home).stat().st_mtime_ns
    nearly_full(monkeypatch, FREE)
    Retriever(home / "g.imgret").compact()
    assert len(data_files(home)) == 1
    assert main_file(home).stat().st_mtime_ns == before


@pytest.mark.parametrize("how", ["no room", "no large file"])
def test_a_removal_succeeds_where_files_cannot_be_rewritten(
    how: str, home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patch, contextlib.ExitStack() as held:
        if how == "no room":
            nearly_full(patch, 100_000)
        else:
            held.enter_context(files_of_at_most(LISTS))
        check_removed(home, caplog)
    Retriever(home / "g.imgret").compact()
    (home / "p" / "03.png").unlink()
    files = [file for file in (home / "g.imgret").rglob("*") if file.is_file()]
    assert [file for file in files if b"p/03.png" in file.read_bytes()] == []
    assert faults(home / "g.imgret") == []


def test_a_removal_succeeds_on_a_disk_that_is_nearly_full(
    full: Path, caplog: pytest.LogCaptureFixture
) -> None:
    free = shutil.disk_usage(full).free
    (full / "ballast").write_bytes(bytes(free - 100_000))
    check_removed(full, caplog)


def check_removed(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A picture is removed for good, and a line says that files still hold it."""
    before = data_files(home)
    assert Retriever(home / "g.imgret").remove(home / "p" / "03.png") == 1
    assert "cannot be rewritten now. Free some space" in caplog.text
    assert not found(home, "03.png")
    assert data_files(home) == before
    assert [f for f in faults(home / "g.imgret") if "are gone" not in f] == []


def data_files(home: Path) -> list[str]:
    return sorted(f.name for f in (home / "g.imgret" / "images.lance" / "data").iterdir())


def nearly_full(patch: pytest.MonkeyPatch, free: int) -> None:
    """The disk says that it has so many bytes free."""
    usage = type(shutil.disk_usage("/"))
    patch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9 - free, free))


def grow(patch: pytest.MonkeyPatch) -> None:
    """Keep what changes beside the index, as in a large gallery."""
    patch.setattr(delta, "SMALL", 0)
    patch.setattr(delta, "MERGED_FROM", 9)


@pytest.mark.parametrize("compact", [False, True])
@pytest.mark.parametrize("how", ["no room", "no large file"])
@pytest.mark.parametrize("asked", ["another transform", "augmented"])
def test_an_index_of_other_settings_that_does_not_fit_changes_nothing(
    asked: str, how: str, compact: bool, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other: SettingsAsked = {"augment": "3"} if asked == "augmented" else {"transform": "rca"}
    if asked != "augmented":  # from one of 80 kB to one of 6 MB
        Retriever(home / "g.imgret", transform="none").index(home / "p")
    save_small(home / "p", "new.png", first=50)
    Retriever(home / "g.imgret").index(home / "p" / "new.png")
    before = published(home)
    with monkeypatch.context() as patch, contextlib.ExitStack() as held:
        if how == "no room":
            nearly_full(patch, FREE)
        else:
            held.enter_context(files_of_at_most(FREE))
        with pytest.raises(GalleryWriteError, match=r"Free some space|cannot be written"):
            Retriever(home / "g.imgret", **other).index(home / "p", compact=compact)
    if how == "no room":
        assert published(home) == before
    assert asked_for(home) == before[0]
    assert found(home, "new.png")
    assert faults(home / "g.imgret") == []
    Retriever(home / "g.imgret", **other).index(home / "p", compact=compact)
    assert asked_for(home) != before[0]
    assert len(data_files(home)) == (1 if compact else 2)


def test_compact_tells_the_room_of_the_index_that_it_will_make(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Retriever(home / "g.imgret", transform="none").index(home / "p")
    phases: list[str] = []
    nearly_full(monkeypatch, FREE)
    with pytest.raises(GalleryWriteError, match=r"its index needs 6\.9 MB of disk, and 1\.0 MB"):
        Retriever(home / "g.imgret", transform="rca").index(
            home / "p", compact=True, progress=lambda phase, *_: phases.append(phase)
        )
    assert "fitting" not in phases


@pytest.mark.parametrize("refit", [False, True])
def test_an_index_that_cannot_be_published_leaves_the_one_that_was(
    refit: bool, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_small(home / "p", "new.png", first=50)
    Retriever(home / "g.imgret").index(home / "p")  # merged, so that a new fit gives another
    before = asked_for(home), main_file(home).read_bytes()
    other: SettingsAsked = {} if refit else {"transform": "none"}
    with monkeypatch.context() as patch:
        no_room_for(patch, "gallery.toml")
        with pytest.raises(GalleryWriteError, match=r"gallery\.toml cannot be written"):
            Retriever(home / "g.imgret", **other).index(home / "p", refit=refit)
    assert (asked_for(home), main_file(home).read_bytes()) == before
    assert Retriever(home / "g.imgret").info().index.startswith("exact")
    assert found(home, "03.png")
    Retriever(home / "g.imgret", **other).index(home / "p", refit=refit)
    assert faults(home / "g.imgret") == []


def published(home: Path) -> tuple[tuple[str, str], dict[str, int], bytes, list[str]]:
    """All that tells whether a command changed anything; of the large files, when."""
    gallery = home / "g.imgret"
    large = {file.name: file.stat().st_mtime_ns for file in gallery.glob("index-*")}
    return asked_for(home), large, (gallery / "gallery.toml").read_bytes(), data_files(home)


def asked_for(home: Path) -> tuple[str, str]:
    """The transform and the augmentation of what is searched."""
    settings = Retriever(home / "g.imgret").gallery.settings()
    assert settings.index is not None
    assert (settings.index.asked, settings.index.augment) == (settings.transform, settings.augment)
    return settings.transform, settings.augment

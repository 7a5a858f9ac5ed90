"""Commands that read a gallery for long, while another process removes an image and compacts it.

That process runs between two reads, at a call of a method of the table or of the progress callback,
so that what it deletes is what is read next.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from retrieval.errors import GalleryChangedError
from retrieval.gallery import lease
from retrieval.gallery.reader import TableReader
from retrieval.gallery.versions import manifest_of, versions_of
from retrieval.retriever import Retriever, confidence, usable
from tests.retrieval.stored import save_small
from tests.samples import command_environment

Step = Callable[[], object]

WRITE = """
import sys
from pathlib import Path
from retrieval.retriever import Retriever
gallery, pictures = Path(sys.argv[1]), Path(sys.argv[2])
gone = sorted((pictures / "c").iterdir())[0]
gone.unlink()
Retriever(gallery).remove(gone)
Retriever(gallery).compact()
"""
IMAGES = 37  # of them two of one content
READS = ("count", "columns", "batches", "_rows_at")
READERS: dict[str, tuple[int, Callable[[Retriever, Path], Any], Any]] = {
    # before which read of the table the other process runs, the call, and what it gives
    "bytes": (3, lambda r, _: len(r.duplicates(tier="bytes").groups), 1),
    "similar": (3, lambda r, _: r.duplicates().images, IMAGES),
    "evaluate": (2, lambda r, _: r.evaluate(k=[1], calibrate=False).gallery, IMAGES),
    "calibrate": (2, lambda r, _: r.calibrate("class").known > 0, True),
    "map": (2, lambda r, _: r.map().total, IMAGES),
    "npz": (2, lambda r, folder: r.export(folder / "rows.npz"), IMAGES),
    "parquet": (1, lambda r, folder: r.export(folder / "rows.parquet"), IMAGES),
    "info": (2, lambda r, _: r.info().images, IMAGES),
    "verify": (2, lambda r, _: r.verify().problems, ()),
}


@pytest.fixture
def gallery(tmp_path: Path) -> Path:
    pictures = tmp_path / "pictures"
    save_small(pictures, *(f"{label}/{n:02}.png" for label in "abc" for n in range(12)))
    shutil.copy2(pictures / "a/00.png", pictures / "a/copy.png")
    assert Retriever(tmp_path / "g.imgret").index(pictures).added == IMAGES
    return tmp_path / "g.imgret"


@pytest.fixture
def write(gallery: Path, cache: Path) -> Step:
    """Remove an image and compact the gallery, in another process."""
    return lambda: subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WRITE, gallery, gallery.parent / "pictures"],
        env=command_environment(cache) | {"PYTHONPATH": os.pathsep.join(sys.path)},
        check=True,
        capture_output=True,
    )


def before_read(patch: pytest.MonkeyPatch, number: int, step: Step, *, times: int = 1) -> None:
    """Take a step before the so-many-th read of the table, and before those that follow it."""
    reads = [0]

    def counted(read: Callable[..., Any]) -> Callable[..., Any]:
        def reading(*given: Any, **named: Any) -> Any:
            reads[0] += 1
            if number <= reads[0] < number + times:
                step()
            return read(*given, **named)

        return reading

    for name in READS:
        patch.setattr(TableReader, name, counted(getattr(TableReader, name)))


def has_no_locks(patch: pytest.MonkeyPatch) -> None:
    """Let this process take no lock, as on a file system without them."""
    patch.setattr(lease, "fcntl", None)


def versions(gallery: Path) -> list[int]:
    return versions_of(gallery / "images.lance")


@pytest.mark.parametrize("name", READERS)
def test_what_a_command_reads_stays_until_it_is_done(
    name: str, gallery: Path, write: Step, monkeypatch: pytest.MonkeyPatch
) -> None:
    number, call, expected = READERS[name]
    retriever = Retriever(gallery)
    before_read(monkeypatch, number, write)
    monkeypatch.setattr(usable.read_images, "__kwdefaults__", {"held": 0})  # all is read late
    monkeypatch.setattr(confidence, "LEAST_AREA", 0.0)  # labels of these pictures mean nothing
    assert call(retriever, gallery.parent) == expected


def test_embeddings_that_are_read_at_the_end_stay_too(gallery: Path, write: Step) -> None:
    retriever = Retriever(gallery)
    images = usable.read_images(retriever.gallery, retriever.gallery.open_table(), held=0)
    before = images.embeddings.held()
    write()
    assert (images.embeddings.held() == before).all()


def test_a_version_goes_with_the_next_writer_once_nobody_reads_it(
    gallery: Path, write: Step
) -> None:
    with Retriever(gallery).gallery.open_table().lease():
        write()
        assert len(versions(gallery)) == 2
        assert Retriever(gallery).verify().ok
    write()
    assert len(versions(gallery)) == 1
    assert Retriever(gallery).verify().ok


def test_versions_between_what_is_read_and_the_newest_go_at_once(
    gallery: Path, write: Step
) -> None:
    read = Retriever(gallery).gallery.open_table()
    with read.lease():
        write()
        write()
        newest = Retriever(gallery).gallery.open_table()
        kept = {file.name for file in [*read.files(), *newest.files()]}
        assert versions(gallery) == [newest.version, read.version]
        assert {file.name for file in (gallery / "images.lance/data").iterdir()} <= kept


def test_a_reader_that_was_killed_keeps_nothing(gallery: Path, write: Step) -> None:
    code = (
        "import os, sys; from pathlib import Path; from retrieval.gallery import ImageTable\n"
        "lease = ImageTable.open(Path(sys.argv[1])).lease(); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, gallery / "images.lance"], check=False)
    write()
    assert len(versions(gallery)) == 1


def test_a_gallery_that_may_only_be_read_can_be_kept(gallery: Path, write: Step) -> None:
    table = Retriever(gallery).gallery.open_table()
    manifest_of(gallery / "images.lance", table.version).chmod(0o400)
    with table.lease():
        write()
        assert table.count() == len(table.paths()) == IMAGES


def test_removing_beside_a_reader_says_that_the_rows_stay_on_the_disk(
    gallery: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Retriever(gallery).gallery.open_table().lease():
        Retriever(gallery).remove(gallery.parent / "pictures/c")
        assert "another command still reads the rows as they were" in caplog.text
    caplog.clear()
    Retriever(gallery).compact()
    assert not caplog.text


def test_without_locks_a_command_reads_the_newest_state(
    gallery: Path, write: Step, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_no_locks(monkeypatch)
    before_read(monkeypatch, 2, write)
    assert Retriever(gallery).export(gallery.parent / "rows.npz") == IMAGES - 1


def test_who_cannot_keep_up_without_locks_is_told_to_try_again(
    gallery: Path, write: Step, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_no_locks(monkeypatch)
    monkeypatch.setattr(lease, "CALLS", 1)
    before_read(monkeypatch, 2, write)
    with pytest.raises(GalleryChangedError, match=r"rewrote .* Run this command again\.$"):
        Retriever(gallery).info()


def test_a_file_that_is_gone_from_the_newest_version_is_damage(gallery: Path) -> None:
    table = Retriever(gallery).gallery.open_table()
    with table.lease():
        next((gallery / "images.lance/data").iterdir()).unlink()
        with pytest.raises(Exception, match="verify --repair"):
            table.paths()
    with pytest.raises(Exception, match="verify --repair"):
        Retriever(gallery).evaluate()


def test_files_searched_by_are_searched_for_in_the_newest_state(
    gallery: Path, write: Step, monkeypatch: pytest.MonkeyPatch
) -> None:
    retriever, query = Retriever(gallery), gallery.parent / "pictures/a/00.png"
    retriever.search(query)
    before_read(monkeypatch, 1, write)
    found = list(retriever.search_files([query], 3, exclude_self=True))
    assert [match.path.name for match in found[0].matches if match.path == query] == []
    assert len(found[0].matches) == 3

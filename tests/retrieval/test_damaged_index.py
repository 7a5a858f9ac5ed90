"""Damage in an index stays visible: no command copies it into a file with a fresh SHA-256."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from retrieval.gallery.versions import manifest_of
from retrieval.index import delta
from retrieval.retriever import Retriever
from tests.retrieval.stored import faults, save_small

TOLD = "is not what was written, so it is built again"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gallery whose index has pictures beside it, and others left out."""
    root = tmp_path_factory.mktemp("delta")
    with pytest.MonkeyPatch.context() as patch:
        grow(patch)
        save_small(root / "p", *(f"{n:02}.png" for n in range(16)))
        Retriever(root / "g.imgret").index(root / "p")
        save_small(root / "p", "new0.png", "new1.png", first=50)
        Retriever(root / "g.imgret").index(root / "p")
        Retriever(root / "g.imgret").remove(root / "p" / "00.png")
    (root / "p" / "00.png").unlink()
    return root


@pytest.fixture
def home(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    grow(monkeypatch)
    return Path(shutil.copytree(original, tmp_path / "home"))


def grow(patch: pytest.MonkeyPatch, merged_from: float = 9) -> None:
    """Keep what changes beside the index, as in a large gallery."""
    patch.setattr(delta, "SMALL", 0)
    patch.setattr(delta, "MERGED_FROM", merged_from)


def more(home: Path) -> None:
    save_small(home / "p", "more.png", first=80)
    Retriever(home / "g.imgret").index(home / "p")


def merge(home: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        grow(patch, 0)
        more(home)


def remove(home: Path) -> None:
    Retriever(home / "g.imgret").remove(home / "p" / "01.png")
    (home / "p" / "01.png").unlink()


WRITES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "compact": ("index-*[0-9].faiss", lambda home: Retriever(home / "g.imgret").compact()),
    "merge": ("index-*[0-9].faiss", merge),
    "compact, beside": ("index-*-added.faiss", lambda home: Retriever(home / "g.imgret").compact()),
    "one more": ("index-*-added.faiss", more),
    "one fewer": ("index-*-added.faiss", remove),
}


def blank(file: Path) -> None:
    """Vectors are lost, as by a bad sector; the head, which is checked at each load, is not."""
    content = bytearray(file.read_bytes())
    content[-2000:-1000] = bytes(1000)
    file.write_bytes(content)


def find_themselves(home: Path) -> bool:
    """Whether the first match of each stored embedding is its own row."""
    retriever = Retriever(home / "g.imgret")
    for _, embeddings in retriever.gallery.open_table().embeddings():
        found = retriever.search_embeddings(embeddings.astype(np.float32), 1)
        if any(matches[0].score < 0.99 for matches in found):
            return False
    return True


@pytest.mark.parametrize("how", WRITES)
def test_what_is_damaged_is_built_again_instead_of_copied(
    how: str, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pattern, write = WRITES[how]
    (file,) = (home / "g.imgret").glob(pattern)
    blank(file)
    assert not Retriever(home / "g.imgret").verify().ok
    write(home)
    assert any(TOLD in record.getMessage() for record in caplog.records)
    assert faults(home / "g.imgret") == []
    assert find_themselves(home)


@pytest.mark.parametrize("how", WRITES)
def test_what_is_sound_is_copied_without_a_word(
    how: str, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    WRITES[how][1](home)
    assert not any(TOLD in record.getMessage() for record in caplog.records)
    assert faults(home / "g.imgret") == []
    assert find_themselves(home)


def test_a_main_file_that_is_not_copied_keeps_its_known_checksum(home: Path) -> None:
    (file,) = (home / "g.imgret").glob("index-*[0-9].faiss")
    blank(file)
    more(home)
    assert not Retriever(home / "g.imgret").verify().ok


def test_a_manifest_keeps_the_checksum_that_its_version_was_published_with(home: Path) -> None:
    retriever = Retriever(home / "g.imgret")
    retriever.compact()
    table = retriever.gallery.open_table()
    manifest = manifest_of(home / "g.imgret" / "images.lance", table.version)
    content = manifest.read_bytes()
    assert b".txn" in content
    manifest.write_bytes(content.replace(b".txn", b".tyn"))
    assert Retriever(home / "g.imgret").gallery.open_table().version == table.version
    Retriever(home / "g.imgret").compact()  # publishes the same version again
    assert not Retriever(home / "g.imgret").verify().ok
    assert Retriever(home / "g.imgret").verify(repair=True).ok
    assert manifest.read_bytes() == content

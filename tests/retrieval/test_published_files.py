"""The files of a published version: checksums, second copies, and what is made right by them."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from retrieval.gallery import Gallery
from retrieval.gallery.published import PublishedFiles
from retrieval.retriever import Retriever
from tests.retrieval.stored import rows, save_small


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gallery with a manifest, files of rows, and a file of marks of deleted rows."""
    root = tmp_path_factory.mktemp("published")
    save_small(root / "p", *(f"{n:02}.png" for n in range(20)))
    Retriever(root / "g.imgret").index(root / "p")
    (root / "p" / "00.png").unlink()
    Retriever(root / "g.imgret").index(root / "p")
    save_small(root / "p", "new.png", first=60)
    Retriever(root / "g.imgret").index(root / "p")
    return root / "g.imgret"


@pytest.fixture
def path(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "g.imgret"))


@pytest.fixture
def published(path: Path) -> PublishedFiles:
    return PublishedFiles(path)


@pytest.fixture
def sums(published: PublishedFiles) -> dict[str, str]:
    return published.checksums(Gallery(published.path).open_table(), {})


def small(sums: dict[str, str]) -> list[str]:
    return [name for name in sums if not name.endswith(".lance")]


def test_checksums_are_those_of_every_file_of_the_version(path: Path, sums: dict[str, str]) -> None:
    suffixes = {Path(name).suffix for name in sums}
    assert suffixes == {".manifest", ".lance", ".arrow"}  # the last of deleted rows
    for name, sha256 in sums.items():
        assert hashlib.sha256((path / name).read_bytes()).hexdigest() == sha256


def test_what_is_known_is_not_read_again_but_for_manifests(
    path: Path, published: PublishedFiles, sums: dict[str, str]
) -> None:
    table = Gallery(path).open_table()
    known = dict.fromkeys(sums, "known")
    again = published.checksums(table, known)
    assert {name for name, sha256 in again.items() if sha256 == "known"} == {
        name for name in sums if not name.endswith(".manifest")
    }
    assert {n: s for n, s in again.items() if s != "known"}.items() <= sums.items()


def test_a_published_gallery_has_nothing_wrong(
    published: PublishedFiles, sums: dict[str, str]
) -> None:
    assert published.check(sums) == {}
    assert {copy.name for copy in published.copies_path.iterdir()} == {
        Path(name).name for name in small(sums)
    }


@pytest.mark.parametrize("how", ["flipped", "cut", "gone"])
def test_each_small_file_is_restored_from_its_copy(
    path: Path, published: PublishedFiles, sums: dict[str, str], how: str
) -> None:
    before = rows(path)
    names = small(sums)
    assert len(names) > 1
    for name in names:
        content = bytearray((path / name).read_bytes())
        content[len(content) // 2] ^= 1
        (path / name).write_bytes(content if how == "flipped" else content[:-1])
        if how == "gone":
            (path / name).unlink()
    said = published.check(sums).values()
    assert [any(name in sentence for sentence in said) for name in names] == [True] * len(names)
    assert sorted(published.restore(sums)) == sorted(names)
    assert published.check(sums) == {}
    assert rows(path) == before
    assert published.restore(sums) == []


def test_a_file_of_rows_has_no_copy_and_is_told(
    path: Path, published: PublishedFiles, sums: dict[str, str]
) -> None:
    data = next(name for name in sums if name.endswith(".lance"))
    content = bytearray((path / data).read_bytes())
    content[len(content) // 2] ^= 1
    (path / data).write_bytes(content)
    assert published.restore(sums) == []
    assert published.check(sums) == {data: f"{data} is not what was written"}
    (path / data).unlink()
    assert [*published.check(sums).values()] == [
        f"{data} cannot be read (No such file or directory)"
    ]


def test_a_damaged_copy_restores_nothing_and_is_made_again(
    path: Path, published: PublishedFiles, sums: dict[str, str]
) -> None:
    name = small(sums)[0]
    copy = published.copies_path / Path(name).name
    copy.write_bytes(b"other")
    assert [*published.check(sums).values()] == [
        f"the copy of {name} is gone or not what was written"
    ]
    content = (path / name).read_bytes()
    (path / name).write_bytes(b"damaged")
    assert published.restore(sums) == []
    assert (path / name).read_bytes() == b"damaged"
    (path / name).write_bytes(content)
    published.keep_copies(sums)
    assert copy.read_bytes() == content
    assert published.check(sums) == {}


def test_copies_of_what_is_no_longer_published_are_dropped(
    published: PublishedFiles, sums: dict[str, str]
) -> None:
    (published.copies_path / "1.manifest").write_bytes(b"old")
    (published.copies_path / "folder").mkdir()
    published.drop_copies(sums)
    assert published.check(sums) == {}
    assert len(list(published.copies_path.iterdir())) == len(small(sums))


@pytest.mark.parametrize("where", ["../outside.manifest", "{root}/outside.manifest", "a/../../x"])
def test_a_name_that_leads_outside_is_neither_read_nor_written(
    path: Path, published: PublishedFiles, where: str
) -> None:
    outside = path.parent / Path(where.format(root=path.parent)).name
    outside.write_bytes(b"mine")
    copy = published.copies_path / outside.name
    copy.write_bytes(b"stranger's")
    forged = {where.format(root=path.parent): hashlib.sha256(b"stranger's").hexdigest()}
    assert published.restore(forged) == []
    assert outside.read_bytes() == b"mine"
    assert len(published.check(forged)) == 1
    published.drop_copies({})
    published.keep_copies(forged)
    assert not copy.exists()


def test_a_link_in_place_of_the_copies_is_replaced_and_what_it_names_stays(
    path: Path, published: PublishedFiles, sums: dict[str, str]
) -> None:
    mine = path.parent / "mine"
    mine.mkdir()
    (mine / "letter.txt").write_text("dear")
    shutil.rmtree(published.copies_path)
    published.copies_path.symlink_to(mine)
    published.keep_copies(sums)
    assert not published.copies_path.is_symlink()
    assert [file.name for file in mine.iterdir()] == ["letter.txt"]
    assert published.check(sums) == {}

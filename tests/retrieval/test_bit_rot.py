"""Bits that flip on the disk are seen, and what they damaged is made right from the images."""

from __future__ import annotations

import json
import logging
import random
import shutil
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pytest

from retrieval.errors import ImgretError
from retrieval.retriever import Retriever
from tests.retrieval.stored import rows, save_small, state

PICTURES = 18
QUICK, ALL = 20, 200


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pieces of rows, one of them with deleted rows, one row that failed, an index."""
    root = tmp_path_factory.mktemp("rot")
    save_small(root / "p", *(f"{'abc'[n % 3]}/{n:02}.png" for n in range(PICTURES)))
    (root / "p" / "a" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    Retriever(root / "g.imgret").index(root / "p")
    (root / "p" / "a" / "00.png").unlink()
    Retriever(root / "g.imgret").index(root / "p")
    save_small(root / "p", "a/00.png", "d/new.png", first=60)
    Retriever(root / "g.imgret").index(root / "p")
    assert len(list((root / "g.imgret" / "images.lance" / "data").iterdir())) > 1
    assert list((root / "g.imgret" / "images.lance" / "_deletions").iterdir())
    return root


@pytest.fixture
def home(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "home"))


@pytest.fixture
def retriever(home: Path) -> Retriever:
    return Retriever(home / "g.imgret")


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def table_of(gallery: Path) -> pa.Table:
    return lance.dataset(str(gallery / "images.lance")).to_table()


def written(gallery: Path, kind: str) -> Path:
    """The newest file of a kind that the gallery consists of."""
    files = Retriever(gallery).gallery.open_table().files()
    return [file for file in files if file.parent.name == kind][-1]


# A checksum of each row


def test_a_checksum_is_the_crc_of_the_embedding_over_that_of_the_rest(original: Path) -> None:
    table = table_of(original / "g.imgret")
    names = sorted(set(table.schema.names) - {"embedding", "checksum", "label_set", "etag"})
    assert table.num_rows == PICTURES + 2
    for row in table.to_pylist():
        vector = row["embedding"]
        high = 0 if vector is None else zlib.crc32(np.array(vector, np.float16).tobytes())
        facts = row["facts"]
        if facts is not None and facts["perceptual"] is not None:
            facts["perceptual"] = facts["perceptual"].hex()
        text = json.dumps([row[name] for name in names], separators=(",", ":"), sort_keys=True)
        low = zlib.crc32(text.encode())
        assert row["checksum"] % (1 << 64) == high << 32 | low


@pytest.mark.parametrize("change", ["touch", "move", "relabel", "reembed", "refit"])
def test_each_change_of_a_row_renews_its_checksum(home: Path, change: str) -> None:
    options: dict[str, Any] = {}
    if change == "touch":
        for file in (home / "p" / "b").iterdir():
            file.touch()
    elif change == "move":
        (home / "p" / "b").rename(home / "p" / "bb")
    elif change == "relabel":
        options = {"labels": "none"}
    elif change == "refit":
        options = {"refit": True}
    retriever = Retriever(home / "g.imgret", size=64 if change == "reembed" else None)
    retriever.index(home / "p", reembed=change == "reembed", **options)
    assert retriever.verify().ok
    test_a_checksum_is_the_crc_of_the_embedding_over_that_of_the_rest(home)


VALUES: dict[str, Any] = {
    "id": 7, "path": "p/b/other.png", "root": "p/b", "size": 1, "mtime_ns": 1, "sha256": "0" * 64,
    "width": 1, "height": 1, "label": "x", "error": "no", "stored_ns": 1, "checksum": 1,
}  # fmt: skip


@pytest.mark.parametrize("column", [*VALUES, "embedding", "facts"])
def test_a_row_of_which_any_column_is_damaged_is_named(home: Path, column: str) -> None:
    damage(home / "g.imgret", "p/b/01.png", column)
    report = Retriever(home / "g.imgret").verify()
    named = "p/b/other.png" if column == "path" else "p/b/01.png"
    assert report.damaged == (named,)
    assert "rows that are damaged: 1" in report.problems


@pytest.mark.parametrize("column", [*VALUES, "embedding", "facts"])
def test_a_damaged_row_is_embedded_again(home: Path, original: Path, column: str) -> None:
    damage(home / "g.imgret", "p/b/01.png", column)
    retriever = Retriever(home / "g.imgret")
    report = retriever.verify(repair=True)
    assert report.ok
    assert Retriever(home / "g.imgret").verify().ok
    if column == "path":  # that file was dropped, since there is none of that name
        retriever.index(home / "p")
    after, before = state(home / "g.imgret"), state(original / "g.imgret")
    assert after == before
    assert retriever.search(home / "p" / "b" / "01.png", k=1)[0].score > 0.99


def test_a_copy_of_a_file_hides_no_damage_of_its_row(home: Path, original: Path) -> None:
    damage(home / "g.imgret", "p/b/01.png", "embedding")
    shutil.copy(home / "p" / "b" / "01.png", home / "p" / "b" / "copy.png")
    report = Retriever(home / "g.imgret").index(home / "p")
    assert (report.reused, report.encoded) == (1, 0)
    assert set(Retriever(home / "g.imgret").verify().damaged) == {"p/b/01.png", "p/b/copy.png"}
    assert Retriever(home / "g.imgret").verify(repair=True).ok
    right = rows(original / "g.imgret")["p/b/01.png"]["embedding"]
    stored = rows(home / "g.imgret")
    assert np.allclose(stored["p/b/01.png"]["embedding"], right, atol=0.01)
    assert np.allclose(stored["p/b/copy.png"]["embedding"], right, atol=0.01)


def damage(gallery: Path, path: str, column: str) -> None:
    """Write another value into a column of a row, as if its bits had flipped."""
    dataset = lance.dataset(str(gallery / "images.lance"))
    table = dataset.to_table(filter=f"path = '{path}'")
    field = table.schema.field(column)
    if column == "embedding":
        value = np.array(table["embedding"][0].as_py(), np.float16)
        value[3] += 0.5
        new = pa.FixedSizeListArray.from_arrays(pa.array(value), len(value))
    elif column == "facts":
        new = pa.array([table["facts"][0].as_py() | {"frames": 99}], field.type)
    else:
        new = pa.array([VALUES[column]], field.type)
    table = table.set_column(table.schema.get_field_index(column), field, new)
    dataset.delete(f"path = '{path}'")
    lance.write_dataset(table, dataset.uri, mode="append")


# Each kind of file


@pytest.mark.parametrize("kind", ["_versions", "_deletions"])
@pytest.mark.parametrize("how", ["flipped", "empty", "gone"])
def test_small_files_that_stand_for_all_rows_are_put_back_from_copies(
    home: Path, original: Path, kind: str, how: str
) -> None:
    file = written(home / "g.imgret", kind)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    if how == "gone":
        file.unlink()
    else:
        file.write_bytes(content if how == "flipped" else b"")
    with_damage = Retriever(home / "g.imgret")
    assert noticed(with_damage)
    report = with_damage.verify(repair=True)
    assert any(f"from its copy: images.lance/{kind}" in line for line in report.repaired)
    assert report.ok
    assert rows(home / "g.imgret") == rows(original / "g.imgret")


def test_a_damaged_copy_is_made_again(home: Path) -> None:
    for copy in (home / "g.imgret" / "copies").iterdir():
        copy.write_bytes(b"")
    report = Retriever(home / "g.imgret").verify()
    assert report.problems
    assert all(line.startswith("the copy of ") for line in report.problems)
    assert Retriever(home / "g.imgret").verify(repair=True).ok


def test_a_piece_that_cannot_be_read_is_embedded_again(home: Path, original: Path) -> None:
    file = written(home / "g.imgret", "data")
    content = file.read_bytes()
    file.write_bytes(bytes(len(content) - 40) + content[-40:])
    retriever = Retriever(home / "g.imgret")
    assert noticed(retriever)
    report = retriever.verify(repair=True)
    assert report.ok
    assert any("cannot be read" in line for line in report.repaired)
    retriever.index(home / "p")
    assert state(home / "g.imgret") == state(original / "g.imgret")


@pytest.mark.parametrize("how", ["flipped", "changed", "empty", "gone"])
def test_gallery_toml_has_a_checksum(home: Path, original: Path, how: str) -> None:
    file = home / "g.imgret" / "gallery.toml"
    text = file.read_text(encoding="utf-8")
    assert text.splitlines()[1].startswith("# SHA-256 of what follows: ")
    if how == "gone":
        file.unlink()
    else:
        other = text.replace('labels = "folder"', 'labels = "none"', 1)
        texts = {"flipped": text[:-9] + "x" + text[-8:], "changed": other, "empty": ""}
        file.write_text(texts[how])
    retriever = Retriever(home / "g.imgret")
    assert any("gallery.toml" in line for line in retriever.verify().problems)
    assert retriever.verify(repair=True).ok
    assert state(home / "g.imgret") == state(original / "g.imgret")
    assert retriever.gallery.settings().labels == "folder"


def test_the_checksum_of_an_index_is_of_the_whole_file(home: Path) -> None:
    (file,) = (home / "g.imgret").glob("index-*.faiss")
    content = file.read_bytes()
    for place in (*range(0, len(content), len(content) // 25), len(content) - 1):
        flipped = bytearray(content)
        flipped[place] ^= 1
        file.write_bytes(flipped)
        problems = Retriever(home / "g.imgret").verify().problems
        assert any(file.name in line for line in problems), place
    assert Retriever(home / "g.imgret").verify(repair=True).ok


def test_the_command_names_what_is_damaged_and_repairs_it(home: Path, inline: Any) -> None:
    damage(home / "g.imgret", "p/b/01.png", "embedding")
    gallery = home / "g.imgret"
    told = inline("verify", "--gallery", gallery)
    assert told.returncode == 2
    assert "p/b/01.png" in told.stdout + told.stderr
    mended = inline("verify", "--repair", "--gallery", gallery)
    assert mended.returncode == 0
    assert inline("verify", "--gallery", gallery).returncode == 0


def test_a_damaged_row_whose_file_is_gone_is_dropped(home: Path) -> None:
    damage(home / "g.imgret", "p/b/01.png", "embedding")
    (home / "p" / "b" / "01.png").unlink()
    report = Retriever(home / "g.imgret").verify(repair=True)
    assert report.ok
    assert report.dropped == 1


# Flips anywhere


def noticed(retriever: Retriever) -> bool:
    try:
        return not retriever.verify().ok
    except ImgretError:
        return True


def answers(gallery: Path, home: Path) -> tuple[Any, ...]:
    """What a gallery says: matches, rows and figures."""
    retriever = Retriever(gallery)
    queries = retriever.encode([home / "p" / f"{'abc'[n % 3]}/{n:02}.png" for n in range(1, 9)])
    found = retriever.search_embeddings(queries, k=5)
    said = [[(m.path.name, round(m.score, 4), m.label) for m in matches] for matches in found]
    info = {k: v for k, v in retriever.info().to_dict().items() if k not in ("gallery", "version")}
    figures = {k: v for k, v in info.items() if not k.startswith("bytes")}
    return said, state(gallery), figures


def flip(gallery: Path, chance: random.Random) -> str:
    """Flip a bit of a file: each file as likely as another, whatever its size."""
    files = sorted(f for f in gallery.rglob("*") if f.is_file() and f.stat().st_size)
    file = chance.choice(files)
    content = bytearray(file.read_bytes())
    place = chance.randrange(len(content))
    content[place] ^= 1 << chance.randrange(8)
    file.write_bytes(content)
    return f"byte {place} of {file.relative_to(gallery)}"


def outcome(home: Path, original: Path, expected: tuple[Any, ...], flipped: str) -> str:
    """What became of a flip: harmless, or noticed and made right, or what is wrong."""
    gallery = home / "g.imgret"
    if not noticed(Retriever(gallery)):
        return "harmless" if answers(gallery, original) == expected else f"unnoticed: {flipped}"
    try:
        if not Retriever(gallery).verify(repair=True).ok:
            return f"not repaired: {flipped}"
        Retriever(gallery).index(home / "p")
    except ImgretError as error:
        return f"not repaired: {flipped}: {error}"
    right = Retriever(gallery).verify().ok and state(gallery) == state(original / "g.imgret")
    return "noticed and repaired" if right else f"repaired otherwise: {flipped}"


@pytest.mark.long
@pytest.mark.parametrize(
    ("first", "flips"), [(0, QUICK), pytest.param(1000, ALL, marks=pytest.mark.slow)]
)
def test_a_flipped_bit_anywhere_is_noticed_or_harmless(
    home: Path, original: Path, first: int, flips: int, record_property: Any
) -> None:
    expected, found = answers(home / "g.imgret", original), Counter[str]()
    for seed in range(first, first + flips):
        shutil.rmtree(home / "g.imgret")
        shutil.copytree(original / "g.imgret", home / "g.imgret")
        flipped = flip(home / "g.imgret", random.Random(seed))  # noqa: S311
        found[outcome(home, original, expected, flipped)] += 1
    record_property("outcomes", str(found))
    assert set(found) <= {"harmless", "noticed and repaired"}
    assert found["noticed and repaired"] > flips // 3

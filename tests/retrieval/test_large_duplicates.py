"""Duplicates of large galleries: columns alone for bytes, candidates by the index for the rest."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.gallery import Gallery, Row
from retrieval.index import GrowingIndex, Index
from retrieval.retriever import DuplicateReport, Retriever
from retrieval.retriever.duplicates import opened, sampled, verified
from retrieval.retriever.duplicates.candidates import IndexedNeighbours
from retrieval.retriever.duplicates.embeddings import ScratchEmbeddings
from retrieval.retriever.duplicates.hashes import HashIndex
from retrieval.retriever.duplicates.neighbours import HeldNeighbours
from retrieval.retriever.duplicates.sampled import best_candidates, copies_found
from retrieval.retriever.duplicates.verified import VerifiedCandidates
from retrieval.retriever.publish import bring_up_index
from retrieval.transform import Transform, fit
from tests.samples import picture


def groups(report: DuplicateReport) -> list[tuple[str, list[tuple[str, str | None, float]]]]:
    return [
        (g.tier, [(m.path.name, m.tier, round(m.score, 3)) for m in g.members])
        for g in report.groups
    ]


@pytest.fixture
def retriever(tmp_path: Path, weights: Path) -> Retriever:
    return Retriever(tmp_path / "g", backbone=str(weights), engine="torch-fp32", transform="pca:16")


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """30 pictures; of some a copy, the same picture, and smaller, turned and recompressed ones."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    for n in range(30):
        image = picture(n, 160, 120)
        image.save(folder / f"{n:02}.png")
        if n % 5 == 0:
            (folder / f"{n:02} copy.png").write_bytes((folder / f"{n:02}.png").read_bytes())
            image.save(folder / f"{n:02}.webp", lossless=True)
            image.resize((120, 90)).save(folder / f"{n:02} small.jpg", quality=80)
            image.rotate(180).save(folder / f"{n:02} turned.jpg", quality=90)
            image.crop((8, 8, 152, 112)).save(folder / f"{n:02} cropped.jpg", quality=90)
    return folder


@pytest.mark.parametrize("tier", ["picture", "copy", "similar"])
def test_a_large_gallery_has_the_groups_that_exact_search_finds(
    retriever: Retriever, photographs: Path, tier: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    retriever.index(photographs)
    exact = retriever.duplicates(tier=tier)  # type: ignore[arg-type]
    monkeypatch.setattr(opened, "LARGE_FROM", 10)
    large = retriever.duplicates(tier=tier)  # type: ignore[arg-type]
    assert (exact.approximate, large.approximate) == (False, True)
    assert groups(large) == groups(exact)
    assert len(large.groups) == 6
    assert large.threshold == exact.threshold


def test_two_large_galleries_have_the_groups_that_exact_search_finds(
    retriever: Retriever, photographs: Path, tmp_path: Path, weights: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    (tmp_path / "others").mkdir()
    for n in range(0, 40, 2):
        picture(n, 160, 120).save(tmp_path / "others" / f"other {n}.jpg", quality=90)
    other = Retriever(tmp_path / "o", backbone=str(weights), engine="torch-fp32", transform="none")
    other.index(tmp_path / "others")
    retriever.index(photographs)
    exact = retriever.duplicates(against=tmp_path / "o")
    monkeypatch.setattr(opened, "LARGE_FROM", 10)
    large = retriever.duplicates(against=tmp_path / "o")
    assert large.approximate
    assert groups(large) == groups(exact)
    assert len(large.groups) >= 10


@settings(deadline=None, max_examples=25)
@given(
    n=st.integers(30, 300), seed=st.integers(0, 99), least=st.floats(0.5, 0.99),
    share=st.floats(0.5, 1),
)  # fmt: skip
def test_neighbours_by_an_index_that_is_searched_whole_are_those_of_exact_search(
    n: int, seed: int, least: float, share: float
) -> None:
    chance = np.random.default_rng(seed)
    x = (chance.normal(size=(n, 6)) + 1).astype(np.float16)
    places, ids = np.arange(n), chance.permutation(10 * n)[:n].astype(np.int64)
    index = GrowingIndex(Index.build(Transform("none", 6), lambda: iter([(ids, x)]), n))
    large = IndexedNeighbours(VerifiedCandidates(index, x, ids, places), places)
    exact = HeldNeighbours(x, places)
    for kept in (places, np.flatnonzero(chance.random(n) <= share)):
        large.keep(kept)
        exact.keep(kept)
        if len(kept) < 20:
            return
        found = {row: set(ids[s >= least]) for row, ids, s in large.down_to(places, least)}
        scores = unit(x) @ unit(x).T
        near = np.isclose(scores, least, atol=1e-5).any(axis=1)
        for row, theirs, s in exact.down_to(places, least):
            assert near[row] or found[row] == set(theirs[s >= least])
        for k in (4, 10):
            assert np.allclose(large.nearest(kept, k)[0], exact.nearest(kept, k)[0], atol=1e-5)


def unit(x: np.ndarray) -> np.ndarray:
    return np.asarray(x / np.linalg.norm(x.astype(np.float32), axis=1, keepdims=True), np.float32)


def test_ever_more_candidates_are_looked_at_where_most_are_near(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chance = np.random.default_rng(0)
    x = unit(np.concatenate([np.ones((300, 8)), chance.normal(size=(200, 8))])).astype(np.float16)
    places = np.arange(500)
    index = GrowingIndex(Index.build(Transform("none", 8), lambda: iter([(places, x)]), 500))
    large = IndexedNeighbours(VerifiedCandidates(index, x, places, places), places)
    found = {row: theirs[s >= 0.999] for row, theirs, s in large.down_to(places[:3], 0.999)}
    assert [len(theirs) for theirs in found.values()] == [299, 299, 299]
    monkeypatch.setattr(verified, "VERIFIED_AT_ONCE", 7)
    again = {row: theirs[s >= 0.999] for row, theirs, s in large.down_to(places[:3], 0.999)}
    assert all(set(again[row]) == set(found[row]) for row in found)


COPIES, CLASSES = 60, 4


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> Retriever:
    """2,000 files that hold nothing, of a few classes; the first ones are near-copies of others."""
    folder = tmp_path_factory.mktemp("labelled")
    picture(1).save(folder / "picture.png")
    found = Retriever(folder / "g", backbone=str(weights), engine="torch-fp32", transform="none")
    found.index(folder)
    table, chance, n = found.gallery.open_table(), np.random.default_rng(0), 2000
    labels = chance.integers(0, CLASSES, n)
    x = chance.normal(size=(CLASSES, table.dim))[labels] + chance.normal(size=(n, table.dim))
    of = slice(COPIES, 2 * COPIES)
    x[:COPIES] = x[of] + 0.25 * chance.normal(size=(COPIES, table.dim))
    labels[:COPIES] = labels[of]
    rows = []
    for name, vector in enumerate(unit(x).astype(np.float16)):
        (folder / f"{name}.jpg").write_bytes(b"0" * (1 + name))
        row = row_of_file(folder / f"{name}.jpg", 1000 + name, vector)
        rows.append(replace(row, sha256=f"{name:064x}", label=f"class {labels[name]}"))
    table.write(rows, replace=False)
    return found


@pytest.mark.long
@pytest.mark.parametrize("transform", ["lda", "pca:2", "pca:4", "whiten:64"])
def test_near_copies_are_found_however_little_the_transform_keeps(
    labelled: Retriever, transform: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery = labelled.gallery
    asked = replace(gallery.settings(), transform=transform)
    bring_up_index(gallery, gallery.open_table(), asked, refit=True)
    exact = Retriever(gallery.path).duplicates(threshold=0.95)
    monkeypatch.setattr(opened, "LARGE_FROM", 1000)
    large = Retriever(gallery.path).duplicates(threshold=0.95)
    assert (exact.recall, large.approximate) == (None, True)
    assert large.recall is not None
    assert large.recall >= 0.98
    assert groups(large) == groups(exact)
    assert len(large.groups) == COPIES


def searched_by(transform: Transform, x: np.ndarray) -> VerifiedCandidates:
    places = np.arange(len(x))
    index = GrowingIndex(Index.build(transform, lambda: iter([(places, x)]), len(x)))
    return VerifiedCandidates(index, x, places, places)


@pytest.mark.parametrize("least", [None, 0.9])
def test_an_index_is_built_only_where_the_present_one_misses_near_copies(
    least: float | None,
) -> None:
    x = np.random.default_rng(0).normal(size=(3000, 64)).astype(np.float16)
    for spec, suits in (("none", True), ("whiten:48", True), ("pca:2", False)):
        present = searched_by(fit(spec, x), x)
        found, recall = best_candidates(present, 34, least, None)
        assert (found is present) == suits
        assert recall >= 0.98


def test_a_recall_that_no_index_reaches_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampled, "RAW_COMPONENTS", 8)
    x = np.random.default_rng(0).normal(size=(3000, 64)).astype(np.float16)
    present = searched_by(fit("pca:2", x), x)
    found, recall = best_candidates(present, 34, 0.7, None)
    assert found.index.d_out == 8
    assert copies_found(present, 34, 0.7) < recall == copies_found(found, 34, 0.7) < 0.9


def test_few_or_equal_images_count_as_found() -> None:
    for x in (np.eye(2), np.ones((50, 8))):
        assert copies_found(searched_by(Transform("none", x.shape[1]), x), 34, None) == 1


def test_scratch_embeddings_are_those_of_the_table(retriever: Retriever, photographs: Path) -> None:
    retriever.index(photographs)
    compared = opened.open_compared(retriever.gallery, None, None, ExitStack(), bytes_alone=False)
    held, scratch = compared.embeddings, ScratchEmbeddings.copy(compared.parts)
    places = np.random.default_rng(0).permutation(held.shape[0])
    assert scratch.shape == held.shape
    assert np.array_equal(scratch[places], held[places])


def test_many_images_may_have_no_hash_at_all() -> None:
    assert HashIndex([b""] * 3, [0, 1, 2], approximate=True).near([0, 1, 2]) == []


def test_sampled_bits_find_the_hashes_that_all_bits_find() -> None:
    chance = np.random.default_rng(0)
    hashes = chance.integers(0, 256, (400, 32), dtype=np.uint8)
    hashes[:, 0] &= 127  # the mean brightness is no part of a hash
    apart = chance.integers(0, 13, 200)
    bits = np.unpackbits(hashes[:200], axis=1)
    for row, count in enumerate(apart):
        bits[row, 1 + chance.choice(255, count, replace=False)] ^= 1
    hashes[200:] = np.packbits(bits, axis=1)
    known = [bytes(each) for each in hashes]
    exact, sampled = (
        {(p.one, p.other, p.bits, p.turn) for p in index.near(range(400))}
        for index in (HashIndex(known, range(400)), HashIndex(known, range(400), approximate=True))
    )
    assert sampled <= exact
    assert len(exact) >= 400
    assert len(sampled) >= 0.98 * len(exact)


COUNTED = """
import sys
from pathlib import Path
from retrieval.gallery import Gallery
from retrieval.retriever import Retriever, duplicates
from retrieval.retriever.duplicates import stored
made = []
class Counted(stored.StoredImage):
    def __init__(self, *of):
        made.append(of)
        super().__init__(*of)
stored.StoredImage = Counted
def read(): return int(Path("/proc/self/io").read_text().split()[1])
before = read()
report = Retriever(sys.argv[1]).duplicates(tier="bytes")
print(read() - before, len(made), report.images, len(report.groups), len(report.failures))
"""


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells what was read")
def test_the_tier_bytes_reads_no_embedding_and_looks_only_at_repeated_content(
    retriever: Retriever, photographs: Path, tmp_path: Path
) -> None:
    retriever.index(photographs / "00.png")
    (tmp_path / "a.png").write_bytes(b"same")
    (tmp_path / "b.png").write_bytes(b"same")
    gallery = Gallery(tmp_path / "g")
    table = gallery.open_table()
    chance, size = np.random.default_rng(0), 5000
    for first in range(1000, 21000, size):
        vectors = unit(chance.normal(size=(size, table.dim))).astype(np.float16)
        rows = [row_of_no_file(first + n, vectors[n]) for n in range(size)]
        table.write(rows, replace=False)
    table.write([row_of_file(tmp_path / name, 30000 + n, vectors[n])
                 for n, name in enumerate(["a.png", "b.png"])], replace=False)  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", COUNTED, str(tmp_path / "g")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    read, made, images, found, failures = map(int, done.stdout.split())
    assert (made, images, found, failures) == (2, 20_003, 1, 0)
    assert read < 20_000 * table.dim  # half of the embeddings' bytes


def row_of_no_file(number: int, vector: np.ndarray) -> Row:
    return Row(
        id=number, path=f"{number}.jpg", root=".", size=number, mtime_ns=1,
        sha256=f"{number:064x}"[::-1], width=8, height=8, embedding=vector,
    )  # fmt: skip


def row_of_file(file: Path, number: int, vector: np.ndarray) -> Row:
    status = file.stat()
    return Row(
        id=number, path=file.name, root=".", size=status.st_size, mtime_ns=status.st_mtime_ns,
        sha256="f" * 64, width=8, height=8, embedding=vector,
    )  # fmt: skip

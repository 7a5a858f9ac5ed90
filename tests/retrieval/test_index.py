from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import run

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from retrieval import index as index_module
from retrieval.errors import GalleryError
from retrieval.index import Batches, Index, Kind, choose_kind
from retrieval.transform import Transform, fit

KINDS: list[Kind] = ["exact", "ivf"]


def clustered(n: int, d: int = 32, seed: int = 0) -> np.ndarray:
    """Points around centres, as embeddings of classes are."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(max(2, n // 50), d))
    points = centres[random.integers(0, len(centres), n)] + 0.5 * random.normal(size=(n, d))
    return points.astype(np.float32)


def in_batches(ids: np.ndarray, x: np.ndarray, size: int = 700) -> Batches:
    def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for start in range(0, len(ids), size):
            yield ids[start : start + size], x[start : start + size]

    return batches


def build(x: np.ndarray, kind: Kind | None = None, transform: Transform | None = None) -> Index:
    ids = np.arange(len(x), dtype=np.int64) * 3 + 100
    transform = transform or Transform("none", x.shape[1])
    return Index.build(transform, in_batches(ids, x), len(x), kind=kind)


@pytest.fixture(scope="module")
def points() -> np.ndarray:
    return clustered(12_000)


@pytest.fixture(scope="module")
def ivf(points: np.ndarray) -> Index:
    return build(points, "ivf")


def test_exact_search_is_scikit_learns() -> None:
    x, queries = clustered(500), clustered(20, seed=1)
    distances, theirs = NearestNeighbors(n_neighbors=7, metric="cosine").fit(x).kneighbors(queries)
    scores, ids = build(x).search(queries, 7)
    assert ((ids - 100) // 3 == theirs).all()
    assert scores == pytest.approx(1 - distances, abs=1e-5)


def test_the_transform_is_part_of_the_index() -> None:
    x, queries = clustered(500), clustered(20, seed=1)
    transform = fit("whiten:8", x)
    index = build(x, transform=transform)
    found = NearestNeighbors(n_neighbors=5, metric="cosine").fit(transform.apply(x))
    distances, theirs = found.kneighbors(transform.apply(queries))
    scores, ids = index.search(queries, 5)
    assert ((ids - 100) // 3 == theirs).all()
    assert scores == pytest.approx(1 - distances, abs=1e-4)
    assert index.transform(queries) == pytest.approx(transform.apply(queries), abs=1e-5)
    assert (index.d_in, index.d_out) == (32, 8)


def test_ivf_finds_what_scikit_learn_finds(ivf: Index, points: np.ndarray) -> None:
    queries = clustered(12_000)[::40] + np.float32(0.01)
    theirs = NearestNeighbors(n_neighbors=10, metric="cosine").fit(points).kneighbors(queries)[1]
    ids = (ivf.search(queries, 10)[1] - 100) // 3
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(ids, theirs, strict=True)])
    assert recall >= 0.985
    assert ivf.recall is not None
    assert ivf.recall >= 0.99


def test_the_measured_recall_is_told_with_the_kind(ivf: Index) -> None:
    assert "cells" in ivf.kind
    assert ivf.settings["recall"] == ivf.recall


def test_exact_up_to_100000_vectors() -> None:
    assert (choose_kind(1), choose_kind(100_000), choose_kind(100_001)) == ("exact", "exact", "ivf")


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_gives_the_same_answers(kind: Kind, points: np.ndarray, tmp_path: Path) -> None:
    index = build(points[:3000], kind)
    index.save(tmp_path / "x.faiss")
    again = Index.load(tmp_path / "x.faiss", index.settings)
    ours, theirs = index.search(points[:50], 9), again.search(points[:50], 9)
    assert (ours[1] == theirs[1]).all()
    assert (ours[0] == theirs[0]).all()
    assert not again.changed


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_removed_is_not_found_and_what_is_added_is(
    kind: Kind, points: np.ndarray, tmp_path: Path
) -> None:
    build(points[:3000], kind).save(tmp_path / "x.faiss")
    settings = build(points[:3000], kind)
    settings.save(tmp_path / "x.faiss")
    index = Index.load(tmp_path / "x.faiss", settings.settings, mmap=False)
    gone = np.arange(0, 1000, dtype=np.int64) * 3 + 100
    assert index.remove(gone) == 1000
    index.add(np.array([7]), points[11_000:11_001])
    assert index.changed
    assert index.ntotal == 2001
    assert set(index.ids.tolist()) == {7, *(np.arange(1000, 3000) * 3 + 100).tolist()}
    assert not np.isin(index.search(points[:100], 10)[1], gone).any()
    assert index.search(points[11_000:11_001], 1)[1].tolist() == [[7]]


@pytest.mark.parametrize("kind", KINDS)
def test_a_filter_gives_exactly_k_where_k_exist(kind: Kind, points: np.ndarray) -> None:
    index = build(points[:3000], kind)
    for allowed in (np.array([100, 400, 9097]), index.ids[:2000], index.ids[::7]):
        k = min(5, len(allowed))
        scores, ids = index.search(points[5000:5020], 5, allowed=allowed)
        assert np.isin(ids[:, :k], allowed).all()
        assert (ids[:, k:] == -1).all()
        assert (np.diff(scores[:, :k]) <= 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_k_beyond_what_exists_is_padded(kind: Kind, points: np.ndarray) -> None:
    scores, ids = build(points[:500], kind).search(points[:3], 600)
    assert (np.sort(ids[:, :500]) == np.arange(500) * 3 + 100).all()
    assert (ids[:, 500:] == -1).all()
    assert np.isneginf(scores[:, 500:]).all()


def test_one_vector_two_equal_vectors_and_a_zero_vector() -> None:
    x = np.array([[1, 0], [1, 0], [0, 0]], np.float32)
    assert build(x[:1]).search(x[:1], 3)[1].tolist() == [[100, -1, -1]]
    scores, ids = build(x).search(x[:1], 3)
    assert set(ids[0]) == {100, 103, 106}
    assert scores[0] == pytest.approx([1, 1, 0])


def test_threads_get_the_answers_that_one_gets(ivf: Index, points: np.ndarray) -> None:
    alone = [ivf.search(points[i : i + 5], 5)[1] for i in range(40)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda i: ivf.search(points[i : i + 5], 5)[1], range(40)))
    assert all((a == b).all() for a, b in zip(alone, together, strict=True))


def test_an_index_grows_out_of_its_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "EXACT_UP_TO", 100)
    small = build(clustered(90))
    assert small.suits(100)
    assert not small.suits(101)
    large = build(clustered(200))
    assert "ivf" in large.kind
    assert large.suits(700)
    assert not large.suits(800)


def test_replacing_a_file_leaves_who_has_it_mapped_working(tmp_path: Path) -> None:
    x, file = clustered(500), tmp_path / "x.faiss"
    index = build(x)
    index.save(file)
    mapped = Index.load(file, index.settings)
    before = mapped.search(x[:5], 5)[1]
    build(clustered(300, seed=9)).save(file)
    assert (mapped.search(x[:5], 5)[1] == before).all()


@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "garbage", "other kind"])
def test_a_damaged_file_is_one_sentence(damage: str, tmp_path: Path) -> None:
    file, index = tmp_path / "x.faiss", build(clustered(500))
    index.save(file)
    content, settings = file.read_bytes(), index.settings
    file.unlink()
    if damage != "missing":
        file.write_bytes(
            {
                "empty": b"",
                "truncated": content[: len(content) // 2],
                "garbage": np.random.default_rng(0).bytes(len(content)),
                "other kind": content,
            }[damage]
        )
    if damage == "other kind":
        settings |= {"kind": "ivf", "nprobe": 3}
    with pytest.raises(GalleryError, match="verify --repair"):
        Index.load(file, settings)


FUZZ = """
import sys
from pathlib import Path
import numpy as np
from retrieval.errors import GalleryError
from retrieval.index import Index
file, kind = Path(sys.argv[1]), sys.argv[2]
content = bytearray(file.read_bytes())
facts = {"kind": kind, "built_on": 500, "recall": 1.0, "nprobe": 2, "bytes": len(content)}
random = np.random.default_rng(int(sys.argv[3]))
for _ in range(40):
    damaged = bytearray(content)
    for place in random.integers(0, min(len(content), 400), 3):
        damaged[place] = random.integers(256)
    other = file.with_suffix(".damaged")
    other.write_bytes(damaged)
    try:
        Index.load(other, facts, mmap=bool(random.integers(2)))
    except GalleryError:
        pass
"""


@pytest.mark.parametrize("kind", KINDS)
def test_damage_in_the_header_never_ends_the_process(kind: Kind, tmp_path: Path) -> None:
    build(clustered(500), kind).save(tmp_path / "x.faiss")
    done = run(
        [sys.executable, "-c", FUZZ, str(tmp_path / "x.faiss"), kind, "0"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]

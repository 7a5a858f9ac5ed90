from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import run

import faiss
import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from retrieval.errors import GalleryError
from retrieval.index import Batches, Index, IndexFacts, Kind, choose_kind, gathered
from retrieval.index import kind as kind_module
from retrieval.index.selection import Selection
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
    return clustered(20_000)


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


@pytest.fixture(scope="module")
def ranked(points: np.ndarray) -> np.ndarray:
    """(200, 20_000) places of all points, nearest first, for every hundredth point."""
    everything = NearestNeighbors(n_neighbors=len(points), metric="cosine").fit(points)
    return everything.kneighbors(points[::100])[1]


def share_found(ids: np.ndarray, ranked: np.ndarray) -> float:
    k = ids.shape[1]
    places = (ids - 100) // 3
    return float(
        np.mean([np.isin(row[:k], a).mean() for a, row in zip(places, ranked, strict=True)])
    )


@pytest.mark.parametrize("k", [2, 10, 50, 500])
def test_ivf_finds_what_scikit_learn_finds(
    k: int, ivf: Index, points: np.ndarray, ranked: np.ndarray
) -> None:
    assert share_found(ivf.search(points[::100], k)[1], ranked) >= 0.99


def test_ivf_measures_the_recall_that_scikit_learn_finds(
    ivf: Index, points: np.ndarray, ranked: np.ndarray
) -> None:
    ids = (ivf.search(points[::100], 11)[1] - 100) // 3
    recall = np.mean([np.isin(a[1:], b).mean() for a, b in zip(ranked[:, :11], ids, strict=True)])
    assert ivf.recall == pytest.approx(recall, abs=0.005)
    assert (ivf.recall or 0) >= 0.99


@pytest.mark.parametrize("most_gathered", [0, gathered.MOST_BYTES])
@pytest.mark.parametrize("share", [0.9, 0.5, 0.1, 0.01])
def test_a_filter_costs_no_recall(
    share: float, most_gathered: int, ivf: Index, points: np.ndarray, ranked: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(gathered, "MOST_BYTES", most_gathered)
    chosen = np.sort(np.random.default_rng(0).permutation(20_000)[: int(20_000 * share)])
    passing = [row[np.isin(row, chosen)] for row in ranked]
    _, ids = ivf.search(points[::100], 10, among=Selection.of(chosen * 3 + 100))
    assert share_found(ids, np.array(passing)) >= 0.99


def test_a_narrow_filter_that_is_asked_again_compares_with_what_passes_alone(
    ivf: Index, points: np.ndarray, ranked: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = np.arange(0, 20_000, 25)
    among = Selection.of(chosen * 3 + 100)
    for query in points[: gathered.QUERIES_BEFORE]:
        ivf.search(query[None], 10, among=among)
    monkeypatch.setattr("retrieval.index.index.search_wider", None)  # no cell is searched
    scores, ids = ivf.search(points[::100], 10, among=among)
    passing = np.array([row[np.isin(row, chosen)] for row in ranked])
    assert share_found(ids, passing) >= 0.999  # float16 and ties
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    cosines = (unit[::100, None] * unit[(ids - 100) // 3]).sum(axis=2)
    assert scores == pytest.approx(cosines, abs=1e-3)


def test_what_was_gathered_for_a_filter_follows_the_index(points: np.ndarray) -> None:
    index = build(points[:5000], "ivf")
    among = Selection.of(np.arange(100) * 3 + 100)
    for _ in range(2):
        _, ids = index.search(points[:20], 1, among=among)
        assert (ids[:, 0] == np.arange(20) * 3 + 100).all()
    index.remove(np.array([100]))
    _, ids = index.search(points[:20], 1, among=among)
    assert (ids[1:, 0] == np.arange(1, 20) * 3 + 100).all()
    assert ids[0, 0] != 100


def test_more_neighbours_are_found_as_well(
    ivf: Index, points: np.ndarray, ranked: np.ndarray
) -> None:
    for k in (30, 100, 300):
        _, ids = ivf.search(points[::100], k)
        found = (ids[:, :, None] == 3 * ranked[:, None, :k] + 100).any(axis=2)
        assert found.mean() >= 0.985


def searched(index: Index, queries: np.ndarray, among: Selection | None = None) -> float:
    """Cells a query, as FAISS counts them."""
    stats = faiss.cvar.indexIVF_stats
    stats.reset()
    index.search(queries, 10, among=among)
    return float(stats.nlist) / len(queries)


def test_a_filter_that_passes_by_chance_is_searched_in_few_cells(
    ivf: Index, points: np.ndarray
) -> None:
    cells = int(ivf.kind.split()[1])
    chosen = np.random.default_rng(0).permutation(20_000)[:10_000]
    among = Selection.of(chosen * 3 + 100)
    unfiltered = searched(ivf, points[::100])
    assert unfiltered < searched(ivf, points[::100], among) < cells / 3


@pytest.fixture(scope="module")
def apart() -> tuple[np.ndarray, np.ndarray]:
    """20,000 points in 200 classes that hardly overlap, and their classes."""
    random = np.random.default_rng(3)
    of = random.integers(0, 200, 20_000)
    noise = 0.3 * random.normal(size=(20_000, 48))
    return (random.normal(size=(200, 48))[of] + noise).astype(np.float32), of


def nearest(x: np.ndarray, query: np.ndarray) -> np.ndarray:
    """The cosines of a query with its ten nearest, by numpy."""
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    return np.sort(unit @ query / np.linalg.norm(query))[::-1][:10]


@pytest.mark.long
def test_what_leaves_out_the_class_of_a_query_costs_no_recall(
    apart: tuple[np.ndarray, np.ndarray],
) -> None:
    """It passes nearly all, but nothing in the cells nearest to the query."""
    x, of = apart
    index, found = build(x, "ivf"), []
    for query in range(0, 20_000, 100):
        others = np.flatnonzero(of != of[query])
        scores, ids = index.search(x[query][None], 10, among=Selection.of(others * 3 + 100))
        assert (of[(ids - 100) // 3] != of[query]).all()
        found.append((scores[0] >= nearest(x[others], x[query]) - 1e-3).mean())
    assert np.mean(found) >= 0.98


def test_a_query_of_a_class_that_is_not_there_finds_the_nearest(
    apart: tuple[np.ndarray, np.ndarray],
) -> None:
    x, of = apart
    known = x[of >= 40]
    index = build(known, "ivf")
    queries = x[of < 40][::50]
    scores, _ = index.search(queries, 10)
    best = np.array([nearest(known, query) for query in queries])
    assert (scores >= best - 1e-3).mean() >= 0.98
    assert searched(index, queries) > 3 * searched(index, known[::50])  # each its own number


def test_the_scores_of_ivf_are_cosines(ivf: Index, points: np.ndarray) -> None:
    scores, ids = ivf.search(points[:50], 10)
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    cosines = (unit[:50, None] * unit[(ids - 100) // 3]).sum(axis=2)
    assert scores == pytest.approx(cosines, abs=1e-3)


def test_equal_vectors_do_not_make_every_cell_be_searched() -> None:
    x = clustered(4000)
    x[:2000] = x[0]
    index = build(x, "ivf")
    assert index.recall == pytest.approx(1, abs=0.01)
    assert int(index.settings["nprobe"]) < 20


def test_the_measured_recall_is_told_with_the_kind(ivf: Index) -> None:
    assert "cells" in ivf.kind
    assert ivf.settings["recall"] == ivf.recall


def test_exact_up_to_100000_vectors() -> None:
    assert (choose_kind(1), choose_kind(100_000), choose_kind(100_001)) == ("exact", "exact", "ivf")


def test_an_index_that_is_built_anew_keeps_its_kind_near_the_limit() -> None:
    assert [choose_kind(n, "exact") for n in (100_001, 125_000, 125_001)] == [
        "exact",
        "exact",
        "ivf",
    ]
    assert [choose_kind(n, "ivf") for n in (100_000, 80_000, 79_999)] == ["ivf", "ivf", "exact"]


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
    built = build(points[:3000], kind)
    built.save(tmp_path / "x.faiss")
    index = Index.load(tmp_path / "x.faiss", built.settings, mmap=False)
    gone = np.arange(0, 1000, dtype=np.int64) * 3 + 100
    assert index.remove(gone) == 1000
    index.add(np.array([7]), points[11_000:11_001])
    assert index.changed
    assert index.ntotal == 2001
    assert set(index.ids.tolist()) == {7, *(np.arange(1000, 3000) * 3 + 100).tolist()}
    assert not np.isin(index.search(points[:100], 10)[1], gone).any()
    assert index.search(points[11_000:11_001], 1)[1].tolist() == [[7]]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("change", ["add", "remove"])
def test_changing_a_mapped_index_leaves_its_file_and_its_other_readers(
    change: str, kind: Kind, points: np.ndarray, tmp_path: Path
) -> None:
    file, built = tmp_path / "x.faiss", build(points[:3000], kind)
    built.save(file)
    content = file.read_bytes()
    mapped, other = Index.load(file, built.settings), Index.load(file, built.settings)
    before = other.search(points[:20], 5)[1]
    if change == "add":
        mapped.add(np.array([7]), points[11_000:11_001])
        assert mapped.search(points[11_000:11_001], 1)[1].tolist() == [[7]]
    else:
        assert mapped.remove(mapped.ids[:100]) == 100
    assert mapped.ntotal == (3001 if change == "add" else 2900)
    assert file.read_bytes() == content
    assert (other.search(points[:20], 5)[1] == before).all()


@pytest.mark.parametrize("kind", KINDS)
def test_removing_what_is_not_there_changes_nothing(kind: Kind, points: np.ndarray) -> None:
    index = build(points[:500], kind)
    assert index.remove(np.array([1, 2])) == 0
    assert index.remove(np.empty(0, np.int64)) == 0
    assert index.ntotal == 500


@pytest.mark.parametrize("kind", KINDS)
def test_an_index_of_nothing_finds_nothing_until_something_is_added(
    kind: Kind, tmp_path: Path
) -> None:
    index = build(np.empty((0, 8), np.float32), kind)
    assert index.search(np.ones((2, 8)), 3)[1].tolist() == [[-1] * 3] * 2
    index.save(tmp_path / "x.faiss")
    again = Index.load(tmp_path / "x.faiss", index.settings)
    again.add(np.array([5]), np.ones((1, 8)))
    assert again.search(np.ones((1, 8)), 3)[1].tolist() == [[5, -1, -1]]


def test_a_small_index_of_wide_embeddings_is_read_again(tmp_path: Path) -> None:
    index = build(clustered(3, 4096))
    index.save(tmp_path / "x.faiss")
    assert Index.load(tmp_path / "x.faiss", index.settings).ntotal == 3


@pytest.mark.parametrize("kind", KINDS)
def test_embeddings_of_another_width_are_refused(kind: Kind, points: np.ndarray) -> None:
    index = build(points[:500], kind)
    with pytest.raises(ValueError, match=r"takes \(n, 32\) embeddings, got \(2, 31\)"):
        index.search(points[:2, :31], 3)
    with pytest.raises(ValueError, match="takes"):
        index.add(np.array([1]), points[0])


@pytest.mark.parametrize("kind", KINDS)
def test_a_filter_gives_exactly_k_where_k_exist(kind: Kind, points: np.ndarray) -> None:
    index = build(points[:3000], kind)
    for allowed in (np.array([100, 400, 9097]), index.ids[:2000], index.ids[::7]):
        k = min(5, len(allowed))
        scores, ids = index.search(points[5000:5020], 5, among=Selection.of(allowed))
        assert np.isin(ids[:, :k], allowed).all()
        assert (ids[:, k:] == -1).all()
        assert (np.diff(scores[:, :k]) <= 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_k_beyond_what_exists_is_padded(kind: Kind, points: np.ndarray) -> None:
    scores, ids = build(points[:500], kind).search(points[:3], 600)
    assert (np.sort(ids[:, :500]) == np.arange(500) * 3 + 100).all()
    assert (ids[:, 500:] == -1).all()
    assert np.isneginf(scores[:, 500:]).all()


def test_ids_that_are_not_there_pass_no_filter(ivf: Index, points: np.ndarray) -> None:
    _, ids = ivf.search(points[:1], 3, among=Selection.of(np.array([10**12, 100, 100])))
    assert ids.tolist() == [[100, -1, -1]]


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
    monkeypatch.setattr(kind_module, "EXACT_UP_TO", 100)
    small = build(clustered(90))
    assert small.suits(125)  # an image more or less at 100 builds nothing anew
    assert not small.suits(126)
    large = build(clustered(200))
    assert "ivf" in large.kind
    assert [large.suits(n) for n in (79, 80, 700, 799, 800)] == [False, True, True, True, False]


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
        settings |= {"kind": "ivf", "nprobe": 3, "reach": "0.9:3", "cells": 3.0, "tuned": 3.0}
    with pytest.raises(GalleryError, match="verify --repair"):
        Index.load(file, settings)


@pytest.mark.parametrize("kind", KINDS)
def test_any_changed_byte_outside_the_vectors_is_noticed(kind: Kind, tmp_path: Path) -> None:
    file, index = tmp_path / "x.faiss", build(clustered(500), kind, fit("pca:4", clustered(500)))
    index.save(file)
    content, head = file.read_bytes(), int(index.settings["head"])
    assert head == len(content) - 500 * (8 + index.d_out * (4 if kind == "exact" else 2))
    for place in range(0, head, 7):
        file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(GalleryError, match="has changed since it was written"):
            Index.load(file, index.settings)


@pytest.mark.parametrize(
    "lie",
    [
        {"head": -1},
        {"head": 10**12},
        {"head": "0"},
        {"bytes": 0},
        {"sha256": ""},
        {"kind": "hnsw"},
        {"recall": "high"},
        {"built_on": "many"},
        {"nprobe": 0},
        {"nprobe": 10**9},
        {"nprobe": "all"},
        {"reach": "0.9:0"},
        {"reach": "0.9:1 0.8:1000000000"},
        {"reach": "0.8:1 0.9:2"},
        {"reach": "0.9:2 0.8:1"},
        {"reach": "nan:1"},
        {"reach": "0.9"},
        {"reach": "0.9:1 " * 10_000},
        {"reach": 8.5},
        {"cells": "all"},
        {"cells": -1},
        {"tuned": "at first"},
        {"tuned": float("nan")},
    ],
    ids=str,
)
def test_settings_that_do_not_fit_the_file_are_refused(
    lie: IndexFacts, ivf: Index, tmp_path: Path
) -> None:
    ivf.save(tmp_path / "x.faiss")
    with pytest.raises(GalleryError, match="verify --repair"):
        Index.load(tmp_path / "x.faiss", ivf.settings | lie)


def test_a_file_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(GalleryError, match="cannot be written"):
        build(clustered(50)).save(tmp_path / "no folder" / "x.faiss")


HOSTILE = """
import hashlib, json, sys
from pathlib import Path
import numpy as np
from retrieval.errors import GalleryError
from retrieval.index import Index
from retrieval.index.selection import Selection
file, facts = Path(sys.argv[1]), json.loads(sys.argv[2])
content, random = file.read_bytes(), np.random.default_rng(0)
numbers = [0, 1, -1, 7, 9, 1000, 2**20, 2**31, 2**40, 2**62]
loaded = 0
for attempt in range(250):
    forged = bytearray(content)
    for place in random.integers(0, facts["head"] if attempt % 2 else len(content) - 8, 2):
        if random.integers(2):
            forged[place] = random.integers(256)
        else:
            start = place - place % 4
            forged[start : start + 8] = np.int64(random.choice(numbers)).tobytes()
    other = file.with_suffix(".forged")
    other.unlink(missing_ok=True)
    other.write_bytes(forged)
    facts["sha256"] = hashlib.sha256(forged[: facts["head"]]).hexdigest()
    try:
        index = Index.load(other, facts, mmap=bool(random.integers(2)))
    except GalleryError:
        continue
    queries = np.ones((3, index.d_in), np.float32)
    index.search(queries, 4), index.search(queries, 4, among=Selection.of(index.ids[:5]))
    loaded += 1
print(loaded)
"""


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_forged_with_its_hash_never_ends_the_process(kind: Kind, tmp_path: Path) -> None:
    file, index = tmp_path / "x.faiss", build(clustered(500), kind, fit("pca:4", clustered(500)))
    index.save(file)
    done = run(
        [sys.executable, "-c", HOSTILE, str(file), json.dumps(index.settings)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert 0 < int(done.stdout) < 250


def test_importing_index_imports_no_scikit_learn() -> None:
    code = "import sys, retrieval.index; sys.exit('sklearn' in sys.modules)"
    assert run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.long
@pytest.mark.parametrize("kind", ["exact", "ivf"])
def test_an_index_works_beside_the_torch_methods_of_faiss(kind: str, tmp_path: Path) -> None:
    """pytorch-metric-learning imports them, and they replace faiss's own methods for good."""
    program = f"""
import faiss.contrib.torch_utils, numpy as np
from pathlib import Path
from retrieval.index import Index
from retrieval.transform import fit

ids, points = np.arange(1000), np.random.default_rng(0).normal(size=(1000, 16))
points = (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)
index = Index.build(fit("none", points), lambda: iter([(ids, points)]), 1000, kind={kind!r})
index.remove(ids[:10])
index.add(ids[:10], points[:10])
index.save(Path("index"))
index = Index.load(Path("index"), index.settings)
found = (index.search(points, 1)[1].ravel() == ids).mean()
print(found, np.abs(index.vectors(ids) - points).max())
"""
    done = run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True,
               check=True)  # fmt: skip
    found, farthest = map(float, done.stdout.split())
    assert found > 0.98
    assert farthest < 1e-3


ONE_QUERY = """
import os, sys
import numpy as np
from pathlib import Path
from retrieval.index import Index
index = Index.load(Path(sys.argv[1]), {facts!r})
x = np.load(sys.argv[2])
threads = lambda: len(os.listdir("/proc/self/task"))
before = threads()
index.search_vectors(x[:1], 5)
one = threads()
index.search_vectors(np.repeat(x, 64, axis=0), 5)
print(one - before, threads() - one)
"""


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs Linux' list of threads")
@pytest.mark.parametrize("kind", ["exact", "ivf"])
def test_one_query_begins_no_threads_and_many_do(
    points: np.ndarray, tmp_path: Path, kind: Kind
) -> None:
    """Two threads wait for each other: on shared cores one query took twenty times as long."""
    index = build(points, kind=kind)
    index.save(tmp_path / "i.faiss")
    np.save(tmp_path / "x.npy", index.transform(points[:64]))
    code = ONE_QUERY.format(facts=index.settings)
    done = run(
        [sys.executable, "-c", code, tmp_path / "i.faiss", tmp_path / "x.npy"],
        capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "3"}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    one, many = map(int, done.stdout.split())
    assert (one, many > 0) == (0, True)


def test_the_centres_of_cells_take_two_bytes_a_number_and_lose_nothing(tmp_path: Path) -> None:
    index = build(clustered(4000), "ivf")
    centres = index.stored.quantizer
    assert centres.code_size == 2 * index.d_out
    index.save(tmp_path / "x.faiss")
    again = Index.load(tmp_path / "x.faiss", index.settings)
    asked = index.ids[:50]
    np.testing.assert_array_equal(again.vectors(asked), index.vectors(asked))
    x = clustered(4000)[(asked - 100) // 3]
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    np.testing.assert_allclose(index.vectors(asked), unit, atol=1e-3)

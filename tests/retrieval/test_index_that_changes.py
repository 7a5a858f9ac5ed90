"""A large index file stays while pictures come and go: what changed lies beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.errors import GalleryError
from retrieval.files import IndexFiles
from retrieval.index import GrowingIndex, Index, Kind
from retrieval.index import delta as module
from retrieval.transform import fit

D, N = 12, 2_000
BATCH = 700


def cloud(n: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    centres = random.normal(size=(40, D))
    return (centres[random.integers(0, 40, n)] + 0.4 * random.normal(size=(n, D))).astype(
        np.float32
    )


def built(x: np.ndarray, ids: np.ndarray, kind: Kind = "exact") -> GrowingIndex:
    def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for start in range(0, len(x), BATCH):
            yield ids[start : start + BATCH], x[start : start + BATCH]

    return GrowingIndex(Index.build(fit("whiten:6", x), batches, len(x), kind=kind))


def nearest(
    index: GrowingIndex, x: dict[int, np.ndarray], queries: np.ndarray, k: int
) -> np.ndarray:
    """By hand: the cosine similarities of all vectors that are there."""
    ids = np.array(sorted(x))
    vectors = index.transform(np.stack([x[i] for i in ids]))
    order = np.argsort(-(index.transform(queries) @ vectors.T), axis=1, kind="stable")[:, :k]
    return ids[order]


@pytest.fixture
def files(tmp_path: Path) -> IndexFiles:
    return IndexFiles(*(tmp_path / name for name in ("main", "added", "removed")))


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 60)), max_size=6), st.integers(1, 12))
@settings(max_examples=25, deadline=None)
def test_it_finds_what_an_index_of_all_would_find(changes: list[tuple[bool, int]], k: int) -> None:
    x, random = dict(enumerate(cloud(300))), np.random.default_rng(1)
    index = built(np.stack(list(x.values())), np.arange(300))
    following = 300
    for adds, n in changes:
        if adds:
            new = cloud(n, following)
            index.add(np.arange(following, following + n), new)
            x |= dict(enumerate(new, following))
            following += n
        else:
            gone = random.choice(sorted(x), min(n, len(x) - 1), replace=False)
            assert index.remove(gone) == len(gone)
            x = {i: v for i, v in x.items() if i not in set(gone.tolist())}
    queries = cloud(20, 9)
    scores, ids = index.search(queries, k)
    assert index.ntotal == len(x)
    assert sorted(index.ids.tolist()) == sorted(x)
    expected = nearest(index, x, queries, k)
    assert (ids[:, : expected.shape[1]] == expected).mean() > 0.99  # but for equal scores
    assert (np.diff(scores[:, : expected.shape[1]], axis=1) <= 0).all()
    assert (ids[:, expected.shape[1] :] == -1).all()


@pytest.mark.parametrize("kind", ["exact", "ivf"])
def test_its_files_are_read_as_they_were_written(kind: Kind, files: IndexFiles) -> None:
    x = cloud(N)
    index = built(x, np.arange(N), kind)
    index.main.save(files.main)
    before = files.main.stat().st_mtime_ns, files.main.read_bytes()
    index.add(np.arange(N, N + 50), cloud(50, 3))
    index.remove(np.concatenate([np.arange(20), [N + 7]]))
    index.save_delta(files)
    again = GrowingIndex.load(files, *index.facts)
    again.check_content(files)
    assert (files.main.stat().st_mtime_ns, files.main.read_bytes()) == before
    assert again.ntotal == N + 50 - 21
    queries = cloud(30, 4)
    assert (again.search(queries, 9)[1] == index.search(queries, 9)[1]).all()
    assert (again.search(x[:20], 5)[1] >= 20).all()
    assert again.vectors(np.array([30, N + 1, -1])) == pytest.approx(
        index.vectors(np.array([30, N + 1, -1]))
    )
    assert "beside it" in again.kind
    assert "left out" in again.kind


@pytest.mark.parametrize("kind", ["exact", "ivf"])
def test_merged_it_is_one_index_of_all(kind: Kind, files: IndexFiles) -> None:
    index = built(cloud(N), np.arange(N), kind)
    index.main.save(files.main)
    index.add(np.arange(N, N + 60), cloud(60, 3))
    index.remove(np.arange(30))
    assert not index.is_crowded
    index.remove(np.arange(30, 50))
    assert index.is_crowded
    merged = index.merged(Index.load(files.main, index.main.settings, mmap=False))
    assert merged is not None
    assert (merged.added, len(merged.removed), merged.ntotal) == (None, 0, N + 10)
    queries = cloud(N)[100:300]
    pairs = zip(merged.search(queries, 5)[1], index.search(queries, 5)[1], strict=True)
    assert np.mean([np.isin(ours, theirs).mean() for ours, theirs in pairs]) > 0.97


def test_a_small_index_is_written_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    index = built(cloud(module.SMALL), np.arange(module.SMALL))
    assert not index.is_crowded
    index.remove(np.array([3]))
    assert index.is_crowded
    monkeypatch.setattr(module, "SMALL", 0)
    assert not index.is_crowded


def test_a_filter_holds_for_both_parts() -> None:
    index = built(cloud(N), np.arange(N), "ivf")
    index.add(np.arange(N, N + 50), cloud(50, 3))
    index.remove(np.arange(0, 100))
    wanted = np.concatenate([np.arange(100, 1900, 7), np.arange(N, N + 50, 3)])
    allowed = index.allow(wanted)
    assert allowed.count == len(wanted)
    scores, ids = index.search(cloud(40, 5), 30, allowed=allowed)
    assert np.isin(ids, wanted).all()
    assert np.isfinite(scores).all()
    assert index.search(cloud(2, 5), 5, allowed=index.allow(wanted[-2:]))[1][:, 2:].max() == -1


@pytest.mark.parametrize("content", [b"", b"x" * 160, b"x" * 200])
def test_a_damaged_list_of_removed_ids_is_one_sentence(content: bytes, files: IndexFiles) -> None:
    index = built(cloud(N), np.arange(N))
    index.main.save(files.main)
    index.remove(np.arange(20))
    index.save_delta(files)
    files.removed.write_bytes(content)
    with pytest.raises(GalleryError, match="verify --repair"):
        GrowingIndex.load(files, *index.facts)


@pytest.mark.parametrize(
    "ids", [[3, 3], [-1, 5], [5, 4], [7], [*range(N + 1)]], ids=lambda x: str(x)[:9]
)
@pytest.mark.parametrize("said", [2, 10**12, -1, "many", float("inf")])
def test_forged_removed_ids_are_refused(
    ids: list[int], said: int | float | str, files: IndexFiles
) -> None:
    index = built(cloud(N), np.arange(N))
    index.main.save(files.main)
    files.removed.write_bytes(np.array(ids, "<i8").tobytes())
    sha256 = hashlib.sha256(files.removed.read_bytes()).hexdigest()
    with pytest.raises(GalleryError, match="removed"):
        GrowingIndex.load(files, index.main.settings, {}, {"ids": said, "sha256": sha256})


def test_a_list_of_ids_that_the_index_does_not_hold_is_merged_into_nothing(
    files: IndexFiles,
) -> None:
    index = built(cloud(N), np.arange(N))
    index.main.save(files.main)
    forged = GrowingIndex(index.main, removed=np.array([10**9]))
    assert forged.merged(Index.load(files.main, index.main.settings, mmap=False)) is None


def test_what_was_added_has_to_fit_the_main_index(files: IndexFiles) -> None:
    index = built(cloud(N), np.arange(N))
    index.main.save(files.main)
    other = Index.build(fit("none", cloud(9)), lambda: iter([(np.arange(9), cloud(9))]), 9)
    other.save(files.added)
    with pytest.raises(GalleryError, match="does not fit"):
        GrowingIndex.load(files, index.main.settings, other.settings, {})


@pytest.mark.long
@pytest.mark.parametrize("share", [0.1, 0.5])
def test_a_filter_that_goes_by_what_the_cells_go_by_still_finds_the_nearest(share: float) -> None:
    """A fixed number of cells found 0.87 of them: those near a query hold nothing that passes."""
    random = np.random.default_rng(5)
    centres = random.normal(size=(60, D))
    kind = random.integers(0, 60, 20_000)
    x = (centres[kind] + 0.5 * random.normal(size=(len(kind), D))).astype(np.float32)
    ids = np.arange(len(x))
    index = GrowingIndex(Index.build(fit("none", x), lambda: iter([(ids, x)]), len(x), kind="ivf"))
    passing = ids[kind < share * 60]
    queries = x[kind >= share * 60][:200] + 0.1
    found = index.search(queries, 10, allowed=index.allow(passing))[1]
    assert np.isin(found, passing).all()
    scores = index.transform(queries) @ index.transform(x[passing]).T
    nearest = passing[np.argsort(-scores, axis=1)[:, :10]]
    recall = np.mean([np.isin(a, b).mean() for a, b in zip(nearest, found, strict=True)])
    assert recall >= 0.97

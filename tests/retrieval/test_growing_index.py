"""An index that grows by pictures of another kind: its recall is measured again, and kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from retrieval.index import Index
from retrieval.transform import fit

D, N, K = 24, 12_000, 10


def cloud(n: int, seed: int, corner: float) -> np.ndarray:
    """Unit vectors around 200 centres, in all directions or in one corner."""
    random = np.random.default_rng([seed, int(10 * corner)])
    centres = random.normal(size=(200, D)) * (1 if not corner else 0.25)
    centres[:, 0] += corner
    x = centres[random.integers(0, 200, n)] / np.linalg.norm(centres, axis=1).mean()
    x = x + 0.15 * random.normal(size=(n, D))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def true_recall(index: Index, x: np.ndarray, queries: np.ndarray) -> float:
    theirs = NearestNeighbors(n_neighbors=K, metric="cosine").fit(x).kneighbors(queries)[1]
    found = index.search(queries, K)[1]
    return float(np.mean([np.isin(a, b).mean() for a, b in zip(theirs, found, strict=True)]))


@pytest.fixture(scope="module")
def old() -> np.ndarray:
    return cloud(N, 0, 0.0)


@pytest.fixture
def index(old: np.ndarray) -> Index:
    def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for start in range(0, N, 4000):
            yield np.arange(start, start + 4000), old[start : start + 4000]

    return Index.build(fit("none", old), batches, N, kind="ivf")


def test_recall_is_that_of_what_was_added(index: Index, old: np.ndarray) -> None:
    new = cloud(N, 1, 3.0)
    index.add(np.arange(N, 2 * N), new)
    assert index.recall is None
    index.settle()
    everything = np.vstack([old, new])
    for queries in (cloud(200, 2, 3.0), cloud(200, 2, 0.0)):
        measured = true_recall(index, everything, queries)
        assert measured >= 0.98
    assert index.recall == pytest.approx(true_recall(index, everything, new[:200]), abs=0.01)


def test_a_search_after_a_change_needs_no_word(index: Index, old: np.ndarray) -> None:
    new = cloud(N, 1, 3.0)
    index.add(np.arange(N, 2 * N), new)
    assert true_recall(index, np.vstack([old, new]), cloud(200, 2, 3.0)) >= 0.98
    assert (index.recall or 0) >= 0.98


def test_what_takes_many_more_cells_is_to_be_built_anew(index: Index) -> None:
    at_first = float(index.settings["cells"])
    index.add(np.arange(N, 4 * N), cloud(3 * N, 1, 3.0))
    settled = index.settle()
    assert settled == (float(index.settings["cells"]) <= 4 * at_first)
    assert not settled


def test_recall_is_stored_as_it_was_measured_last(index: Index, tmp_path: Path) -> None:
    before = index.recall
    index.add(np.arange(N, N + 3000), cloud(3000, 1, 3.0))
    index.remove(np.arange(1000))
    index.save(tmp_path / "index.faiss")
    loaded = Index.load(tmp_path / "index.faiss", index.settings)
    assert loaded.recall == index.recall
    assert (loaded.recall or 0) >= 0.98
    assert before is not None


def test_a_small_index_that_lost_all_settles(index: Index) -> None:
    index.remove(np.arange(N))
    assert index.settle()
    assert index.search(cloud(2, 0, 0.0), 3)[1].tolist() == [[-1] * 3] * 2

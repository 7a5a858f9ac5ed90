"""Crowds among many images: each member is near all others."""

from __future__ import annotations

import numpy as np
import pytest

from retrieval.index import Allowed, GrowingIndex, Index
from retrieval.retriever.duplicates import crowds
from retrieval.retriever.duplicates.candidates import IndexedNeighbours
from retrieval.retriever.duplicates.neighbours import HeldNeighbours, NeighbourSearch
from retrieval.retriever.duplicates.verified import VerifiedCandidates
from retrieval.transform import Transform

N, D, MEMBERS = 1500, 32, 600


class CountedIndex(GrowingIndex):
    """An index that counts the neighbours it was asked for."""

    asked = 0

    def search_vectors(
        self, x: np.ndarray, k: int, *, allowed: Allowed | None = None, least: float = -1.0
    ) -> tuple[np.ndarray, np.ndarray]:
        self.asked += len(x) * k
        return super().search_vectors(x, k, allowed=allowed, least=least)


def unit(x: np.ndarray) -> np.ndarray:
    return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True), np.float32)


def crowded(noise: float) -> np.ndarray:
    """MEMBERS images around one, a tenth as many around another, and others, in any order."""
    chance = np.random.default_rng(0)
    x = chance.normal(size=(N, D))
    x[:MEMBERS] = x[0] + noise * chance.normal(size=(MEMBERS, D))
    few = slice(MEMBERS, MEMBERS + MEMBERS // 10)
    x[few] = x[MEMBERS] + noise * chance.normal(size=x[few].shape)
    return unit(x[chance.permutation(N)]).astype(np.float16)


def indexed(x: np.ndarray) -> tuple[CountedIndex, IndexedNeighbours]:
    places = np.arange(len(x))
    index = Index.build(Transform("none", x.shape[1]), lambda: iter([(places, x)]), len(x))
    counted = CountedIndex(index)
    return counted, IndexedNeighbours(VerifiedCandidates(counted, x, places, places), places)


def pairs(search: NeighbourSearch, asked: np.ndarray, least: float, step: int = 500) -> np.ndarray:
    """Pairs of an image that is asked for and a neighbour, as numbers, sorted."""
    found = [np.empty(0, np.int64)]
    for start in range(0, len(asked), step):
        part = asked[start : start + step]
        for row, ids, scores in search.down_to(part, least):
            found.append(part[row] * N + ids[scores >= least])
    return np.sort(np.concatenate(found))


def table(x: np.ndarray) -> np.ndarray:
    """The scores of all pairs; of an image with itself -1."""
    scores = unit(x.astype(np.float32)) @ unit(x.astype(np.float32)).T
    np.fill_diagonal(scores, -1)
    return scores


@pytest.mark.parametrize(
    ("noise", "least"), [(0.02, 0.99), (0.06, 0.99), (0.2, 0.95), (0.22, 0.95), (0.4, 0.8)]
)
def test_a_crowd_has_all_pairs_and_takes_few_searches(noise: float, least: float) -> None:
    x = crowded(noise)
    index, search = indexed(x)
    index.asked = 0
    found = pairs(search, np.arange(N), least)
    scores = table(x)
    assert np.isin(np.flatnonzero(scores >= least + 1e-5), found).all()
    assert (scores.ravel()[found] >= least - 1e-5).all()
    assert len(np.unique(found)) == len(found) > 20 * N
    assert index.asked < 0.5 * MEMBERS**2  # to ask for each member alone took 1.1 to 3.6


def test_a_crowd_is_searched_again_for_a_lower_score_or_among_fewer_images() -> None:
    x = crowded(0.06)
    _, search = indexed(x)
    exact = HeldNeighbours(x, np.arange(N))
    kept = np.flatnonzero(np.random.default_rng(1).random(N) < 0.7)
    for places in (np.arange(N), kept):
        search.keep(places)
        exact.keep(places)
        for least in (0.99, 0.9):
            found, wanted = (pairs(each, places, least) for each in (search, exact))
            assert np.array_equal(found, wanted)


def test_a_crowd_is_compared_in_blocks_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    x = crowded(0.06)
    known = pairs(indexed(x)[1], np.arange(N), 0.99)
    monkeypatch.setattr(crowds, "ROWS_A_PART", 100)
    monkeypatch.setattr(crowds, "PAIRS_AT_ONCE", 1)
    monkeypatch.setattr(crowds, "FEWEST_ROWS", 7)
    monkeypatch.setattr(crowds, "CROWDS_HELD", 1)
    assert np.array_equal(pairs(indexed(x)[1], np.arange(N), 0.99, step=90), known)


def test_each_image_may_have_a_least_score_of_its_own() -> None:
    x = crowded(0.2)
    least = np.random.default_rng(1).uniform(0.9, 0.99, N).astype(np.float32)
    scores = table(x)
    for row, ids, found in indexed(x)[1].down_to(np.arange(N), least):
        wanted = np.flatnonzero(scores[row] >= least[row] + 1e-5)
        assert np.isin(wanted, ids[found >= least[row]]).all()
        assert row not in ids

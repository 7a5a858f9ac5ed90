"""Query expansion, augmentation and re-ranking, against plain loops and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.errors import ImgretError
from retrieval.refinement import (
    Neighbourhood,
    Refinement,
    Reranking,
    k_reciprocal_distances,
    weighted_mean,
)


def unit(n: int, d: int, seed: int) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=(n, d))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def zhong(vectors: np.ndarray, k1: int, k2: int, weight: float) -> np.ndarray:
    """Zhong et al. 2017 in loops and sets, as the paper words it: row 0 is the query."""
    similarities = vectors @ vectors.T
    n = len(vectors)
    ranks = [list(np.argsort(-similarities[i], kind="stable")) for i in range(n)]

    def reciprocal(i: int, k: int) -> set[int]:
        return {j for j in ranks[i][: k + 1] if i in ranks[j][: k + 1]}

    encoded = np.zeros((n, n))
    for i in range(n):
        near = reciprocal(i, k1)
        expanded = set(near)
        for j in near:
            half = reciprocal(j, max(1, round(k1 / 2)))
            if len(half & near) > 2 / 3 * len(half):
                expanded |= half
        for j in expanded:
            encoded[i, j] = np.exp(similarities[i, j] - 1)
        encoded[i] /= encoded[i].sum()
    if k2 > 1:
        encoded = np.array([encoded[ranks[i][:k2]].mean(axis=0) for i in range(n)])
    distances = []
    for j in range(1, n):
        common = np.minimum(encoded[0], encoded[j]).sum()
        union = np.maximum(encoded[0], encoded[j]).sum()
        distances.append((1 - weight) * (1 - common / union) + weight * (1 - similarities[0, j]))
    return np.array(distances)


@settings(max_examples=30)
@given(
    st.integers(2, 30), st.integers(1, 12), st.integers(1, 8), st.floats(0, 1), st.integers(0, 999)
)
def test_re_ranking_is_that_of_the_paper(
    m: int, k1: int, k2: int, weight: float, seed: int
) -> None:
    batch = np.stack([unit(m + 1, 6, seed), unit(m + 1, 6, seed + 1)])
    ours = k_reciprocal_distances(batch @ batch.transpose(0, 2, 1), Reranking(m, k1, k2, weight))
    theirs = np.stack([zhong(vectors.astype(np.float64), k1, k2, weight) for vectors in batch])
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_an_image_that_shares_the_neighbours_of_the_query_comes_before_a_nearer_stranger() -> None:
    cluster = np.array([[1, 0.02 * n, 0.3] for n in range(6)])
    stranger = np.array([[1.0, 0.05, 0.62]])
    crowd = np.array([[1.0, 0.05 + 0.01 * n, 1.0] for n in range(6)])
    x = np.concatenate([cluster, stranger, crowd])
    x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    distances = k_reciprocal_distances((x @ x.T)[None], Reranking(12, k1=5, k2=1, weight=0.0))[0]
    assert distances[:5].max() < distances[5]


def test_a_weighted_mean_is_what_one_computes_by_hand() -> None:
    query, neighbours = np.array([[1.0, 0.0]]), np.array([[[0.6, 0.8], [0.0, 1.0]]])
    mean = weighted_mean(query, neighbours, np.array([[0.6, -0.5]]), alpha=2.0)
    expected = np.array([1 + 0.36 * 0.6, 0.36 * 0.8])
    np.testing.assert_allclose(mean[0], expected / np.linalg.norm(expected), rtol=1e-6)


def test_a_missing_neighbour_weighs_nothing() -> None:
    query, neighbours = unit(3, 4, 0), np.zeros((3, 2, 4), np.float32)
    missing = np.full((3, 2), -np.inf)
    np.testing.assert_allclose(weighted_mean(query, neighbours, missing, 1.0), query, rtol=1e-6)


def test_specs_are_read() -> None:
    assert Refinement.of() == Refinement.of("none", "none", "none") == Refinement()
    assert Refinement.of("3", "2:2.5", "50:10:3:0.5") == Refinement(
        Neighbourhood(3, 1.0), Neighbourhood(2, 2.5), Reranking(50, 10, 3, 0.5)
    )


@pytest.mark.parametrize("spec", ["", "0", "-1", "3:", "3:x", "3:1:2", "1e3", "9999", "3 ", "nan"])
def test_what_is_no_spec_is_refused_by_name(spec: str) -> None:
    for name in ("expand", "augment"):
        with pytest.raises(ImgretError, match=name):
            Refinement.of(**{name: spec})


@pytest.mark.parametrize("spec", ["0", "50:20", "50:20:6", "50:20:6:1.5", "50:0:6:0.3", "a"])
def test_a_wrong_re_ranking_is_refused(spec: str) -> None:
    with pytest.raises(ImgretError, match="rerank"):
        Refinement.of(rerank=spec)


@given(st.integers(-5, 2000), st.integers(-5, 2000))
def test_numbers_from_1_to_999_are_taken_and_the_bounds_are_told(n: int, k: int) -> None:
    if 1 <= n <= 999:
        assert Refinement.of(expand=f"{n}:2").expand == Neighbourhood(n, 2.0)
    else:
        with pytest.raises(ImgretError, match=rf"^expand is '{n}:2'\..* N from 1 to 999 and A"):
            Refinement.of(expand=f"{n}:2")
    spec = f"{n}:{k}:{k}:1"
    if 1 <= min(n, k) <= max(n, k) <= 999:
        assert Refinement.of(rerank=spec).rerank == Reranking(n, k, k, 1.0)
    else:
        with pytest.raises(ImgretError, match=r"^rerank is .* whole numbers from 1 to 999, and"):
            Refinement.of(rerank=spec)


def test_more_copies_than_neighbours_are_looked_at_have_distances() -> None:
    similarities = np.ones((1, 12, 12), np.float32)
    distances = k_reciprocal_distances(similarities, Reranking(m=11, k1=3, k2=2, weight=0.3))
    assert np.isfinite(distances).all()
    assert (distances >= -1e-6).all()
    assert (distances <= 0.7 + 1e-6).all()


@settings(max_examples=20)
@given(st.integers(2, 12), st.integers(1, 10), st.integers(1, 20), st.integers(1, 8))
def test_what_fills_a_place_is_nobodys_neighbour(n: int, spare: int, k1: int, k2: int) -> None:
    vectors = unit(n + 1, 6, 3)
    padded = np.concatenate([vectors, np.zeros((spare, 6), np.float32)])
    how = Reranking(n + spare, k1, k2, 0.3)
    alone = k_reciprocal_distances((vectors @ vectors.T)[None], how)[0]
    there = np.arange(n + spare)[None] < n
    filled = k_reciprocal_distances((padded @ padded.T)[None], how, there)[0]
    np.testing.assert_allclose(filled[:n], alone, atol=1e-5)
    assert np.isposinf(filled[n:]).all()

"""A sample that is drawn: the same each time, sorted, and each place as likely as any other."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from retrieval.draw import evenly_drawn

SEEDS = st.integers(0, 2**32)


@given(st.integers(0, 500), st.integers(0, 500), SEEDS)
def test_a_sample_is_sorted_distinct_and_as_large_as_it_may_be(
    n: int, most: int, seed: int
) -> None:
    drawn = evenly_drawn(n, most, seed=seed)
    assert drawn.dtype == np.int64
    assert len(drawn) == min(n, most)
    assert (np.diff(drawn) > 0).all()
    assert set(drawn.tolist()) <= set(range(n))


@given(st.integers(1, 500), SEEDS)
def test_the_same_numbers_draw_the_same_sample(n: int, seed: int) -> None:
    one, other = (evenly_drawn(n, n // 2, seed=seed) for _ in range(2))
    assert one.tolist() == other.tolist()


def test_another_seed_draws_another_sample() -> None:
    samples = {tuple(evenly_drawn(1000, 10, seed=seed).tolist()) for seed in range(50)}
    assert len(samples) == 50


def test_a_generator_draws_another_sample_each_time() -> None:
    random = np.random.default_rng(0)
    samples = {tuple(evenly_drawn(1000, 10, seed=random).tolist()) for _ in range(50)}
    assert len(samples) == 50


def test_each_place_is_as_likely() -> None:
    counts = np.zeros(20)
    for seed in range(2000):
        counts[evenly_drawn(20, 5, seed=seed)] += 1
    assert counts.sum() == 10_000
    assert chisquare(counts).pvalue > 0.01


def test_the_ends_are_drawn_too() -> None:
    samples = [evenly_drawn(10, 9, seed=seed) for seed in range(200)]
    left_out = {(set(range(10)) - set(sample.tolist())).pop() for sample in samples}
    assert left_out == set(range(10))

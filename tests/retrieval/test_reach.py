"""In how many cells neighbours are looked for, by how near they are."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from retrieval.index.reach import Reach


def test_a_burst_in_a_far_cell_does_not_widen_the_search_for_all_that_is_farther() -> None:
    scores = np.linspace(1, 0, 40_000)
    ranks = np.full(40_000, 10)
    ranks[2_000:2_030] = 500  # a query that a whole burst is near to, but its centre is not
    reach = Reach.of_pairs(scores, ranks, 4096)
    assert reach.cells_for(np.array([0.99, 0.9, 0.5, 0.1])).tolist() == [10, 10, 10, 10]


def test_what_only_lies_far_is_looked_for_there() -> None:
    scores = np.linspace(1, 0, 40_000)
    ranks = np.where(scores > 0.5, 2, 300)
    reach = Reach.of_pairs(scores, ranks, 4096)
    assert reach.cells_for(np.array([0.9, 0.1])).tolist() == [2, 300]


@given(st.integers(0, 2**32 - 1), st.integers(1, 5_000), st.floats(0, 3))
def test_farther_neighbours_take_as_many_cells_or_more(seed: int, n: int, noise: float) -> None:
    random = np.random.default_rng(seed)
    scores = random.uniform(-1, 1, n)
    ranks = np.clip(np.exp(3 * (1 - scores) + noise * random.normal(size=n)), 1, 4096).astype(int)
    reach = Reach.of_pairs(scores, ranks, 4096)
    asked = reach.cells_for(np.linspace(1, -1, 50))
    assert (np.diff(asked) >= 0).all()
    assert reach == Reach.parse(str(reach), 4096)

"""How often what is predicted is right, against scikit-learn and sums made by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve

from retrieval.evaluation.calibration import prior_weights, reliability_bins
from retrieval.metrics import expected_calibration_error, holm, neighbour_recall, vote


def predictions(n: int = 500, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    predicted = random.beta(2, 1, n)
    return predicted, random.random(n) < predicted**2  # too sure of itself


@pytest.mark.parametrize("seed", range(3))
def test_the_bins_are_the_calibration_curve_of_scikit_learn(seed: int) -> None:
    predicted, right = predictions(seed=seed)
    bins = reliability_bins(predicted, right)
    observed, mean = calibration_curve(right, predicted, n_bins=10)
    assert [b.observed for b in bins] == pytest.approx(observed.tolist())
    assert [b.predicted for b in bins] == pytest.approx(mean.tolist())
    counts = np.histogram(predicted, np.linspace(0, 1, 11))[0]
    assert [b.count for b in bins] == counts[counts > 0].tolist()


def test_a_weight_counts_as_so_many_repetitions() -> None:
    predicted, right = predictions(60)
    times = np.random.default_rng(1).integers(1, 5, 60)
    weighted = reliability_bins(predicted, right, times.astype(float))
    repeated = reliability_bins(np.repeat(predicted, times), np.repeat(right, times))
    for one, other in zip(weighted, repeated, strict=True):
        assert one.predicted == pytest.approx(other.predicted)
        assert one.observed == pytest.approx(other.observed)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40))
def test_every_prediction_is_in_one_bin_and_each_bin_holds_its_mean(
    pairs: list[tuple[float, bool]],
) -> None:
    predicted, right = (np.array(part) for part in zip(*pairs, strict=True))
    bins = reliability_bins(predicted, right)
    assert sum(b.count for b in bins) == len(pairs)
    assert sum(b.count * b.observed for b in bins) == pytest.approx(right.sum())
    assert sum(b.count * b.predicted for b in bins) == pytest.approx(predicted.sum())
    assert [b.predicted for b in bins] == sorted(b.predicted for b in bins)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40))
def test_the_calibration_error_is_the_mean_gap_of_the_bins(pairs: list[tuple[float, bool]]) -> None:
    predicted, right = (np.array(part) for part in zip(*pairs, strict=True))
    gaps = [b.count * abs(b.predicted - b.observed) for b in reliability_bins(predicted, right)]
    error = expected_calibration_error(predicted, right)
    assert error == pytest.approx(sum(gaps) / len(pairs), abs=1e-12)
    assert 0 <= error <= 1


def test_certainty_is_in_the_last_bin_and_impossibility_in_the_first() -> None:
    bins = reliability_bins(np.array([1.0, 1.0, 0.0]), np.array([True, False, False]))
    assert [(b.predicted, b.observed, b.count) for b in bins] == [(0, 0, 1), (1, 0.5, 2)]


@given(st.lists(st.booleans(), min_size=2, max_size=50), st.floats(0.01, 0.99))
def test_weights_move_the_share_of_known_queries_to_the_prior(
    known: list[bool], prior: float
) -> None:
    given_known = np.array(known)
    weights = prior_weights(given_known, prior)
    assert weights.mean() == pytest.approx(1)
    if 0 < given_known.mean() < 1:
        assert np.average(given_known, weights=weights) == pytest.approx(prior)
    else:
        assert weights.tolist() == [1] * len(known)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_rejects_what_its_steps_reject(p_values: list[float]) -> None:
    """Holm's own procedure: from the smallest p on, until one is above its share of the level."""
    corrected = holm(np.array(p_values))
    for level in (0.01, 0.05, 0.2):
        rejected: set[int] = set()
        order = np.argsort(p_values, kind="stable")
        for step, place in enumerate(order):
            if p_values[place] * (len(p_values) - step) > level:
                break
            rejected.add(int(place))
        assert set(np.flatnonzero(corrected <= level).tolist()) == rejected
    assert (corrected >= p_values).all()


@given(st.lists(st.lists(st.integers(-1, 3), min_size=5, max_size=5), min_size=1, max_size=8))
def test_a_vote_is_that_of_a_count_by_hand(rows: list[list[int]]) -> None:
    for row, winner in zip(rows, vote(np.array(rows), k=5).tolist(), strict=True):
        there = [label for label in row if label >= 0]
        expected = max(there, key=lambda one: (there.count(one), -there.index(one)), default=-1)
        assert winner == expected


@given(st.permutations(range(8)), st.permutations(range(4, 12)), st.integers(1, 8))
def test_the_recall_of_neighbours_is_that_of_sets(
    found: list[int], exact: list[int], k: int
) -> None:
    share = len(set(found[:k]) & set(exact[:k])) / k
    assert neighbour_recall(np.array([found[:k]]), np.array([exact[:k]])) == pytest.approx(share)

"""Every metric of a ranking against another library's, and by hand where there are traps."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, ndcg_score
from torchmetrics.functional import retrieval as theirs

from retrieval import metrics

NOBODY = -1


def ranking(
    seed: int, classes: int = 6, gallery: int = 60
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Labels and leave-one-out rankings of random vectors, and the scores in rank order."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, gallery)
    x = random.normal(size=(gallery, 5)) + random.normal(size=(classes, 5))[labels]
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    scores = x @ x.T
    np.fill_diagonal(scores, -np.inf)
    order = np.argsort(-scores, axis=1)[:, :-1]
    found = labels[order]
    positive = np.broadcast_to(np.arange(gallery - 1, 0, -1) / gallery, found.shape)
    return labels, found, (found == labels[:, None]).sum(axis=1), positive.copy()


def per_query(measure, labels, found, scores, **options):  # type: ignore[no-untyped-def]
    relevant = torch.from_numpy(found == labels[:, None])
    ranked = torch.from_numpy(scores)
    return [float(measure(s, r, **options)) for s, r in zip(ranked, relevant, strict=True)]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("k", [1, 5, 10, 59])
def test_metrics_at_k_are_those_of_torchmetrics(seed: int, k: int) -> None:
    labels, found, totals, scores = ranking(seed)
    precision = per_query(theirs.retrieval_precision, labels, found, scores, top_k=k)
    hits = per_query(theirs.retrieval_hit_rate, labels, found, scores, top_k=k)
    gains = per_query(theirs.retrieval_normalized_dcg, labels, found, scores, top_k=k)
    np.testing.assert_allclose(metrics.precision_at_k(labels, found, k), precision, atol=1e-6)
    np.testing.assert_allclose(metrics.recall_at_k(labels, found, k), hits, atol=1e-6)
    np.testing.assert_allclose(metrics.ndcg_at_k(labels, found, totals, k), gains, atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_metrics_of_whole_rankings_are_those_of_torchmetrics_and_scikit_learn(seed: int) -> None:
    labels, found, totals, scores = ranking(seed)
    ours = metrics.average_precision(labels, found, totals)
    relevant = found == labels[:, None]
    sklearns = [average_precision_score(r, s) for r, s in zip(relevant, scores, strict=True)]
    np.testing.assert_allclose(ours, sklearns, atol=1e-9)
    torchs = per_query(theirs.retrieval_average_precision, labels, found, scores)
    np.testing.assert_allclose(ours, torchs, atol=1e-6)
    r_precision = per_query(theirs.retrieval_r_precision, labels, found, scores)
    np.testing.assert_allclose(metrics.r_precision(labels, found, totals), r_precision, atol=1e-6)
    gains = [ndcg_score([r], [s], k=10) for r, s in zip(relevant, scores, strict=True)]
    np.testing.assert_allclose(metrics.ndcg_at_k(labels, found, totals, 10), gains, atol=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_means_are_those_of_pytorch_metric_learning(seed: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
        from pytorch_metric_learning.utils.inference import CustomKNN

    from pytorch_metric_learning.distances import CosineSimilarity

    random = np.random.default_rng(seed)
    labels = np.sort(random.integers(0, 5, 80))
    x = random.normal(size=(80, 8)) + random.normal(size=(5, 8))[labels]
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    scores = x @ x.T
    np.fill_diagonal(scores, -np.inf)
    found = labels[np.argsort(-scores, axis=1)[:, :-1]]
    totals = (found == labels[:, None]).sum(axis=1)
    calculator = AccuracyCalculator(k=79, knn_func=CustomKNN(CosineSimilarity()))
    known = calculator.get_accuracy(torch.from_numpy(x), torch.from_numpy(labels))
    ours = {
        "precision_at_1": metrics.precision_at_k(labels, found, 1),
        "r_precision": metrics.r_precision(labels, found, totals),
        "mean_average_precision_at_r": metrics.average_precision_at_r(labels, found, totals),
        "mean_average_precision": metrics.average_precision(labels, found, totals),
    }
    for name, values in ours.items():
        assert values.mean() == pytest.approx(known[name], abs=1e-6), name


def test_a_case_counted_by_hand() -> None:
    labels, totals = np.array([1]), np.array([3])
    found = np.array([[1, 0, 1, 0, 1]])
    assert metrics.average_precision(labels, found, totals)[0] == pytest.approx(
        (1 / 1 + 2 / 3 + 3 / 5) / 3
    )
    assert metrics.average_precision_at_r(labels, found, totals)[0] == pytest.approx(
        (1 + 2 / 3) / 3
    )
    assert metrics.r_precision(labels, found, totals)[0] == pytest.approx(2 / 3)
    best = 1 + 1 / math.log2(3)
    assert metrics.ndcg_at_k(labels, found, totals, 2)[0] == pytest.approx(1 / best)


def test_a_query_alone_in_its_class_has_no_recall_but_nan() -> None:
    labels, found, totals = np.array([7]), np.array([[1, 2, 3]]), np.array([0])
    for measure in (metrics.average_precision, metrics.average_precision_at_r, metrics.r_precision):
        assert np.isnan(measure(labels, found, totals)).all()
    assert np.isnan(metrics.ndcg_at_k(labels, found, totals, 2)).all()


def test_a_gallery_smaller_than_k_is_padded_and_still_divided_by_k() -> None:
    labels, totals = np.array([1]), np.array([2])
    found = np.array([[1, 1, NOBODY, NOBODY, NOBODY]])
    assert metrics.precision_at_k(labels, found, 5)[0] == pytest.approx(2 / 5)
    assert metrics.ndcg_at_k(labels, found, totals, 5)[0] == 1
    assert metrics.average_precision(labels, found, totals)[0] == 1


def test_what_was_never_found_counts_in_average_precision() -> None:
    assert metrics.average_precision(np.array([1]), np.array([[1]]), np.array([4]))[0] == 0.25


def test_too_few_neighbours_are_refused() -> None:
    labels, found, totals = np.array([1]), np.array([[1]]), np.array([2])
    for call in (
        lambda: metrics.recall_at_k(labels, found, 2),
        lambda: metrics.ndcg_at_k(labels, found, totals, 2),
        lambda: metrics.r_precision(labels, found, totals),
        lambda: metrics.average_precision_at_r(labels, found, totals),
        lambda: metrics.vote(found, 2),
    ):
        with pytest.raises(ValueError, match="2 neighbours a query are needed, got 1"):
            call()


def test_the_vote_is_the_most_frequent_label_and_of_equals_the_nearest() -> None:
    found = np.array([[2, 1, 1], [2, 1, 3], [NOBODY] * 3, [4, NOBODY, NOBODY], [5, 6, 6]])
    assert metrics.vote(found, 3).tolist() == [1, 2, NOBODY, 4, 6]
    assert metrics.vote(found, 1).tolist() == [2, 2, NOBODY, 4, 5]


def test_the_vote_is_that_of_a_k_nearest_neighbour_classifier() -> None:
    from sklearn.neighbors import KNeighborsClassifier

    random = np.random.default_rng(0)
    x, y, queries = (
        random.normal(size=(90, 4)),
        random.integers(0, 2, 90),
        random.normal(size=(40, 4)),
    )
    known = KNeighborsClassifier(5).fit(x, y)
    found = y[known.kneighbors(queries, return_distance=False)]
    assert metrics.vote(found, 5).tolist() == known.predict(queries).tolist()


def test_the_bootstrap_interval_is_near_that_of_a_normal_mean() -> None:
    values = np.random.default_rng(0).normal(3, 2, 400)
    low, high = metrics.bootstrap_interval(values)
    half = 1.96 * values.std() / math.sqrt(len(values))
    assert low == pytest.approx(values.mean() - half, abs=0.03)
    assert high == pytest.approx(values.mean() + half, abs=0.03)


@pytest.mark.parametrize("classes", [12, 60])
def test_an_interval_over_classes_holds_for_new_classes(classes: int) -> None:
    """The true mean is known: classes differ with a spread of 0.2 around 0.5."""
    random, inside, of_queries = np.random.default_rng(0), 0, 0
    for seed in range(120):
        size = random.integers(5, 60, classes)
        groups = np.repeat(np.arange(classes), size)
        values = random.normal(0.5, 0.2, classes)[groups] + random.normal(0, 0.2, len(groups))
        low, high = metrics.bootstrap_interval(values, groups, resamples=400, seed=seed)
        inside += low <= 0.5 <= high
        low, high = metrics.bootstrap_interval(values, resamples=200, seed=seed)
        of_queries += low <= 0.5 <= high
    assert 0.88 <= inside / 120 <= 1
    assert of_queries / 120 < 0.6  # those are about other queries of the same classes


def test_an_interval_over_groups_of_a_hand_computed_case() -> None:
    values, groups = np.array([0.0, 0.0, 1.0]), np.array([7, 7, 3])
    low, high = metrics.bootstrap_interval(values, groups)  # means: 0, 1/3 and 1 of two groups
    assert (low, high) == (0, 1)
    assert all(map(math.isnan, metrics.bootstrap_interval(values, np.zeros(3))))


def test_differences_of_a_class_change_their_sign_together() -> None:
    groups = np.repeat(np.arange(6), 50)
    gain = np.repeat([0.3, 0.2, -0.1, -0.2, 0.1, -0.25], 50)
    assert metrics.paired_test(gain, np.zeros(300)) > 0.05 or gain.mean() > 0
    p = metrics.paired_test(gain, np.zeros(300), groups)
    signs = np.array(np.meshgrid(*[[-1, 1]] * 6)).reshape(6, -1).T
    sums = (signs * gain[::50]).sum(axis=1)
    by_hand = (np.abs(sums) >= abs(gain[::50].sum()) - 1e-9).mean()
    assert p == pytest.approx(by_hand, abs=0.02)


def test_the_bootstrap_interval_of_nothing_one_and_equals() -> None:
    for values in ([], [0.4]):  # one tells nothing of how others differ from it
        assert all(map(math.isnan, metrics.bootstrap_interval(np.array(values))))
    assert metrics.bootstrap_interval(np.full(9, 0.4)) == pytest.approx((0.4, 0.4))


def test_the_paired_test_is_exact_on_few_pairs() -> None:
    first, second = np.array([3.0, 4, 5, 6, 7, 9]), np.array([1.0, 2, 2, 3, 5, 8])
    assert metrics.paired_test(first, second) == pytest.approx(2 / 2**6)


def test_the_paired_test_agrees_with_wilcoxon_on_clear_and_on_no_differences() -> None:
    from scipy.stats import wilcoxon

    random = np.random.default_rng(1)
    a, noise = random.normal(size=200), random.normal(size=200)
    for shift in (0.0, 0.5):
        p, other = metrics.paired_test(a, a + noise + shift), wilcoxon(noise + shift).pvalue
        assert (p < 0.05) == (other < 0.05)
    assert metrics.paired_test(a, a) == 1.0


def test_one_difference_among_pairs_proves_nothing() -> None:
    assert metrics.paired_test(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 2.0])) == 1.0


def test_holm_is_the_worked_example() -> None:
    assert metrics.holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx(
        [0.03, 0.06, 0.06, 0.02]
    )
    assert metrics.holm(np.array([0.7, 0.8])).tolist() == [1, 1]
    assert metrics.holm(np.array([])).tolist() == []


def test_the_calibration_error_is_that_of_torchmetrics() -> None:
    from torchmetrics.functional.classification import binary_calibration_error

    random = np.random.default_rng(0)
    probabilities = random.random(500)
    correct = random.random(500) < probabilities**2
    known = binary_calibration_error(
        torch.from_numpy(probabilities), torch.from_numpy(correct.astype(int)), n_bins=10
    )
    ours = metrics.expected_calibration_error(probabilities, correct)
    assert ours == pytest.approx(float(known), abs=1e-6)

"""How good matches are, and how sure one can be of it: pure functions on arrays.

labels: (n,) label of each query. neighbours: (n, m) labels of its neighbours, nearest first; a
query is not among its own. A row that has fewer is padded with a value that is nobody's label.
totals: (n,) number of images in the gallery that have the query's label.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

SAMPLES_AT_ONCE = 4_000_000


def precision_at_k(labels: np.ndarray, neighbours: np.ndarray, k: int) -> np.ndarray:
    """Return the share of each query's first k neighbours that have its label.

    Divides by k, not by the number of relevant images. Returns (n,) float64 in [0, 1]. Raises
    ValueError when m < k.

    >>> precision_at_k(np.array(["a", "b"]), np.array([["a", "b"], ["b", "b"]]), k=2).tolist()
    [0.5, 1.0]
    """
    return np.asarray(_relevant(labels, neighbours, k).mean(axis=1))


def recall_at_k(labels: np.ndarray, neighbours: np.ndarray, k: int) -> np.ndarray:
    """Return 1 for each query with its label among its first k neighbours, else 0: the hit rate.

    The recall@k of metric learning (Jégou et al. 2011, "Product quantization for nearest neighbor
    search"). Returns (n,) float64. Raises ValueError when m < k.

    >>> recall_at_k(np.array(["a", "b"]), np.array([["b", "a"], ["a", "a"]]), k=2).tolist()
    [1.0, 0.0]
    """
    return np.asarray(_relevant(labels, neighbours, k).any(axis=1), np.float64)


def average_precision(labels: np.ndarray, neighbours: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """Return the mean precision at each relevant image, over all of them; mAP is its mean.

    neighbours: the whole ranking; a relevant image beyond it counts as never found. Returns (n,)
    float64, NaN where totals is 0. Source: Buckley and Voorhees 2000, "Evaluating evaluation
    measure stability".

    >>> average_precision(np.array([1]), np.array([[1, 0, 1]]), np.array([2])).round(3).tolist()
    [0.833]
    """
    return _precision_at_relevant(_relevant(labels, neighbours, neighbours.shape[1]), totals)


def average_precision_at_r(
    labels: np.ndarray, neighbours: np.ndarray, totals: np.ndarray
) -> np.ndarray:
    """Average precision over the first R neighbours, R being totals; MAP@R is its mean.

    Returns (n,) float64, NaN where totals is 0. Raises ValueError when m < max(totals).
    Source: Musgrave et al. 2020, "A metric learning reality check".

    >>> average_precision_at_r(np.array([1]), np.array([[1, 0, 1]]), np.array([2])).tolist()
    [0.5]
    """
    return _precision_at_relevant(_relevant_at_r(labels, neighbours, totals), totals)


def r_precision(labels: np.ndarray, neighbours: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """Return the share of the first R neighbours with the query's label, R being totals.

    Returns (n,) float64, NaN where totals is 0. Raises ValueError when m < max(totals).

    >>> r_precision(np.array([1]), np.array([[1, 0, 1]]), np.array([2])).tolist()
    [0.5]
    """
    return _per_relevant(_relevant_at_r(labels, neighbours, totals).sum(axis=1), totals)


def ndcg_at_k(labels: np.ndarray, neighbours: np.ndarray, totals: np.ndarray, k: int) -> np.ndarray:
    """Return the normalised discounted cumulative gain of the first k neighbours, gains 0 and 1.

    Returns (n,) float64, NaN where totals is 0. Raises ValueError when m < k.
    Source: Järvelin and Kekäläinen 2002, "Cumulated gain-based evaluation of IR techniques".

    >>> ndcg_at_k(np.array([1]), np.array([[0, 1]]), np.array([1]), k=2).round(3).tolist()
    [0.631]
    """
    discounts = 1 / np.log2(np.arange(2, k + 2))
    gains = _relevant(labels, neighbours, k) @ discounts
    best = np.concatenate([[0.0], np.cumsum(discounts)])[np.minimum(totals, k)]
    return _per_relevant(gains, best)


def ranking_scores(ranks: np.ndarray, ks: Sequence[int]) -> dict[str, float]:
    """Return the metrics above of one query by the ranks of what is relevant to it.

    ranks: (R,) ascending, from 1, of all relevant images of the gallery. ks: of precision@k,
    recall@k and nDCG@k; the others are MAP@R, R-precision and mAP. Those that are undefined for
    R = 0 are NaN.

    >>> found = ranking_scores(np.array([1, 3]), ks=[2])
    >>> {name: round(value, 3) for name, value in found.items()}
    {'precision@2': 0.5, 'recall@2': 1.0, 'MAP@R': 0.5, 'R-precision': 0.5, 'mAP': 0.833,
     'nDCG@2': 0.613}
    """
    total = len(ranks)
    *within, in_first = ranks.searchsorted([*ks, total], "right").tolist()
    precision = np.arange(1, total + 1) / ranks
    scores = {f"precision@{k}": n / k for k, n in zip(ks, within, strict=True)}
    scores |= {f"recall@{k}": float(n > 0) for k, n in zip(ks, within, strict=True)}
    whole = (float(precision[:in_first].sum()), float(in_first), float(precision.sum()))
    for name, value in zip(("MAP@R", "R-precision", "mAP"), whole, strict=True):
        scores[name] = value / total if total else float("nan")
    gains = 1 / np.log2(ranks[: max(within, default=0)] + 1)
    for k, n in zip(ks, within, strict=True):
        best = (1 / np.log2(np.arange(2, min(total, k) + 2))).sum()
        scores[f"nDCG@{k}"] = float(gains[:n].sum() / best) if total else float("nan")
    return scores


def vote(neighbours: np.ndarray, k: int) -> np.ndarray:
    """Return the most frequent label of the first k neighbours; of equals, the first.

    neighbours: (n, m) integer labels, -1 for none, which wins only where there is nothing else.
    Returns (n,) of their dtype. Raises ValueError when m < k.

    >>> vote(np.array([[3, 5, 5], [3, 5, 4]]), k=3).tolist()
    [5, 3]
    """
    first = _first(neighbours, k)
    counts = (first[:, :, None] == first[:, None, :]).sum(axis=2)
    winner = np.where(first < 0, 0, counts).argmax(axis=1)
    return np.asarray(np.take_along_axis(first, winner[:, None], axis=1)[:, 0])


def bootstrap_interval(
    values: np.ndarray,
    groups: np.ndarray | None = None,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the mean of (n,) values; NaN for fewer than two.

    groups: (n,) such as the class of each; then whole groups are drawn, and the interval is of the
    mean over values of new groups, NaN for one group alone. Source: Efron 1979, "Bootstrap methods:
    another look at the jackknife", through scipy.
    """
    from scipy.stats import bootstrap

    if groups is not None:
        return _interval_over_groups(values, groups, confidence, resamples, seed)
    if len(values) < 2:
        return float("nan"), float("nan")
    if values.min() == values.max():
        return float(values.mean()), float(values.mean())
    result = bootstrap(
        (values,),
        np.mean,
        confidence_level=confidence,
        n_resamples=resamples,
        batch=max(1, SAMPLES_AT_ONCE // len(values)),
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def _interval_over_groups(
    values: np.ndarray, groups: np.ndarray, confidence: float, resamples: int, seed: int
) -> tuple[float, float]:
    """Return the interval where whole groups are drawn.

    With few groups the percentiles are too close. They are widened as in Hesterberg 2015 ("What
    teachers should know about the bootstrap", the expanded percentile interval).
    """
    from scipy.stats import norm, t

    _, codes = np.unique(groups, return_inverse=True)
    sums, counts = np.bincount(codes, values), np.bincount(codes)
    n = len(sums)
    if n < 2:
        return float("nan"), float("nan")
    random, means = np.random.default_rng(seed), np.empty(resamples)
    for row in range(resamples):
        drawn = random.integers(0, n, n)
        means[row] = sums[drawn].sum() / counts[drawn].sum()
    tail = norm.cdf(np.sqrt(n / (n - 1)) * t.ppf((1 - confidence) / 2, n - 1))
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def paired_test(
    first: np.ndarray,
    second: np.ndarray,
    groups: np.ndarray | None = None,
    *,
    resamples: int = 10_000,
    seed: int = 0,
) -> float:
    """Return p of a two-sided permutation test of equal means of (n,) paired values.

    groups: (n,) such as the class of each; then the differences of a group change their sign
    together, and the test is about new groups. Source: Fisher 1935, "The design of experiments"
    (signs of the differences are exchanged), through scipy.
    """
    from scipy.stats import permutation_test

    difference = np.asarray(first, np.float64) - second
    if groups is not None:
        difference = np.bincount(np.unique(groups, return_inverse=True)[1], difference)
    difference = difference[difference != 0]  # no sign changes a difference of 0
    if len(difference) < 2:  # either sign of one difference is as far from 0
        return 1.0
    result = permutation_test(
        (difference,),
        np.sum,
        permutation_type="samples",
        vectorized=True,
        n_resamples=resamples,
        batch=max(1, SAMPLES_AT_ONCE // len(difference)),
        rng=np.random.default_rng(seed),
    )
    return float(result.pvalue)


def holm(p_values: np.ndarray) -> np.ndarray:
    """Correct (m,) p values for their number by Holm's method.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure".

    >>> holm(np.array([0.01, 0.04, 0.03])).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    steps = np.asarray(p_values)[order] * np.arange(len(order), 0, -1)
    corrected = np.empty(len(order))
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return corrected


def expected_calibration_error(
    probabilities: np.ndarray,
    correct: np.ndarray,
    bins: int = 10,
    *,
    weights: np.ndarray | None = None,
) -> float:
    """Return the mean distance of predicted probability and share correct, over equal bins.

    probabilities: (n,) in [0, 1]. correct: (n,) bool. weights: (n,) of each, by default alike.
    Source: Naeini et al. 2015, "Obtaining well calibrated probabilities using Bayesian binning".

    >>> round(expected_calibration_error(np.array([0.8, 0.8]), np.array([True, False])), 3)
    0.3
    """
    place = np.minimum((probabilities * bins).astype(int), bins - 1)
    weights = np.ones(len(place)) if weights is None else weights
    gaps = np.bincount(place, weights=weights * (probabilities - correct), minlength=bins)
    return float(np.abs(gaps).sum() / weights.sum())


def neighbour_recall(found: np.ndarray, exact: np.ndarray) -> float:
    """Return the share of the true nearest neighbours that an approximate search found.

    found, exact: (n, k) ids, in any order within a row. Returns a float in [0, 1].
    Source: Aumüller et al. 2020, "ANN-Benchmarks" (recall without the distance tolerance).

    >>> neighbour_recall(np.array([[1, 2], [5, 6]]), np.array([[2, 1], [5, 7]]))
    0.75
    """
    return float((exact[:, :, None] == found[:, None, :]).any(axis=2).mean())


def _first(neighbours: np.ndarray, k: int) -> np.ndarray:
    if neighbours.shape[1] < k:
        raise ValueError(f"{k} neighbours a query are needed, got {neighbours.shape[1]}")
    return neighbours[:, :k]


def _relevant(labels: np.ndarray, neighbours: np.ndarray, k: int) -> np.ndarray:
    return np.asarray(_first(neighbours, k) == labels[:, None])


def _relevant_at_r(labels: np.ndarray, neighbours: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """The (n, max R) bool, false beyond each query's own R."""
    most = int(totals.max(initial=0))
    return _relevant(labels, neighbours, most) & (np.arange(most) < totals[:, None])


def _precision_at_relevant(relevant: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """Sum over the relevant of the precision there, divided by totals."""
    found = np.cumsum(relevant, axis=1)
    precision = found / np.arange(1, relevant.shape[1] + 1)
    return _per_relevant((precision * relevant).sum(axis=1), totals)


def _per_relevant(sums: np.ndarray, totals: np.ndarray) -> np.ndarray:
    out = np.full(len(sums), np.nan)
    return np.divide(sums, totals, out=out, where=totals > 0)

"""Score -> probability that a match has the query's class."""

from __future__ import annotations

import numpy as np

from retrieval.evaluation.results import Calibration, ReliabilityBin
from retrieval.metrics import expected_calibration_error

FOLDS, BINS, MOST_KNOTS = 5, 10, 128
FEWEST_QUERIES = 20


def calibrate(scores: np.ndarray, right: np.ndarray) -> Calibration | None:
    """Fit isotonic regression to matches; its reliability is that of held-out queries.

    scores: (q, m) of the matches of q queries, -inf where there is none. right: (q, m) bool,
    whether a match has the label of its query. None where there are too few queries, or all
    matches are right or all are wrong.
    Source: Zadrozny and Elkan 2002, "Transforming classifier scores into accurate multiclass
    probability estimates".
    """
    from sklearn.model_selection import GroupKFold

    there = np.isfinite(scores)
    query = np.broadcast_to(np.arange(len(scores))[:, None], scores.shape)[there]
    x, y = scores[there].astype(np.float64), right[there].astype(np.float64)
    if len(np.unique(query)) < FEWEST_QUERIES or y.min() == y.max():
        return None
    held_out = np.empty(len(y))
    for fitted, other in GroupKFold(FOLDS, shuffle=True, random_state=0).split(x, y, query):
        held_out[other] = np.interp(x[other], *_isotonic(x[fitted], y[fitted]))
    knots, probabilities = _isotonic(x, y)
    return Calibration(
        scores=tuple(knots.round(6).tolist()),
        probabilities=tuple(probabilities.round(6).tolist()),
        matches=len(y),
        error=expected_calibration_error(held_out, y.astype(bool), BINS),
        brier=float(((held_out - y) ** 2).mean()),
        reliability=_reliability(held_out, y),
    )


def _isotonic(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Knots and values of the fit, thinned to MOST_KNOTS by the share of matches between them."""
    from sklearn.isotonic import IsotonicRegression

    fit = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(x, y)
    knots, values = fit.X_thresholds_, fit.y_thresholds_
    if len(knots) > MOST_KNOTS:
        wanted = np.quantile(knots, np.linspace(0, 1, MOST_KNOTS))
        knots, values = wanted, np.interp(wanted, knots, values)
    return np.asarray(knots), np.asarray(values)


def _reliability(predicted: np.ndarray, right: np.ndarray) -> tuple[ReliabilityBin, ...]:
    place = np.minimum((predicted * BINS).astype(int), BINS - 1)
    return tuple(
        ReliabilityBin(
            predicted=float(predicted[place == n].mean()),
            observed=float(right[place == n].mean()),
            count=int((place == n).sum()),
        )
        for n in range(BINS)
        if (place == n).any()
    )

"""Trials -> the probability that a match is right, which knows that a query may have no answer.

A match is right where its query has an answer in the gallery and the match is one, so

    P(match is right) = P(there is an answer) * P(match is right, given that there is one)

and each factor is a logistic regression of evidence, with no weight by which a better score would
make a match less likely. The first is fitted to queries with and without an answer, in equal parts,
and then moved to the prior that is asked for: log-odds shift by those of the prior (Saerens et al.
2002, "Adjusting the outputs of a classifier to new a priori probabilities"). Below the lowest score
of any right match the probability is 0: nothing was learnt there.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from retrieval.evaluation.evidence import Evidence
from retrieval.evaluation.results import (
    Calibration,
    Confidence,
    ReliabilityBin,
)
from retrieval.metrics import expected_calibration_error
from retrieval.words import PRIOR_KNOWN, AnswerKind

RELIABILITY_BINS = 10
FEWEST_TRIALS = 10  # queries with an answer, and as many without one
STRENGTH = 0.3  # of the evidence beside an L2 penalty on standardised weights
LEAST_DEVIATION = 1e-4  # of evidence, which lies in [-2, 2]; below it tells nothing
SURE_ODDS = 8.0  # log-odds that a match is right where none was ever wrong
SURE_MARGIN = 0.02  # by which another class is nearer where these odds are even


@dataclass(frozen=True)
class Trials:
    """Queries, t of them, of which it is known what is right.

    density: (t,) of their best match. right: (t, m) bool, of their first m matches. known: (t,)
    bool, whether there is an answer in what was searched. fold: (t,) parts by which what is learnt
    is judged on what it was not learnt from.
    """

    evidence: Evidence
    density: np.ndarray
    right: np.ndarray
    known: np.ndarray
    fold: np.ndarray

    def rows(self, rows: np.ndarray) -> Trials:
        """Take some of the trials."""
        return Trials(
            self.evidence.rows(rows),
            self.density[rows],
            self.right[rows],
            self.known[rows],
            self.fold[rows],
        )


def joined_trials(parts: list[Trials]) -> Trials:
    """Join several sets of trials, in their order."""

    def together(of: str) -> np.ndarray:
        return np.concatenate([getattr(p, of) for p in parts])

    def evidence(of: str) -> np.ndarray:
        return np.concatenate([getattr(p.evidence, of) for p in parts])

    return Trials(
        Evidence(*(evidence(field.name) for field in fields(Evidence))),
        *map(together, ("density", "right", "known", "fold")),
    )


def calibrate(
    trials: Trials, kind: AnswerKind, prior_known: float = PRIOR_KNOWN
) -> Calibration | None:
    """Learn from trials, and measure how well that holds on folds not learnt from.

    prior_known: share of queries that have an answer, in (0, 1). None where there are too few
    trials of either kind, or no match of any query is right.
    """
    confidence = _fitted(trials)
    if confidence is None:
        return None
    held_out = np.full(len(trials.known), np.nan)
    for fold in np.unique(trials.fold):
        inside = trials.fold == fold
        part = _fitted(trials.rows(np.flatnonzero(~inside)))
        if part is not None:
            mine = trials.rows(np.flatnonzero(inside))
            held_out[inside] = part.probability(mine.evidence, mine.density, prior_known)[:, 0]
    judged = np.isfinite(held_out)
    if not judged.any() or len(np.unique(trials.known[judged])) < 2:
        return None  # what cannot be judged is not told
    held_out, score = held_out[judged], trials.evidence.scores[judged, 0]
    known, right = trials.known[judged], trials.right[judged, 0]
    weights = prior_weights(known, prior_known)
    return Calibration(
        kind=kind,
        confidence=confidence,
        prior_known=prior_known,
        known=int(trials.known.sum()),
        unknown=int((~trials.known).sum()),
        error=expected_calibration_error(held_out, right, RELIABILITY_BINS, weights=weights),
        brier=float(np.average((held_out - right) ** 2, weights=weights)),
        area=_area(known, held_out),
        area_of_score=_area(known, np.maximum(score, -1.0)),
        reliability=reliability_bins(held_out, right, weights),
    )


def _fitted(trials: Trials) -> Confidence | None:
    known, e = trials.known, trials.evidence
    there = np.isfinite(e.scores)
    if min(known.sum(), (~known).sum()) < FEWEST_TRIALS or not trials.right[known].any():
        return None
    of_query = e.of_query(trials.density)
    has_answer = _logistic(of_query, known, prior_weights(known, 0.5), free=(3,))
    rank = np.broadcast_to(1.0 / np.arange(1, there.shape[1] + 1), there.shape)
    used = there & known[:, None]
    right = trials.right[used]
    if right.all():  # so another class is right only where it is nearer
        of_margin = SURE_ODDS / SURE_MARGIN if e.is_class.any() else 0.0
        is_right = np.array([0.0, of_margin, 0.0, SURE_ODDS])
    else:
        is_right = _logistic(e.of_matches()[used], right, rank[used], free=(2,))
    least = float(e.scores[used][right].min())
    return Confidence(tuple(has_answer.tolist()), tuple(is_right.tolist()), least)


def _logistic(
    x: np.ndarray, y: np.ndarray, weights: np.ndarray, free: tuple[int, ...]
) -> np.ndarray:
    """The (d + 1,) weights of (n, d) x and the bias; none below 0 but those that are free."""
    from scipy.optimize import minimize

    mean, deviation = x.mean(axis=0), x.std(axis=0)
    scale = np.where(deviation > LEAST_DEVIATION, deviation, 1.0)
    z = (x - mean) / scale
    sign = np.where(y, 1.0, -1.0)
    d = x.shape[1]

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        gain = sign * (z @ w[:d] + w[d])
        slope = -sign * weights / (1 + np.exp(np.clip(gain, -500, 500)))
        value = (weights * np.logaddexp(0, -gain)).sum() + (w[:d] ** 2).sum() / (2 * STRENGTH)
        return float(value), np.append(z.T @ slope + w[:d] / STRENGTH, slope.sum())

    bounds = [(None if i in free else 0.0, None) for i in range(d)] + [(None, None)]
    found = minimize(loss, np.zeros(d + 1), jac=True, method="L-BFGS-B", bounds=bounds).x
    w = found[:d] / scale
    return np.append(w, found[d] - w @ mean)


def prior_weights(known: np.ndarray, prior: float) -> np.ndarray:
    """The (t,) weights of mean 1, of which those that are known make up the prior."""
    share = float(known.mean())
    if share in (0.0, 1.0):
        return np.ones(len(known))
    return np.where(known, prior / share, (1 - prior) / (1 - share))


def _area(known: np.ndarray, values: np.ndarray) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(known, values))


def reliability_bins(
    predicted: np.ndarray, right: np.ndarray, weights: np.ndarray | None = None
) -> tuple[ReliabilityBin, ...]:
    """Count by tenths of the predicted probability how often it was right; drop empty tenths.

    predicted: (n,) probabilities. right: (n,) bools. weights: (n,), by default all alike.
    """
    weights = np.ones(len(right)) if weights is None else weights
    place = np.minimum((predicted * RELIABILITY_BINS).astype(int), RELIABILITY_BINS - 1)
    return tuple(
        ReliabilityBin(
            predicted=float(np.average(predicted[place == n], weights=weights[place == n])),
            observed=float(np.average(right[place == n], weights=weights[place == n])),
            count=int((place == n).sum()),
        )
        for n in range(RELIABILITY_BINS)
        if (place == n).any()
    )

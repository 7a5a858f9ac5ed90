"""Rankings -> an Evaluation: means with intervals, the vote, classes, confusions, failures."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from retrieval import metrics
from retrieval.evaluation.rankings import NOBODY, Ranked
from retrieval.evaluation.results import (
    ClassScore,
    Confusion,
    Evaluation,
    Metric,
    Neighbour,
    PerQuery,
    RankedQuery,
    VoteScores,
)
from retrieval.words import IntervalOver

MOST_CONFUSED, MOST_FAILED, SAMPLED_QUERIES = 20, 12, 8


def summarise(
    ranked: Ranked,
    *,
    protocol: str,
    gallery: int,
    k: int,
    vote: int,
    names: Sequence[str],
    query_paths: Sequence[Path],
    gallery_paths: Sequence[Path],
    interval_over: IntervalOver,
    notices: Sequence[str] = (),
) -> Evaluation:
    """Summarise a set of rankings as an Evaluation.

    names: of the label codes. query_paths: of ranked's queries, in their order. gallery_paths: by
    the rows that ranked names. Queries without a relevant image are counted and left out.
    """
    has_relevant = np.flatnonzero(ranked.totals > 0)
    kept = ranked.rows(has_relevant)
    paths = [query_paths[i] for i in has_relevant.tolist()]
    codes = np.array([_code(str(path)) for path in paths], np.int64)
    of_label = {label: _code(_name(names, label)) for label in np.unique(kept.labels).tolist()}
    classes = np.array([of_label[label] for label in kept.labels.tolist()], np.int64)
    drawn = classes if interval_over == "classes" else None
    precision = metrics.precision_at_k(kept.labels, kept.found, k)
    distances = np.where(np.isfinite(kept.scores), 1 - kept.scores, np.nan)[:, :k]
    voted = metrics.vote(kept.found, vote)
    values = kept.values | {f"distance@{k}": _mean_distances(distances)}
    return Evaluation(
        protocol=protocol,
        gallery=gallery,
        queries=len(kept.labels),
        without_relevant=len(ranked.labels) - len(kept.labels),
        k=k,
        metrics=tuple(_metric(name, each, drawn) for name, each in values.items()),
        vote=_vote_scores(kept.labels, voted, vote),
        classes=_classes(kept.labels, voted, precision, names),
        confused=_confused(kept.labels, voted, names),
        worst=worst_queries(kept, precision, names, paths, gallery_paths, k),
        sample=tuple(
            described(kept, row, names, paths[row], gallery_paths, k)
            for row in np.argsort(codes, kind="stable")[:SAMPLED_QUERIES].tolist()
        ),
        per_query=PerQuery(k, codes, classes, precision, distances.astype(np.float32)),
        interval_over=interval_over,
        notices=tuple(notices),
    )


def described(
    ranked: Ranked,
    row: int,
    names: Sequence[str],
    path: Path,
    gallery_paths: Sequence[Path],
    k: int,
) -> RankedQuery:
    """Describe one query with its first k neighbours."""
    label = int(ranked.labels[row])
    neighbours = tuple(
        Neighbour(gallery_paths[i], _name(names, code), float(score), bool(code == label))
        for i, code, score in zip(
            ranked.neighbours[row, :k], ranked.found[row, :k], ranked.scores[row, :k], strict=True
        )
        if i >= 0
    )
    precision = float((ranked.found[row, :k] == label).mean())
    return RankedQuery(path, _name(names, label), precision, neighbours)


def worst_queries(
    ranked: Ranked,
    precision: np.ndarray,
    names: Sequence[str],
    paths: Sequence[Path],
    gallery_paths: Sequence[Path],
    k: int,
) -> tuple[RankedQuery, ...]:
    """Pick the queries of least precision; of equals those whose wrong matches score most."""
    wrong = np.where(ranked.found == ranked.labels[:, None], -np.inf, ranked.scores)[:, :k]
    order = np.lexsort((-wrong.max(axis=1, initial=-np.inf), precision))[:MOST_FAILED]
    return tuple(
        described(ranked, int(row), names, paths[row], gallery_paths, k)
        for row in order
        if precision[row] < 1
    )


def _code(text: str) -> int:
    return int(hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:15], 16)


def _mean_distances(distances: np.ndarray) -> np.ndarray:
    counts = np.isfinite(distances).sum(axis=1)
    sums = np.nansum(distances, axis=1)
    return np.asarray(np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0))


def _metric(name: str, values: np.ndarray, groups: np.ndarray | None) -> Metric:
    finite = np.isfinite(values)
    values = values[finite]
    low, high = metrics.bootstrap_interval(values, None if groups is None else groups[finite])
    return Metric(name, float(values.mean()) if len(values) else float("nan"), low, high)


def _vote_scores(labels: np.ndarray, voted: np.ndarray, k: int) -> VoteScores:
    from sklearn.metrics import precision_recall_fscore_support

    if not len(labels):
        return VoteScores(k, *[float("nan")] * 7)
    shares: dict[str, float] = {}
    present = np.unique(labels)
    for average in ("macro", "weighted"):
        p, r, f1, _ = precision_recall_fscore_support(
            labels, voted, labels=present, average=average, zero_division=0
        )
        shares |= {f"precision_{average}": p, f"recall_{average}": r, f"f1_{average}": f1}
    return VoteScores(
        k=k,
        accuracy=float((labels == voted).mean()),
        **{name: float(value) for name, value in shares.items()},
    )


def _classes(
    labels: np.ndarray, voted: np.ndarray, precision: np.ndarray, names: Sequence[str]
) -> tuple[ClassScore, ...]:
    from sklearn.metrics import f1_score

    present = np.unique(labels)
    if not len(present):
        return ()
    f1 = f1_score(labels, voted, labels=present, average=None, zero_division=0)
    scores = [
        ClassScore(
            label=_name(names, code),
            queries=int((labels == code).sum()),
            precision=float(precision[labels == code].mean()),
            f1=float(value),
        )
        for code, value in zip(present, f1, strict=True)
    ]
    return tuple(sorted(scores, key=lambda score: (score.precision, score.f1, score.label)))


def _confused(labels: np.ndarray, voted: np.ndarray, names: Sequence[str]) -> tuple[Confusion, ...]:
    wrong = (labels != voted) & (voted != NOBODY)
    pairs, counts = np.unique(
        np.stack([labels[wrong], voted[wrong]], axis=1), axis=0, return_counts=True
    )
    order = np.argsort(-counts, kind="stable")[:MOST_CONFUSED]
    return tuple(
        Confusion(
            label=_name(names, pairs[i, 0]),
            voted=_name(names, pairs[i, 1]),
            count=int(counts[i]),
            queries=int((labels == pairs[i, 0]).sum()),
        )
        for i in order
    )


def _name(names: Sequence[str], code: int) -> str:
    return names[code] if code >= 0 else ""

"""The page of one evaluation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from retrieval.evaluation import Evaluation, Metric, RankedQuery, VoteScores
from retrieval.report.cards import Card, card
from retrieval.report.figures import evaluation_figures
from retrieval.report.pages import render_page, thumbnails, write_page
from retrieval.report.style import as_svg

CLASSES_LISTED = 10
FAILED_SIDE = 192  # of a thumbnail, pixels
EVALUATION_CAPTIONS = {
    "reliability": "Is a predicted probability right that often?",
    "precision-distribution": "Right matches of a query",
    "distance-by-rank": "Distance of the neighbours by rank",
    "classes": "Precision of each class",
}


def evaluation_page(evaluation: Evaluation, beside: Path | None = None) -> str:
    """Make an HTML page of failed queries, figures, metrics, classes and confusions.

    beside: the folder of the page, for its links.
    """
    e = evaluation
    pictures = Pictures.make([*e.worst, *e.sample], beside)
    figures = evaluation_figures(e)
    return render_page(
        "evaluation.html.jinja",
        title="How good the matches are",
        lead=_lead(e),
        e=e,
        figures=[(EVALUATION_CAPTIONS[n], as_svg(figure, n)) for n, figure in figures.items()],
        votes=_votes(e.vote),
        worst_classes=e.classes[:CLASSES_LISTED],
        best_classes=e.classes[::-1][:CLASSES_LISTED],
        worst=[pictures.query(q) for q in e.worst],
        sample=[pictures.query(q) for q in e.sample],
    )


def write_evaluation(file: Path, evaluation: Evaluation) -> None:
    """Write evaluation_page() to a file, atomically. Raises WriteError when that fails."""
    write_page(file, evaluation_page(evaluation, file.parent))


def interval_told(metric: Metric, over: str) -> str:
    """Say a metric's interval in parentheses, or why there is none. over: what was resampled."""
    if math.isnan(metric.low):
        return f"(without an interval, which needs two {over} or more)"
    return f"(95 % interval for other {over}: {metric.low:.1%} to {metric.high:.1%})"


class Pictures:
    """Thumbnails of queries and their neighbours, each made once."""

    def __init__(self, made: Mapping[Path, str | None], beside: Path | None) -> None:
        self._made, self._beside = made, beside

    @classmethod
    def make(cls, queries: Sequence[RankedQuery], beside: Path | None) -> Pictures:
        """Read the pictures, and make their thumbnails. beside: the folder of the page."""
        paths = {q.path for q in queries} | {n.path for q in queries for n in q.neighbours}
        return cls(thumbnails(paths, FAILED_SIDE), beside)

    def query(self, query: RankedQuery) -> dict[str, Any]:
        """Return a query as the templates want it: its card, and those of its neighbours."""
        return {
            "query": self._card(query.path, "query", [query.label]),
            "neighbours": [
                self._card(n.path, "right" if n.right else "wrong", [f"{n.score:.3f}", n.label])
                for n in query.neighbours
            ],
        }

    def _card(self, path: Path, role: str, facts: Sequence[str]) -> Card:
        return card(path, self._made[path], beside=self._beside, role=role, facts=facts)


def _votes(vote: VoteScores) -> list[tuple[str, float]]:
    return [
        (f"{average} {name}", getattr(vote, f"{name.lower()}_{average}"))
        for average in ("macro", "weighted")
        for name in ("precision", "recall", "F1")
    ]


def _lead(e: Evaluation) -> str:
    how = {
        "queries": f"Each of {e.queries:,} queries was searched for in a gallery of {e.gallery:,}.",
        "leave-one-out": f"Each of {e.queries:,} images was searched for among the others "
        f"({e.gallery:,}).",
        "zero-shot": f"Each of {e.queries:,} images of the second half of the classes was searched "
        "for among the others of these classes; the transform was fitted to the first half.",
    }[e.protocol]
    p = e.metric(f"precision@{e.k}")
    if not e.queries:
        return (
            f"None of {e.without_relevant:,} queries has another image of its class in the gallery "
            f"({e.gallery:,}), so there is nothing to measure."
        )
    text = f"{how} Of its first {e.k} matches {p.value:.1%} have its class "
    text += f"{interval_told(p, e.interval_over)}."
    return f"{text} {e.left_out}" if e.left_out else text

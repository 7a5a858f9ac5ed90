"""The page of a comparison."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from retrieval.comparison import Comparison, ExperimentResult
from retrieval.report.evaluation import Pictures, interval_told
from retrieval.report.figures import comparison_figures
from retrieval.report.pages import render_page, write_page
from retrieval.report.style import as_svg

SIGNIFICANT = 0.05
COMPARISON_CAPTIONS = {
    "precision": "Mean precision@{k}",
    "distance": "Mean distance to the neighbours",
    "precision-distribution": "Distribution of precision@{k} over queries",
    "distance-distribution": "Distribution of mean distances over queries",
    "distance-by-rank": "Distance of the neighbours by rank",
    "vote": "Precision, recall and F1 of the label voted for",
    "cost": "Quality against encoding time: on the line nothing cheaper is better",
}


def comparison_page(comparison: Comparison, beside: Path | None = None) -> str:
    """Make an HTML page of the conclusion, a contact sheet, figures, tables and tests.

    beside: the folder of the page, for its links.
    """
    results = comparison.experiments
    k = results[0].evaluation.k
    columns = [m.name for m in results[0].evaluation.metrics if _is_shown(m.name, k)]
    best = _best(comparison)
    notices = {n for r in results for n in (*r.evaluation.notices, r.evaluation.left_out) if n}
    figures = comparison_figures(comparison)
    return render_page(
        "comparison.html.jinja",
        title=f"{len(results)} experiments" if len(results) > 1 else "One experiment",
        lead=_lead(comparison, best, k),
        c=comparison,
        k=k,
        notices=sorted(notices),
        columns=columns,
        rows=[_row(r, columns, is_best=r is best) for r in results],
        figures=[(COMPARISON_CAPTIONS[n].format(k=k), as_svg(f, n)) for n, f in figures.items()],
        sheets=_sheets(comparison, beside),
    )


def write_comparison(file: Path, comparison: Comparison) -> None:
    """Write comparison_page() to a file, atomically. Raises WriteError when that fails."""
    write_page(file, comparison_page(comparison, file.parent))


def _is_shown(name: str, k: int) -> bool:
    kind, _, at = name.partition("@")
    return not at or at == "R" or int(at) == k or (kind == "precision" and at == "1")


def _best(comparison: Comparison) -> ExperimentResult:
    """Return the most precise result; one with random weights only where there is no other."""
    known = [r for r in comparison.experiments if not r.is_random] or comparison.experiments
    return max(known, key=lambda r: r.evaluation.metric(f"precision@{r.evaluation.k}").value)


def _lead(comparison: Comparison, best: ExperimentResult, k: int) -> str:
    p = best.evaluation.metric(f"precision@{k}")
    text = f"{best.name} finds most: of the first {k} matches {p.value:.1%} have the query's class "
    over = best.evaluation.interval_over
    text += interval_told(p, over)
    if best.milliseconds:
        text += f", at {best.milliseconds:.1f} ms an image"
    text += "."
    unsure = [
        t.second if t.first == best.name else t.first
        for t in comparison.tests
        if best.name in (t.first, t.second) and t.p >= SIGNIFICANT
    ]
    if unsure:
        text += f" No sure difference from {', '.join(unsure)}."
    elif len(comparison.experiments) > 1:
        text += " It surely differs from all others."
    return text


def _row(r: ExperimentResult, columns: list[str], *, is_best: bool) -> dict[str, Any]:
    return {
        "name": r.name,
        "settings": ", ".join(f"{name} {value}" for name, value in r.settings),
        "dim": r.dim,
        "first": r.evaluation.metric(f"precision@{r.evaluation.k}"),
        "metrics": [r.evaluation.metric(name) for name in columns],
        "f1": r.evaluation.vote.f1_macro,
        "ms": f"{r.milliseconds:.1f}" if r.milliseconds else "",
        "reference": f"{r.reference:.2f}" if r.reference is not None else "",
        "random": r.is_random,
        "best": is_best,
    }


def _sheets(comparison: Comparison, beside: Path | None) -> list[dict[str, Any]]:
    """Queries that every experiment shows, each with its neighbours under each."""
    shown = [{q.path: q for q in r.sheet} for r in comparison.experiments]
    paths = [path for path in shown[0] if all(path in each for each in shown)]
    pictures = Pictures.make([each[path] for each in shown for path in paths], beside)
    return [
        {
            "query": pictures.query(shown[0][path])["query"],
            "experiments": [
                (r.name, pictures.query(each[path])["neighbours"])
                for r, each in zip(comparison.experiments, shown, strict=True)
            ],
        }
        for path in paths
    ]

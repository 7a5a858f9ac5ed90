"""imgret evaluate: how good the matches of a labelled gallery are."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from imgret.command import Command
from imgret.galleries import existing_gallery
from imgret.intervals import INTERVALS
from imgret.options import (
    check_protocol,
    format_option,
    gallery_option,
    interval_option,
    max_pixels_option,
    neighbours_options,
    prior_option,
    report_option,
    settings_options,
    trust_option,
    trusted,
)
from imgret.path_types import NamedPath
from imgret.ranges import WholeNumber
from imgret.streams import say, tell
from retrieval.text import counted
from retrieval.words import BY_FOLDER, MOST_QUERIES, SEARCH

if TYPE_CHECKING:
    from retrieval.evaluation import Evaluation

WORST_SHOWN = 5


@click.command(
    "evaluate",
    cls=Command,
    epilog="""\b
Examples:
  imgret evaluate
  imgret evaluate --queries cars/test --k 1,5,10 --report cars.html
  imgret evaluate --zero-shot --transform lda:0.1
  imgret evaluate --expand 3 --format json
""",
)
@gallery_option
@trust_option
@click.option(
    "--queries",
    multiple=True,
    type=NamedPath(path_type=Path),
    metavar="FOLDER",
    help="Search for the images of a labelled folder outside of the gallery; may be repeated. By "
    "default, search for each image of the gallery among the others.",
)
@click.option(
    "--labels",
    default=BY_FOLDER,
    show_default=True,
    metavar="folder|FILE.csv",
    help="Labels of the queries, as for `imgret index`.",
)
@click.option(
    "--zero-shot",
    is_flag=True,
    help="Evaluate on half of the classes, with the transform fitted on the other half.",
)
@neighbours_options
@settings_options(*SEARCH, helps={"transform": "By default the gallery's own."})
@click.option(
    "--most-queries",
    type=WholeNumber(min=2),
    default=MOST_QUERIES,
    show_default=True,
    help="Evaluate at most this many queries, drawn at random.",
)
@interval_option
@click.option("--no-calibrate", is_flag=True, help="Do not store a calibration in the gallery.")
@prior_option(None)
@report_option("figures, classes and failed queries")
@max_pixels_option
@format_option("text", "json", "csv")
def evaluate_command(
    gallery: Path | None,
    queries: tuple[Path, ...],
    zero_shot: bool,
    no_calibrate: bool,
    report: Path | None,
    output: str,
    **options: Any,
) -> int:
    """Measure matches by labels: precision, recall, MAP@R and more, each with its 95 % interval.

    Without --queries and --zero-shot it also learns how likely a match is right, as `imgret
    calibrate` does, and `imgret query` shows that from then on. Another transform or refinement
    than the gallery's can be tried without reading an image.
    """
    from imgret.output import shown_progress
    from retrieval.retriever import Retriever

    check_protocol(
        queries=bool(queries),
        zero_shot=zero_shot,
        labels=options["labels"],
        labels_option="--labels",
    )
    if options["prior_known"] is not None and (queries or zero_shot or no_calibrate):
        raise click.UsageError(
            "--prior-known belongs to the calibration, which --queries, --zero-shot and "
            "--no-calibrate leave out. Leave out one of them."
        )
    settings: dict[str, Any] = {name: options.pop(name) for name in SEARCH}
    retriever = Retriever(existing_gallery(gallery), trust=trusted(), **settings)
    with shown_progress() as progress:
        evaluation = retriever.evaluate(
            queries or None,
            zero_shot=zero_shot,
            calibrate=not no_calibrate,
            progress=progress,
            **options,
        )
    for notice in evaluation.notices:
        say(f"imgret: {notice}")
    try:
        if report is not None:
            from retrieval.report.evaluation import write_evaluation

            write_evaluation(report, evaluation)
    finally:  # on a full disk the figures are shown all the same
        {"text": _print_text, "json": _print_json, "csv": _print_csv}[output](evaluation)
    return 0 if evaluation.queries else 1


def as_json(evaluation: Evaluation) -> dict[str, Any]:
    """Return an evaluation's fields for print_json(), without what only figures need."""
    import dataclasses

    return {
        field.name: getattr(evaluation, field.name)
        for field in dataclasses.fields(evaluation)
        if field.name != "per_query"
    }


def _print_json(evaluation: Evaluation) -> None:
    from imgret.output import print_json

    print_json(as_json(evaluation))


def _print_csv(evaluation: Evaluation) -> None:
    from imgret.output import Number, print_csv

    def cell(value: float) -> str:
        return "" if math.isnan(value) else Number(f"{value:.6f}")

    over = evaluation.interval_over
    rows = [[m.name, *map(cell, _values(m)), over] for m in evaluation.metrics]
    rows += [[name, cell(value), "", "", ""] for name, value in _vote_lines(evaluation)]
    print_csv(["metric", "value", "low", "high", "interval_over"], rows)


def _values(metric: Any) -> tuple[float, float, float]:
    return metric.value, metric.low, metric.high


def _vote_lines(evaluation: Evaluation) -> list[tuple[str, float]]:
    vote = evaluation.vote
    names = ["accuracy"]
    names += [f"{a}_{b}" for a in ("precision", "recall", "f1") for b in ("macro", "weighted")]
    return [(f"vote@{vote.k} {n.replace('_', ' ')}", float(getattr(vote, n))) for n in names]


def _print_text(evaluation: Evaluation) -> None:
    from imgret.calibrated import calibration_facts
    from imgret.output import as_figure, print_facts, print_table, shown_path

    left_out = counted(evaluation.without_relevant, "query", "queries")
    print_facts(
        [
            ("protocol", evaluation.protocol),
            ("gallery", counted(evaluation.gallery, "image")),
            ("queries", f"{evaluation.queries:,}"),
            ("left out", f"{left_out} without a relevant image"),
            ("intervals", INTERVALS[evaluation.interval_over]),
        ]
    )
    if not evaluation.queries:
        say("imgret: No query has another image of its class in the gallery. Add some, or others.")
        return
    tell()
    rows = [[m.name, *map(as_figure, _values(m))] for m in evaluation.metrics]
    rows += [[name, f"{value:.4f}", "", ""] for name, value in _vote_lines(evaluation)]
    print_table(["metric", "value", "low", "high"], rows)
    classes = evaluation.classes
    for title, part in (("worst", classes[:WORST_SHOWN]), ("best", classes[::-1][:WORST_SHOWN])):
        tell()
        tell(f"{title} classes")
        rows = [[c.label, str(c.queries), f"{c.precision:.3f}", f"{c.f1:.3f}"] for c in part]
        print_table(["class", "queries", f"precision@{evaluation.k}", "F1"], rows)
    if evaluation.confused:
        tell()
        tell("most confused")
        rows = [
            [c.label, c.voted, f"{c.count} of {c.queries}"]
            for c in evaluation.confused[:WORST_SHOWN]
        ]
        print_table(["class", "voted for", "queries"], rows)
    if evaluation.worst:
        tell()
        tell("failed worst")
        rows = [
            [shown_path(q.path), q.label, f"{q.precision:.2f}"]
            for q in evaluation.worst[:WORST_SHOWN]
        ]
        print_table(["query", "class", f"precision@{evaluation.k}"], rows)
    if evaluation.calibration is not None:
        tell()
        tell("confidence")
        print_facts(calibration_facts(evaluation.calibration))

"""imgret compare: experiments side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from imgret.command import Command
from imgret.experiment import find_experiment
from imgret.intervals import INTERVALS
from imgret.options import (
    check_protocol,
    checksum_option,
    engine_option,
    figures_option,
    format_option,
    interval_option,
    neighbours_options,
    report_option,
    settings_options,
)
from imgret.path_types import NamedPath
from imgret.streams import say, tell
from retrieval.words import (
    BY_FOLDER,
    EMBEDDING,
    SEARCH,
    IntervalOver,
)

if TYPE_CHECKING:
    from retrieval.comparison import Comparison, ExperimentResult, NamedExperiment
    from retrieval.evaluation import Evaluation

METRIC_TESTED = "precision@5"  # is always measured


@click.command(
    "compare",
    cls=Command,
    epilog="""\b
Examples:
  imgret compare cars/train --queries cars/test --recipe R1 --recipe R2 --recipe R3 \\
      --report cars.html
  imgret compare cars/train --queries cars/test --backbone mobilenetv2 --size 128 --size 224 \\
      --transform none --transform whiten:512
  imgret compare cars/train --queries cars/test --recipe R2 --random-weights
""",
)
@click.argument("images", metavar="FOLDER", type=NamedPath(path_type=Path))
@click.option(
    "--queries",
    type=NamedPath(path_type=Path),
    metavar="FOLDER",
    help="Labelled images to search for; by default, each image among the others.",
)
@click.option(
    "--zero-shot",
    is_flag=True,
    help="Evaluate on half of the classes, with the transform fitted on the other half.",
)
@click.option(
    "--labels",
    default=BY_FOLDER,
    show_default=True,
    metavar="folder|FILE.csv",
    help="Labels of the images in FOLDER, as for `imgret index`.",
)
@click.option(
    "--query-labels",
    default=BY_FOLDER,
    show_default=True,
    metavar="folder|FILE.csv",
    help="Labels of the queries.",
)
@click.option(
    "--recipe",
    "recipes",
    multiple=True,
    metavar="NAME|FILE",
    help="R1, R2, R3, R3-lite2 or a TOML file; may be repeated.",
)
@settings_options(*EMBEDDING, *SEARCH, multiple=True)
@click.option(
    "--weights",
    multiple=True,
    type=NamedPath(path_type=Path),
    metavar="FOLDER",
    help="Folder with the weights of a backbone that a recipe names; its config.json says which. "
    "May be repeated.",
)
@click.option(
    "--random-weights",
    is_flag=True,
    help="Use random weights where no others exist: for shape and cost, not for matches.",
)
@neighbours_options
@interval_option
@engine_option
@click.option(
    "--cache",
    type=NamedPath(path_type=Path),
    metavar="FOLDER",
    help="Folder that keeps embeddings and results; by default in your cache folder.",
)
@checksum_option
@report_option("figures and matches")
@figures_option
@format_option("text", "json", "csv")
def compare_command(
    images: Path,
    queries: Path | None,
    zero_shot: bool,
    labels: str,
    query_labels: str,
    recipes: tuple[str, ...],
    weights: tuple[Path, ...],
    random_weights: bool,
    k: tuple[int, ...],
    vote: int,
    interval_over: IntervalOver,
    engine: Any,
    cache: Path | None,
    checksum: bool,
    report: Path | None,
    figures: Path | None,
    output: str,
    **spans: tuple[Any, ...],
) -> int:
    """Compare experiments on the same images: recipes, and every combination of the options.

    Each embedding and each result is kept, so that one more experiment costs only that experiment.
    """
    from imgret.output import shown_progress
    from retrieval.comparison import ComparedFolders, compare
    from retrieval.encoder import cache_folder
    from retrieval.evaluation.protocols import Measured

    check_protocol(
        queries=queries is not None,
        zero_shot=zero_shot,
        labels=query_labels,
        labels_option="--query-labels",
    )
    experiments = _experiments(recipes, spans, weights, random_weights=random_weights)
    deepest = {e.recipe.k for e in experiments} | {5}
    with shown_progress() as progress:
        comparison = compare(
            ComparedFolders(
                images, queries, labels, query_labels, zero_shot=zero_shot, checksum=checksum
            ),
            experiments,
            cache=cache or cache_folder() / "experiments",
            measured=Measured(
                tuple(sorted({*k} | deepest)),
                vote,
                interval_over=interval_over,
            ),
            engine=engine,
            progress=progress,
        )
    for left_out in dict.fromkeys(r.evaluation.left_out for r in comparison.experiments):
        if left_out:
            say(f"imgret: {left_out}")
    for result in comparison.experiments:
        for notice in result.evaluation.notices:
            say(f"imgret: {result.name}: {notice}")
        if result.is_random:
            say(f"imgret: {result.name} has random weights: its row shows shape and cost only.")
    try:
        _write(comparison, report, figures)
    finally:  # on a full disk the figures are shown all the same
        {"text": _print_text, "json": _print_json, "csv": _print_csv}[output](comparison)
    return 0


def _experiments(
    recipes: Sequence[str],
    spans: dict[str, tuple[Any, ...]],
    weights: Sequence[Path],
    *,
    random_weights: bool,
) -> list[NamedExperiment]:
    from retrieval.comparison import recipes as known

    experiments = [find_experiment(name) for name in recipes]
    if any(spans.values()) or not experiments:
        experiments += known.grid(known.Experiment(), spans)
    made = [known.with_weights(e, weights, random_weights=random_weights) for e in experiments]
    known.check_used(weights, made)
    return known.unique(made)


def _write(comparison: Comparison, report: Path | None, figures: Path | None) -> None:
    if report is not None:
        from retrieval.report.comparison import write_comparison

        write_comparison(report, comparison)
    if figures is not None:
        from retrieval.report.figures import comparison_figures
        from retrieval.report.style import save_figures

        save_figures(comparison_figures(comparison), figures)


def _print_text(comparison: Comparison) -> None:
    from imgret.output import as_figure, print_facts, print_table

    shown = _shown(comparison.experiments[0].evaluation)
    columns = ["experiment", "width", *shown, "distance", "vote F1", "ms/image", "to beat"]
    print_table(columns, [_row(result, shown) for result in comparison.experiments])
    tell()
    intervals = INTERVALS[comparison.experiments[0].evaluation.interval_over]
    print_facts([("intervals", intervals)])
    if comparison.tests:
        tell()
        tell(f"{METRIC_TESTED}, difference in pairs (permutation test, Holm)")
        print_table(
            ["first", "second", "difference", "low", "high", "p"],
            [
                [
                    t.first,
                    t.second,
                    *(as_figure(v, "+.4f") for v in (t.difference, t.low, t.high)),
                    f"{t.p:.4f}",
                ]
                for t in comparison.tests
            ],
        )  # fmt: skip


def _shown(evaluation: Evaluation) -> list[str]:
    """Name the metrics of the table, among them the precision of the smallest k."""
    precisions = [m.name for m in evaluation.metrics if m.name.startswith("precision@")]
    return list(dict.fromkeys([precisions[0], METRIC_TESTED, "MAP@R", "mAP"]))


def _row(result: ExperimentResult, shown: Sequence[str]) -> list[str]:
    from imgret.output import as_figure

    e = result.evaluation
    interval = e.metric(METRIC_TESTED)
    row = [result.name + (" (random weights)" if result.is_random else ""), str(result.dim)]
    for name in shown:
        value = as_figure(e.metric(name).value, ".3f")
        known = name == METRIC_TESTED and not math.isnan(interval.low)
        row.append(f"{value} [{interval.low:.3f}, {interval.high:.3f}]" if known else value)
    row.append(as_figure(e.metric(f"distance@{e.k}").value, ".3f"))
    row.append(f"{e.vote.f1_macro:.3f}")
    row.append("" if result.milliseconds is None else f"{result.milliseconds:.1f}")
    row.append("" if result.reference is None else f"{result.reference:.2f}")
    return row


def _print_csv(comparison: Comparison) -> None:
    from imgret.output import print_csv

    names = [m.name for m in comparison.experiments[0].evaluation.metrics]
    columns = [
        "experiment", "settings", "random_weights", "width", "queries", "interval_over",
        "milliseconds", "reference_precision@5",
        *[f"{n}{s}" for n in names for s in ("", " low", " high")],
        "vote_precision_macro", "vote_recall_macro", "vote_f1_macro",
    ]  # fmt: skip
    rows = []
    for r in comparison.experiments:
        e, vote = r.evaluation, r.evaluation.vote
        figures = [x for n in names for x in _interval(e.metric(n))]
        rows.append(
            [r.name, "; ".join(f"{k}={v}" for k, v in r.settings), r.is_random, r.dim, e.queries,
             e.interval_over, _number(r.milliseconds), _number(r.reference), *map(_number, figures),
             *map(_number, (vote.precision_macro, vote.recall_macro, vote.f1_macro))]
        )  # fmt: skip
    print_csv(columns, rows)


def _interval(metric: Any) -> tuple[float, float, float]:
    return metric.value, metric.low, metric.high


def _number(value: float | None) -> str:
    from imgret.output import Number

    return "" if value is None or math.isnan(value) else Number(f"{value:.6g}")


def _print_json(comparison: Comparison) -> None:
    import dataclasses

    from imgret.commands.evaluate import as_json
    from imgret.output import print_json

    document = {
        "gallery": comparison.gallery,
        "queries": comparison.queries,
        "experiments": [
            {
                "name": r.name,
                "settings": dict(r.settings),
                "random_weights": r.is_random,
                "width": r.dim,
                "milliseconds": r.milliseconds,
                "reference": r.reference,
                "evaluation": as_json(r.evaluation),
            }
            for r in comparison.experiments
        ],
        "tests": [dataclasses.asdict(test) for test in comparison.tests],
    }
    print_json(document)

"""imgret test: how good trained classifiers are."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from imgret.command import Command
from imgret.options import figures_option, format_option, report_option
from imgret.path_types import NamedPath
from imgret.streams import say, tell
from retrieval.text import counted

if TYPE_CHECKING:
    from classify.evaluation import Average, ClassifierReport, ClassReport

MISTAKES_LISTED = 20


@click.command(
    "test",
    cls=Command,
    epilog="""\b
Examples:
  imgret test runs/parts --data parts/test --report parts.html
  imgret test runs/a runs/b --ensemble --data cars/test
""",
)
@click.argument("runs", type=NamedPath(path_type=Path), nargs=-1, required=True)
@click.option(
    "--data",
    type=NamedPath(path_type=Path),
    metavar="FOLDER",
    help="Class folders; by default test/ of the training folder, or what the run held out.",
)
@click.option("--ensemble", is_flag=True, help="Test the mean of the runs' probabilities.")
@report_option("figures, classes and mistakes")
@figures_option
@format_option("text", "json", "csv")
def test_command(
    runs: tuple[Path, ...],
    data: Path | None,
    ensemble: bool,
    report: Path | None,
    figures: Path | None,
    output: str,
) -> int:
    """Test runs on labelled images: accuracy, top-5, loss, each class, confusions and mistakes."""
    if len(runs) > 1 and not ensemble:
        raise click.UsageError(
            "Several runs can only be tested as one. Give --ensemble, or one run at a time."
        )
    if ensemble and len(runs) < 2:
        raise click.UsageError("--ensemble needs two or more runs. Give more, or leave it out.")
    from classify.leaderboard import write_tested
    from classify.report import write_report
    from classify.run import Run
    from classify.tested import evaluate_ensemble, evaluate_run
    from imgret.output import shown_progress

    with shown_progress() as progress:
        if ensemble:
            evaluation = evaluate_ensemble(runs, data, progress)
        else:
            evaluation = evaluate_run(runs[0], data, progress)
            if not evaluation.is_validation:
                write_tested(Run.read(runs[0]), evaluation)
    for path, reason in evaluation.failed:
        say(f"{path}: {reason}")
    for note in evaluation.notes:
        say(note)
    if report is not None:
        write_report(report, evaluation)
    if figures is not None:
        from classify.report.figures import report_figures
        from classify.report.pictures import picture_figures
        from retrieval.report.style import save_figures

        save_figures(report_figures(evaluation) | picture_figures(evaluation), figures)
    {"text": _print_text, "json": _print_json, "csv": _print_csv}[output](evaluation)
    return 0


def _print_json(evaluation: ClassifierReport) -> None:
    from imgret.output import print_json

    document = dataclasses.asdict(evaluation)
    document["averages"] = {a.pop("name"): a for a in document["averages"]}
    print_json(document)


def _print_csv(evaluation: ClassifierReport) -> None:
    from imgret.output import Number, print_csv

    kinds: list[tuple[str, ClassReport | Average, int]] = [
        (c.label, c, c.support) for c in evaluation.classes
    ]
    kinds += [(f"{a.name} average", a, evaluation.images) for a in evaluation.averages]
    print_csv(
        ["class", "precision", "recall", "F1", "support"],
        [
            [
                name,
                *(Number(f"{v:.6f}") if images else "" for v in (of.precision, of.recall, of.f1)),
                images,
            ]
            for name, of, images in kinds
        ],
    )


def _print_text(evaluation: ClassifierReport) -> None:
    from imgret.output import print_facts, print_table, shown_path

    e = evaluation
    print_facts(
        [
            ("model", e.model),
            ("data", f"{e.data}, {counted(e.images, 'image')}, {len(e.failed):,} failed"),
            ("top-1", f"{e.top1:.4f}"),
            ("top-5", f"{e.top5:.4f}"),
            ("loss", f"{e.loss:.4f}"),
            ("calibration", f"expected error {e.calibration_error:.4f}"),
        ]
    )
    tell()
    rows = [
        [
            c.label,
            *(f"{v:.3f}" if c.support else "-" for v in (c.precision, c.recall, c.f1)),
            str(c.support),
        ]
        for c in e.classes
    ]
    for a in e.averages:
        values = [f"{v:.3f}" for v in (a.precision, a.recall, a.f1)]
        rows.append([f"({a.name} average)", *values, str(e.images)])
    print_table(["class", "precision", "recall", "F1", "support"], rows)
    if e.confused:
        tell()
        tell("most confused")
        print_table(
            ["class", "taken for", "images"],
            [[c.label, c.predicted, f"{c.count} of {c.support}"] for c in e.confused],
        )
    if e.mistakes:
        tell()
        tell(f"misclassified: {len(e.mistakes):,}, the surest first")
        print_table(
            ["image", "true", "predicted", "probability"],
            [
                [shown_path(m.path), m.label, m.predicted, f"{m.probability:.3f}"]
                for m in e.mistakes[:MISTAKES_LISTED]
            ],
        )

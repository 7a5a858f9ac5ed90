"""imgret leaderboard: several runs side by side."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from imgret.command import Command
from imgret.exits import ERROR, FOUND
from imgret.options import figures_option, format_option, report_option
from imgret.path_types import NamedPath
from imgret.streams import say

if TYPE_CHECKING:
    from classify.explain import Explanation
    from classify.leaderboard import Entry


@click.command(
    "leaderboard",
    cls=Command,
    epilog="""\b
Examples:
  imgret leaderboard runs/* --report runs.html
  imgret leaderboard runs/* --figures figures/ --image photo.jpg
""",
)
@click.argument("runs", type=NamedPath(path_type=Path), nargs=-1, required=True)
@report_option("figures side by side")
@figures_option
@click.option(
    "--image",
    type=NamedPath(path_type=Path),
    metavar="FILE",
    help="Draw in the report and the figures what each run looks at in this image.",
)
@format_option("text", "json", "csv")
def leaderboard_command(
    runs: tuple[Path, ...],
    report: Path | None,
    figures: Path | None,
    image: Path | None,
    output: str,
) -> int:
    """Compare RUNS, best first: parameters, training, and the figures of `imgret test`.

    Exit codes: 0 compared, 2 an error, or a run or the image cannot be used.
    """
    from classify import leaderboard
    from imgret.output import print_csv, print_json, print_table

    if image and not (report or figures):
        raise click.UsageError(
            "--image is drawn in a report or figures. Give --report or --figures."
        )
    entries, refused = leaderboard.read_entries(runs)
    for sentence in refused:
        say(f"imgret: {sentence}")
    if not entries:
        return ERROR
    notes = leaderboard.differences(entries)
    if report or figures or any(entry.tested for entry in entries):
        notes += leaderboard.untested(entries)
    explanation, left_out = _explained(entries, image)
    if report or figures:
        notes += _write(entries, [*notes, *left_out], report, figures, explanation)
    notes += left_out
    for sentence in notes:
        say(sentence)
    names, rows = leaderboard.columns(), [entry.row for entry in entries]
    if output == "json":
        print_json([dataclasses.asdict(row) for row in rows])
    elif output == "csv":
        print_csv(names, [dataclasses.astuple(row) for row in rows])
    else:
        print_table(names, [leaderboard.cells(row) for row in rows])
    return ERROR if refused or (image and not explanation) else FOUND


def _explained(
    entries: Sequence[Entry], image: Path | None
) -> tuple[Explanation | None, list[str]]:
    """Explain the image, if there is one, and say which runs are left out."""
    if image is None:
        return None, []
    from classify.report.across import explain_across

    return explain_across(entries, image)


def _write(
    entries: Sequence[Entry],
    notes: Sequence[str],
    report: Path | None,
    figures: Path | None,
    explanation: Explanation | None,
) -> list[str]:
    """Write the page and the figures. Returns further sentences, which the page has too."""
    from classify.report import write_leaderboard
    from classify.report.across import (
        SHOWN_RUNS,
        leaderboard_figures,
        no_best_classes,
    )
    from retrieval.report.style import save_figures

    more = no_best_classes(entries)
    if len(entries) > SHOWN_RUNS:
        more.append(f"The figures show the {SHOWN_RUNS} best runs; the table has all.")
    if report is not None:
        write_leaderboard(report, entries, [*notes, *more], explanation)
    if figures is not None:
        save_figures(leaderboard_figures(entries, explanation), figures)
    return more

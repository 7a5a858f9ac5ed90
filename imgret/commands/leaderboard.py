"""imgret leaderboard: several runs side by side."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from imgret.options import NamedPath, format_option
from imgret.streams import say


@click.command(
    "leaderboard",
    epilog="""\b
Example:
  imgret leaderboard runs/* --report runs.html
""",
)
@click.argument("runs", type=NamedPath(path_type=Path), nargs=-1, required=True)
@click.option("--report", type=NamedPath(path_type=Path, dir_okay=False), metavar="FILE.html")
@click.option(
    "--figures",
    type=NamedPath(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Write the figures as PNG and SVG.",
)
@format_option("text", "json", "csv")
def command(runs: tuple[Path, ...], report: Path | None, figures: Path | None, output: str) -> int:
    """Compare RUNS, best first: parameters, training, and the figures of `imgret test`."""
    from classify import leaderboard
    from classify.run import Run
    from imgret.output import print_csv, print_json, print_table
    from retrieval.errors import ImgretError

    opened = []
    for folder in runs:
        try:
            run = Run(folder)
            opened.append((leaderboard.row(run), run))
        except ImgretError as error:
            say(f"imgret: {error}")
    if not opened:
        return 1
    opened.sort(key=lambda pair: -(pair[0].test_accuracy or pair[0].validation_accuracy or 0))
    for sentence in leaderboard.differences([run for _, run in opened]):
        say(sentence)
    names, rows = leaderboard.columns(), [row for row, _ in opened]
    if report is not None:
        from classify.report import write_leaderboard

        cells = [dict(zip(names, leaderboard.cells(row), strict=True)) for row in rows]
        write_leaderboard(report, [run for _, run in opened], cells)
    if figures is not None:
        from classify.report.figures import leaderboard_figures
        from retrieval.report.style import save_figures

        save_figures(leaderboard_figures({run.name: run.history for _, run in opened}), figures)
    if output == "json":
        print_json([dataclasses.asdict(row) for row in rows])
    elif output == "csv":
        print_csv(names, [dataclasses.astuple(row) for row in rows])
    else:
        print_table(names, [leaderboard.cells(row) for row in rows])
    return 0

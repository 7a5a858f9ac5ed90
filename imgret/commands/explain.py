"""imgret explain: what a classifier looks at."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from imgret.command import Command, check_not_read
from imgret.exits import ERROR, NOTHING
from imgret.options import OneOf, report_option
from imgret.path_types import FileToWrite, NamedPath
from imgret.ranges import WholeNumber
from imgret.streams import say

if TYPE_CHECKING:
    from classify.explain import Show

SUFFIXES = (".png", ".svg")
DEFAULT_OUT = "explained.png"


@click.command(
    "explain",
    cls=Command,
    epilog="""\b
Examples:
  imgret explain runs/parts photo.jpg --beside runs/other --out cam.png
  imgret explain runs/parts parts/test --show misclassified --out wrong.png
""",
)
@click.argument("run", type=NamedPath(path_type=Path))
@click.argument("images", type=NamedPath(path_type=Path), nargs=-1, required=True)
@click.option(
    "--beside",
    type=NamedPath(path_type=Path),
    multiple=True,
    metavar="RUN",
    help="Another run, in a column beside the first; may be repeated.",
)
@click.option(
    "--out",
    "outs",
    type=FileToWrite(*SUFFIXES),
    multiple=True,
    metavar="FILE",
    help="Figure to write, a .png or .svg; may be repeated. By default "
    f"{DEFAULT_OUT}, unless there is a --report.",
)
@report_option("the maps")
@click.option(
    "--class", "of_class", metavar="NAME", help="Class to explain; by default the predicted one."
)
@click.option(
    "--show",
    type=OneOf(["all", "correct", "misclassified"]),
    default="all",
    show_default=True,
    help="From class folders, show only images that RUN has right, or wrong.",
)
@click.option(
    "--limit",
    type=WholeNumber(1, 100),
    default=16,
    show_default=True,
    help="Most images to show.",
)
def explain_command(
    run: Path,
    images: tuple[Path, ...],
    beside: tuple[Path, ...],
    outs: tuple[Path, ...],
    report: Path | None,
    of_class: str | None,
    show: Show,
    limit: int,
) -> int:
    """Show with Grad-CAM what speaks for a class in IMAGES: one row per image, one column per run.

    For one folder with class folders, the true classes are shown, too. Exit codes: 0 drawn, 1 no
    image to show, 2 an error, or no image can be used.
    """
    from classify.explain import explain, find_files
    from classify.predictor import Predictor
    from classify.report import write_explanations
    from classify.run import is_run
    from imgret.output import print_table, say_no_images, shown_progress

    written = [*outs, *([report] if report else [])]
    if not written:
        written = [FileToWrite().convert(DEFAULT_OUT, None, None)]
    for image in images:
        if is_run(image):
            raise click.UsageError(f"{image} is a run. Give it with --beside.")
    predictors = [Predictor.load(folder) for folder in (run, *beside)]
    files, labels = find_files(images, predictors[0].classes)
    if labels is None and show != "all":
        raise click.UsageError(
            f"--show {show} needs true classes. Give one folder with a subfolder for each class of "
            f"{predictors[0].name}."
        )
    if not files:
        say_no_images(images)
        return NOTHING
    check_not_read(written, (file.path for file in files))
    with shown_progress() as progress:
        made, failed = explain(
            predictors, files, labels=labels, of_class=of_class, show=show, limit=limit,
            progress=progress,
        )  # fmt: skip
    for path, reason in failed:
        say(f"{path}: {reason}")
    if not made:
        usable = len(failed) < len(files)
        why = f"No image is one of --show {show}" if usable else "No image can be used"
        say(f"imgret: {why}. Give other images.")
        return NOTHING if usable else ERROR
    for file in written:
        write_explanations(file, made)
    rows = [
        [str(e.path), model.model, model.predicted, f"{model.probability:.4f}", e.label or ""]
        for e in made
        for model in e.models
    ]
    print_table(["image", "run", "predicted", "probability", "label"], rows)
    for file in written:
        say(f"Written: {file}")
    return 0

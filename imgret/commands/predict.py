"""imgret predict: the class of images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from imgret.command import Command
from imgret.exits import ERROR, FOUND, NOTHING
from imgret.options import format_option
from imgret.path_types import NamedPath
from imgret.ranges import WholeNumber
from imgret.streams import say

if TYPE_CHECKING:
    from classify.predictor import Prediction


@click.command(
    "predict",
    cls=Command,
    epilog="""\b
Examples:
  imgret predict runs/parts photo.jpg --top 5
  imgret predict runs/parts photos/ --format csv > classes.csv
""",
)
@click.argument("run", type=NamedPath(path_type=Path))
@click.argument("images", type=NamedPath(path_type=Path), nargs=-1, required=True)
@click.option(
    "--top",
    type=WholeNumber(min=1),
    default=5,
    show_default=True,
    help="Number of classes to show.",
)
@format_option("text", "json", "csv")
def predict_command(run: Path, images: tuple[Path, ...], top: int, output: str) -> int:
    """Predict the classes of IMAGES (files or folders) by RUN, the most probable first.

    Exit codes: 0 some were predicted, 1 there is no image, 2 an error, or no image can be used.
    """
    from classify.predictor import Predictor
    from classify.run import is_run
    from imgret.output import say_no_images, shown_progress

    for image in images:
        if is_run(image):
            raise click.UsageError(f"{image} is a run. Give one run, and images after it.")
    predictor = Predictor.load(run)
    with shown_progress() as progress:
        predictions = predictor.predict(images, top=top, progress=progress)
    for prediction in predictions:
        if prediction.error is not None:
            say(f"{prediction.path}: {prediction.error}")
    if not predictions:
        say_no_images(images)
        code = NOTHING
    else:
        code = FOUND if any(p.error is None for p in predictions) else ERROR
    {"text": _print_text, "json": _print_json, "csv": _print_csv}[output](predictions)
    return code


def _print_json(predictions: list[Prediction]) -> None:
    from imgret.output import print_json

    document = [
        {
            "path": str(p.path),
            "error": p.error,
            "classes": [
                {"label": label, "probability": round(probability, 6)}
                for label, probability in zip(p.classes, p.probabilities, strict=True)
            ],
        }
        for p in predictions
    ]
    print_json(document)


def _print_csv(predictions: list[Prediction]) -> None:
    from imgret.output import Number, print_csv

    rows: list[list[Any]] = []
    for p in predictions:
        if p.error is not None:
            rows.append([p.path, "", "", "", p.error])
        for rank, (label, probability) in enumerate(
            zip(p.classes, p.probabilities, strict=True), start=1
        ):
            rows.append([p.path, rank, label, Number(f"{probability:.6f}"), ""])
    print_csv(["path", "rank", "label", "probability", "error"], rows)


def _print_text(predictions: list[Prediction]) -> None:
    from imgret.output import print_table, shown_path

    rows = [
        [shown_path(p.path), str(rank), f"{probability:.3f}", label]
        for p in predictions
        for rank, (label, probability) in enumerate(
            zip(p.classes, p.probabilities, strict=True), start=1
        )
    ]
    if rows:
        print_table(["image", "rank", "probability", "class"], rows)

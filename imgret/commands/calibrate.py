"""imgret calibrate: scores -> the probability that a match is right."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from imgret.command import Command
from imgret.galleries import existing_gallery
from imgret.options import (
    OneOf,
    format_option,
    gallery_option,
    max_pixels_option,
    prior_option,
    trust_option,
    trusted,
    was_given,
)
from imgret.ranges import WholeNumber
from imgret.streams import say, tell
from retrieval.words import ANSWER_KINDS, MOST_PICTURES

if TYPE_CHECKING:
    from retrieval.evaluation import Calibration


@click.command(
    "calibrate",
    cls=Command,
    epilog="""\b
Examples:
  imgret calibrate
  imgret calibrate --by picture --prior-known 0.5
  imgret query photo.jpg --min-confidence 0.5
""",
)
@gallery_option
@trust_option
@click.option(
    "--by",
    type=OneOf(ANSWER_KINDS),
    help="What counts as an answer: an image of the query's class, or of the same thing, which "
    "needs no labels. By default class, if there are enough labels.",
)
@prior_option()
@click.option(
    "--most-pictures",
    type=WholeNumber(min=20),
    help=f"Number of pictures to alter and search for, by default {MOST_PICTURES}; implies --by "
    "picture.",
)
@max_pixels_option
@format_option("text", "json")
def calibrate_command(gallery: Path | None, output: str, **options: Any) -> int:
    """Learn how likely a match is right, and that a query may have no answer at all.

    From then on `imgret query` shows a probability beside each score, says when no match is likely
    to be right, and takes --min-confidence. --by class leaves out whole classes in turn. --by
    picture searches for pictures by crops, small copies and mirror images of them.
    """
    from imgret.output import print_json, shown_progress
    from retrieval.retriever import Retriever

    if options["by"] == "class" and was_given("most_pictures"):
        raise click.UsageError("--most-pictures needs --by picture. Give that, or leave it out.")
    with shown_progress() as progress:
        retriever = Retriever(existing_gallery(gallery), trust=trusted())
        calibration = retriever.calibrate(progress=progress, **options)
    for notice in calibration.notices:
        say(f"imgret: {notice}")
    if output == "json":
        print_json(dataclasses.asdict(calibration))
    else:
        _print(calibration)
    return 0


def _print(calibration: Calibration) -> None:
    from imgret.calibrated import calibration_facts
    from imgret.output import print_facts, print_table

    print_facts(calibration_facts(calibration))
    tell()
    tell("best matches of like probability")
    rows = [
        [f"{b.predicted:.3f}", f"{b.observed:.3f}", str(b.count)] for b in calibration.reliability
    ]
    print_table(["probability", "right", "queries"], rows)

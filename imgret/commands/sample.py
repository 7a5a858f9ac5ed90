"""imgret sample: a folder of labelled pictures to try things on."""

from __future__ import annotations

import os
from pathlib import Path
from shlex import quote

import click

from imgret.command import Command
from imgret.path_types import NamedPath
from imgret.ranges import WholeNumber
from imgret.streams import say


@click.command(
    "sample",
    cls=Command,
    epilog="""\b
Examples:
  imgret sample parts/
  imgret sample parts/ --train 400 --test 50
  imgret sample small/ --train 10 --test 2 --size 96 --seed 7
""",
)
@click.argument("folder", metavar="FOLDER", type=NamedPath(path_type=Path))
@click.option(
    "--train", type=WholeNumber(min=0), default=100, show_default=True,
    metavar="N", help="Images per class in FOLDER/train.",
)  # fmt: skip
@click.option(
    "--test", type=WholeNumber(min=0), default=10, show_default=True,
    metavar="N", help="Images per class in FOLDER/test.",
)  # fmt: skip
@click.option(
    "--size", type=WholeNumber(32, 1024), default=224, show_default=True,
    metavar="PX", help="Side of the square pictures.",
)  # fmt: skip
@click.option(
    "--seed", type=WholeNumber(min=0), default=0, show_default=True,
    metavar="N", help="Another seed gives other pictures.",
)  # fmt: skip
def sample_command(folder: Path, train: int, test: int, size: int, seed: int) -> int:
    """Write pictures of rendered bolts, nuts, washers, carton boxes and cement bags to FOLDER.

    FOLDER must be new or empty, or come from an earlier run with the same size and seed. Such a
    run is completed, and none of its pictures is changed.
    """
    from classify.samples import CLASSES, make_samples
    from imgret.output import print_facts, shown_progress

    with shown_progress() as progress:
        made = make_samples(folder, train=train, test=test, size=size, seed=seed, progress=progress)
    train, test = made.train * len(CLASSES), made.test * len(CLASSES)
    print_facts(
        [
            ("folder", str(folder)),
            ("images", f"{made.images:,}: {train:,} to train, {test:,} to test"),
            ("written", f"{made.written:,}"),
            ("classes", ", ".join(CLASSES)),
        ]
    )
    if made.train and made.test:
        quoted = quote if os.name == "posix" else '"{}"'.format
        name = CLASSES[0]
        query = folder / "test" / name / f"{name}_000.jpg"
        say("Try:")
        say(f"  imgret index {quoted(str(folder / 'train'))}")
        say(f"  imgret query {quoted(str(query))}")
    return 0

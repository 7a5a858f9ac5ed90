"""imgret train: a classifier from folders of labelled images."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, get_args

import click

from classify.words import NamedClassFolders
from imgret.command import Command
from imgret.interrupts import INTERRUPTED
from imgret.options import OneOf
from imgret.path_types import FolderToWrite, NamedPath
from imgret.streams import say

if TYPE_CHECKING:
    from classify.recipe import Recipe
    from classify.run import Epoch
    from classify.training import Trained


@click.command(
    "train",
    cls=Command,
    epilog="""\b
Examples:
  imgret train photos/ --out runs/photos
  imgret train parts/ --recipe parts/mobilenetv3-small --out runs/parts
  imgret train cars/ --recipe cars/best --weights mobilenetv2_100/ --set training.batch=64
  imgret train cars/ --out runs/cars --resume
""",
)
@click.argument("images", metavar="FOLDER", type=NamedPath(path_type=Path))
@click.option(
    "--recipe", metavar="NAME|FILE", help="Recipe to train by; `imgret recipes` lists ours."
)
@click.option(
    "--out",
    type=FolderToWrite(),
    metavar="FOLDER",
    help="Folder of the run; by default runs/ and the name of FOLDER.",
)
@click.option(
    "--weights",
    metavar="FOLDER|pretrained|random",
    help="Weights to start from; by default those of the recipe.",
)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override a key of the recipe, such as training.epochs=5 or phases.0.lr=1e-5. Phases are "
    "counted from 0. May be repeated.",
)
@click.option(
    "--classes",
    type=OneOf(get_args(NamedClassFolders)),
    help="Which folders are classes, if that is unclear: each subfolder with all below it, or "
    "each folder that holds images.",
)
@click.option(
    "--group-duplicates",
    is_flag=True,
    help="Keep near copies (bursts, crops, pictures saved again) on the same side of a split.",
)
@click.option("--resume", is_flag=True, help="Continue the run in --out.")
def train_command(
    images: Path,
    recipe: str | None,
    out: Path | None,
    weights: str | None,
    overrides: tuple[str, ...],
    classes: NamedClassFolders | None,
    group_duplicates: bool,
    resume: bool,
) -> int:
    """Train a classifier on FOLDER: class folders, or train/ and perhaps val/ and test/ with them.

    The run is a folder that timm and `imgret index --backbone` read. Ctrl-C saves the run, and
    --resume continues it to the same result as an unbroken run.
    """
    if classes:
        overrides += (f"data.classes={classes}",)
    if group_duplicates:
        overrides += ("data.group_duplicates=true",)
    if resume and (recipe or weights or overrides):
        raise click.UsageError(
            "--resume continues with the settings of the run. Leave out all others."
        )
    from classify import recipe as recipes
    from classify.defaults import default_recipe, recipe_with_weights
    from classify.report import report_run
    from classify.run import Run
    from classify.training import train
    from imgret.output import shown_progress

    out = out or Path("runs") / images.resolve().name
    if resume:
        chosen = Run.read(out).recipe
    else:
        name = recipe or default_recipe(images, classes or "auto")
        if not recipe:
            say(f"Recipe: {name}")
        chosen = recipe_with_weights(recipes.read_recipe(name, overrides), weights)
    with shown_progress() as progress, _interruptible() as stopped:
        trained = train(
            images,
            chosen,
            out,
            resume=resume,
            progress=progress,
            on_epoch=_reporter(chosen),
            on_split=_say_all,
            should_stop=stopped,
        )
        if not trained.run.facts.ended:
            say(f"Saved in {out}. Run the same command with --resume to continue.")
            return INTERRUPTED
        for path, reason in trained.failed:
            say(f"{path}: {reason}")
        report_run(out, progress)
    _print(trained, out)
    return 0


def _say_all(sentences: Sequence[str]) -> None:
    for sentence in sentences:
        say(sentence)


def _reporter(recipe: Recipe) -> Callable[[Epoch], None]:
    lengths = [recipe.settings(n).epochs for n in range(len(recipe.phases))]

    def report(epoch: Epoch) -> None:
        from imgret.output import as_time

        left = max(0, sum(lengths) - epoch.epoch) * epoch.seconds
        line = f"epoch {epoch.epoch} of {sum(lengths)}"
        if len(lengths) > 1:
            line += f", phase {epoch.phase}"
        line += f": loss {epoch.loss:.4f}"
        line += "" if epoch.accuracy is None else f", accuracy {epoch.accuracy:.4f}"
        if epoch.validation_loss is not None and epoch.validation_accuracy is not None:
            line += f"; validation loss {epoch.validation_loss:.4f}, "
            line += f"accuracy {epoch.validation_accuracy:.4f}{' *' if epoch.is_best else ''}"
        line += f"; lr {epoch.lr:.2e}, {epoch.images_per_second:,.0f} images/s, "
        say(line + f"at most {as_time(left)} left")

    return report


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """The first Ctrl-C asks to stop after the step, the second stops at once."""
    asked = False

    def ask(_number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        say("Saving. Press Ctrl-C again to stop without saving.", prefix="\n")

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _print(trained: Trained, out: Path) -> None:
    from imgret.output import as_time, print_facts

    facts, best = trained.run.facts, trained.best
    lines = [
        ("run", str(out)),
        ("images", f"{facts.trained_on:,} to train, {facts.validated_on:,} to validate"),
        ("failed", f"{facts.failed:,}"),
        ("parameters", f"{facts.parameters:,}"),
        ("ended", f"{facts.ended}, after {as_time(facts.seconds)}"),
    ]
    if best is not None:
        kept = f"epoch {best.epoch}"
        if best.validation_accuracy is not None:
            kept += f", validation accuracy {best.validation_accuracy:.4f}"
        lines.append(("kept", kept))
    if trained.is_random:
        lines.append(("note", "the backbone began with random weights"))
    lines.append(("report", str(out / "report.html")))
    print_facts(lines)

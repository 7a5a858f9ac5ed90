"""imgret tune: the best settings for your own labelled images."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from imgret.command import Command
from imgret.experiment import find_experiment
from imgret.intervals import INTERVALS
from imgret.options import checksum_option, engine_option, format_option, settings_options
from imgret.path_types import FileToWrite, NamedPath
from imgret.ranges import DecimalNumber, WholeNumber
from imgret.streams import say, tell
from retrieval.text import counted, unwritable
from retrieval.words import BY_FOLDER, MOST_NEIGHBOURS

if TYPE_CHECKING:
    from retrieval.comparison.tuner import Step, Tuning


@click.command(
    "tune",
    cls=Command,
    epilog="""\b
Examples:
  imgret tune cars/train --minutes 20 --out cars.toml
  imgret index cars/train --recipe cars.toml
  imgret tune photos/ --no-labels --backbone resnet50
""",
)
@click.argument("images", metavar="FOLDER", type=NamedPath(path_type=Path))
@click.option(
    "--minutes",
    type=DecimalNumber(min=0, min_open=True),
    default=10.0,
    show_default=True,
    help="Stop trying after this time; the first embedding is always finished.",
)
@click.option(
    "--out",
    type=FileToWrite(".toml"),
    default="tuned.toml",
    show_default=True,
    help="Recipe file to write the best settings to.",
)
@click.option("--recipe", metavar="NAME|FILE", help="Recipe to start from.")
@settings_options("backbone")
@click.option("--no-labels", is_flag=True, help="Fit no transform to labels; only measure by them.")
@click.option(
    "--labels",
    default=BY_FOLDER,
    show_default=True,
    metavar="folder|FILE.csv",
    help="Labels of the images in FOLDER, as for `imgret index`.",
)
@click.option(
    "--k",
    type=WholeNumber(1, MOST_NEIGHBOURS),
    default=5,
    show_default=True,
    help="Number of neighbours.",
)
@engine_option
@click.option(
    "--cache",
    type=NamedPath(path_type=Path),
    metavar="FOLDER",
    help="Folder that keeps embeddings; by default in your cache folder.",
)
@checksum_option
@format_option("text", "json")
def tune_command(
    images: Path,
    minutes: float,
    out: Path,
    recipe: str | None,
    backbone: str | None,
    no_labels: bool,
    cache: Path | None,
    output: str,
    **options: Any,
) -> int:
    """Find the settings that match your own labelled images best, within a time budget.

    Three in ten images of each class are held out and searched for among the others. A change is
    kept if it gains significantly on two thirds of them. The rest give the figure that is shown.
    Run it again with more minutes: no image is embedded twice.
    """
    from imgret.output import shown_progress
    from retrieval.comparison import recipes
    from retrieval.comparison.tuner import tune
    from retrieval.encoder import cache_folder
    from retrieval.files import write_atomically

    start = find_experiment(recipe).recipe if recipe else recipes.Experiment()
    if backbone:
        encoding = start.encoding.model_copy(update={"backbone": backbone})
        start = start.model_copy(update={"encoding": encoding})
    with shown_progress() as progress:
        tuning = tune(
            images,
            minutes=minutes,
            cache=cache or cache_folder() / "experiments",
            start=start,
            use_labels=not no_labels,
            progress=progress,
            on_step=_report,
            **options,
        )
    title = f"Tuned on {images.name}: precision@{tuning.k} {tuning.before:.3f} -> "
    title += f"{tuning.after:.3f} on {counted(tuning.fresh, 'image')} that chose nothing"
    others = {"reproduces": "", "reference": None, "measured": None}  # of the recipe it began with
    best = tuning.recipe.model_copy(update={"title": title, **others})
    try:
        write_atomically(out, recipes.experiment_as_toml(best).encode())
    except OSError as error:  # what was found is shown all the same
        _print(tuning, output, None)
        raise unwritable(out, error) from error
    _print(tuning, output, out)
    return 0


def _report(step: Step) -> None:
    if step.skipped:
        say(f"{step.change}: not tried ({step.skipped})")
        return
    kept = "kept" if step.kept else "-"
    say(f"{step.change}: {step.precision:.4f} ({step.gain:+.4f}, p {step.p:.3f}) {kept}")


def _print(tuning: Tuning, output: str, out: Path | None) -> None:
    from imgret.output import print_facts, print_json, print_table

    if output == "json":
        document = dataclasses.asdict(tuning) | {"recipe": tuning.recipe.model_dump()}
        document["steps"] = [s for s in document["steps"] if not s["skipped"]]
        document["interval_over"] = "queries"
        print_json(document)
        return
    kept = [step for step in tuning.steps if step.kept]
    interval = "" if math.isnan(tuning.low) else f" [{tuning.low:.4f}, {tuning.high:.4f}]"
    rows = [["start", f"{tuning.start:.4f}", ""]]
    rows += [[step.change, f"{step.precision:.4f}", f"{step.gain:+.4f}"] for step in kept]
    print_table(["setting", f"precision@{tuning.k}", "gain"], rows)
    tell()
    facts = [
        ("images", f"{tuning.images:,}, of which {tuning.held_out:,} chose among the settings"),
        (
            f"precision@{tuning.k}",
            f"{tuning.before:.4f} before, {tuning.after:.4f}{interval} after, of "
            f"{tuning.fresh:,} held-out images that chose nothing",
        ),
        *([("interval", INTERVALS["queries"])] if interval else []),
        ("tried", f"{sum(not s.skipped for s in tuning.steps)} changes, {len(kept)} kept"),
    ]
    if out is not None:
        facts.append(("written", f"{out}; `imgret index FOLDER --recipe {out}` uses it"))
    print_facts(facts)

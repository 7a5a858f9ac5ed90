"""imgret index: folders and files -> a gallery."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from imgret.command import Command
from imgret.exits import ERROR, NOTHING
from imgret.experiment import find_experiment
from imgret.galleries import gallery_to_write
from imgret.options import (
    checksum_option,
    engine_option,
    format_option,
    gallery_option,
    max_pixels_option,
    settings_options,
    trust_option,
    trusted,
    was_given,
)
from imgret.path_types import NamedPath
from imgret.ranges import WholeNumber
from imgret.streams import say
from retrieval.text import counted
from retrieval.words import EMBEDDING, SEARCH

if TYPE_CHECKING:
    from retrieval.retriever import IndexEstimate, IndexReport


@click.command(
    "index",
    cls=Command,
    epilog="""\b
Examples:
  imgret index cars/
  imgret index cars/ bikes/photo.jpg --backbone resnet50 --transform standard+pca:512
  imgret index cars/ --backbone runs/my-weights --gallery cars.imgret
  imgret index cars/ --labels labels.csv --exclude '*_thumb.jpg'
  imgret index cars/ --cluster processes
  imgret index cars/ --dry-run
  imgret index --compact
""",
)
@click.argument("paths", nargs=-1, type=NamedPath(path_type=Path, stores=True))
@gallery_option
@trust_option
@click.option(
    "--recipe",
    metavar="NAME|FILE",
    help="Take all other settings from a recipe, such as one that `imgret tune` wrote.",
)
@settings_options(*EMBEDDING, *SEARCH)
@engine_option
@click.option(
    "--labels",
    metavar="folder|none|FILE.csv",
    help="Where labels come from: the name of the image's folder (the default), nowhere, or the "
    "columns path and label of a CSV file.",
)
@click.option(
    "--exclude", multiple=True, metavar="GLOB", help="Leave out these paths; may be repeated."
)
@click.option("--include-hidden", is_flag=True, help="Enter hidden folders, too.")
@click.option("--keep-missing", is_flag=True, help="Keep the rows of files that are gone.")
@click.option(
    "--drop-missing",
    is_flag=True,
    help="Drop the rows of files that are gone, even if so many are gone that imgret would refuse.",
)
@checksum_option
@click.option("--refit", is_flag=True, help="Fit the transform anew, without reading an image.")
@click.option(
    "--compact",
    is_flag=True,
    help="Merge what changes left beside the large files, and erase removed images from them; "
    "needs no PATH.",
)
@click.option(
    "--reembed", is_flag=True, help="Embed all images again, for example with a new backbone."
)
@click.option(
    "--batch-size",
    type=WholeNumber(1, 4096),
    help="Number of images encoded at a time; by default the engine's choice.",
)
@click.option(
    "--workers",
    type=WholeNumber(1, 256),
    help="Number of decoding threads; by default one per core.",
)
@click.option(
    "--cluster",
    metavar="processes|ray|ray://HOST:PORT",
    help="Have several processes of this machine read and encode, or those of a Ray cluster; the "
    "gallery becomes the same.",
)
@click.option(
    "--cluster-workers",
    type=WholeNumber(1, 4096),
    help="Number of workers of --cluster; by default what keeps the cores busy.",
)
@max_pixels_option
@click.option("--strict", is_flag=True, help="Exit with 2 if any image failed.")
@click.option(
    "--dry-run", is_flag=True, help="Count images and estimate time and disk space; store nothing."
)
@format_option("text", "json")
def index_command(
    paths: tuple[Path, ...],
    gallery: Path | None,
    recipe: str | None,
    engine: Any,
    dry_run: bool,
    strict: bool,
    output: str,
    refit: bool,
    compact: bool,
    reembed: bool,
    **options: Any,
) -> int:
    """Embed the images below folders and files, and make them searchable.

    Run it again at any time: unchanged images cost nothing, new and changed images are embedded,
    and rows of deleted images are dropped. An interrupted run continues where it stopped.
    """
    from imgret.output import say_no_images, say_passed_over, shown_progress
    from retrieval.retriever import Retriever

    _check_together(paths, compact=compact, dry_run=dry_run, **options)
    settings: dict[str, Any] = {name: options.pop(name) for name in (*EMBEDDING, *SEARCH)}
    if recipe:
        known = find_experiment(recipe).recipe
        asked = {name: value for name, value in settings.items() if value is not None}
        settings = known.encoding.model_dump() | known.search.model_dump() | asked
    retriever = Retriever(gallery_to_write(gallery), trust=trusted(), engine=engine, **settings)
    with shown_progress() as progress:
        if not paths:
            retriever.compact(progress=progress)
            return 0
        if dry_run:
            estimate = retriever.estimate(paths, reembed=reembed, progress=progress, **options)
        else:
            report = retriever.index(
                paths, refit=refit, compact=compact, reembed=reembed, progress=progress, **options
            )
    if dry_run:
        _print_estimate(estimate, output)
        say_passed_over(estimate.passed_over)
        return 0
    _print_report(report, output)
    say_passed_over(report.passed_over)
    if not report.found and not report.removed:
        say_no_images(paths)
        return NOTHING
    return ERROR if strict and report.failed else 0


def _check_together(
    paths: tuple[Path, ...], *, compact: bool, dry_run: bool, **options: Any
) -> None:
    """Raise UsageError for options that contradict each other, or of which one does nothing."""
    if not paths and (not compact or _given_beside_compact()):
        raise click.UsageError(
            "Only --compact alone needs no PATH. Name the folders or files to index."
        )
    if compact and dry_run:
        raise click.UsageError("Give --compact or --dry-run, which stores nothing, not both.")
    if options["keep_missing"] and options["drop_missing"]:
        raise click.UsageError("Give --keep-missing or --drop-missing, not both.")
    if options["cluster"] and dry_run:
        raise click.UsageError("Give --cluster or --dry-run, which embeds nothing, not both.")
    if options["cluster_workers"] and not options["cluster"]:
        raise click.UsageError("--cluster-workers needs --cluster. Give both, or leave it out.")


def _given_beside_compact() -> bool:
    """Whether the command line has options that only a run with paths takes."""
    taken = {"gallery", "compact", "paths"}
    return any(was_given(name) for name in click.get_current_context().params if name not in taken)


def _print_report(report: IndexReport, output: str) -> None:
    from imgret.output import print_facts, print_json, shown_path

    if report.notice:
        say(f"imgret: {report.notice}")
    for path, reason in report.failures:
        say(f"failed: {path}: {reason}")
    if report.failed > len(report.failures):
        say("`imgret info --failed` lists all images that failed.")
    if output == "json":
        print_json(dataclasses.asdict(report))
        return
    facts = [(n, f"{getattr(report, n):,}") for n in ("added", "changed", "unchanged", "removed")]
    facts[2:2] = [("moved", f"{report.moved:,}")] if report.moved else []
    facts += [("failed", f"{report.failed:,}")]
    facts += [("images/s", f"{report.images_per_second:,.0f}")] if report.encoded else []
    print_facts([*facts, ("gallery", shown_path(report.gallery))])


def _print_estimate(estimate: IndexEstimate, output: str) -> None:
    from imgret.output import as_size, as_time, print_facts, print_json

    if output == "json":
        print_json(dataclasses.asdict(estimate))
        return
    facts = [(n, f"{getattr(estimate, n):,}") for n in ("new", "changed", "unchanged", "removed")]
    if estimate.seconds is not None and estimate.bytes is not None:
        tried = f"{counted(estimate.probed, 'image')} tried"
        facts += [("time", f"about {as_time(estimate.seconds)} ({tried})")]
        facts += [("disk", f"about {as_size(estimate.bytes)}")]
    print_facts(facts)

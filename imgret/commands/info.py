"""imgret info: a gallery in figures."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from imgret.command import Command
from imgret.exits import FOUND, NOTHING
from imgret.galleries import existing_gallery
from imgret.options import format_option, gallery_option
from retrieval.text import counted

if TYPE_CHECKING:
    from retrieval.retriever import GalleryInfo
    from retrieval.retriever.reports import ServedInfo


@click.command(
    "info",
    cls=Command,
    epilog="""\b
Examples:
  imgret info
  imgret info --failed
  imgret info --gallery cars.imgret --format json
""",
)
@gallery_option
@click.option(
    "--failed", is_flag=True, help="List the images that failed or have a flaw, with the reason."
)
@format_option("text", "json")
def info_command(gallery: Path | None, failed: bool, output: str) -> int:
    """Show what a gallery holds and how it was made.

    Exit codes: 0 shown, 1 --failed has nothing to list, 2 an error.
    """
    from imgret.output import print_json, print_table, say_passed_over
    from retrieval.retriever import Retriever

    info = Retriever(existing_gallery(gallery)).info()
    if not failed:
        print_json(dataclasses.asdict(info)) if output == "json" else _print(info)
        return FOUND
    flawed = [*info.failures, *((path, f"read, but it {note}") for path, note in info.notes)]
    if output == "json":
        print_json([{"image": path, "reason": reason} for path, reason in flawed])
    else:
        print_table(["image", "reason"], flawed)
    say_passed_over(info.passed_over)
    return FOUND if flawed else NOTHING


def _print(info: GalleryInfo) -> None:
    from imgret.output import as_size, print_facts, shown_path

    transform = f"{info.transform} (asked for: {info.transform_asked}; "
    transform += f"{info.dim} -> {info.transform_dim}, fitted on {info.fitted_on:,})"
    index = f"{info.index}, {counted(info.indexed, 'image')}"
    index += "" if info.current else "; behind the images: run `imgret index` again"
    recall = "not measured" if info.recall is None else f"{info.recall:.4f}"
    disk = f"{as_size(info.bytes_images)} images.lance, {as_size(info.bytes_index)} index"
    print_facts(
        [
            ("gallery", shown_path(info.gallery)),
            ("images", f"{info.images:,}"),
            ("failed", f"{info.failed:,}" + ("; `imgret info --failed`" if info.failed else "")),
            ("labels", f"{info.labels:,}" + _by_hand(info.labels_set)),
            ("backbone", info.backbone),
            ("weights", info.weights_sha256[:16]),
            ("input", f"{info.size} px, {info.fit}, pool {info.pool}, views {info.views}"),
            ("engine", info.engine),
            ("transform", transform if info.transform else f"none yet ({info.transform_asked})"),
            ("index", index),
            ("recall@10", recall),
            ("confidence", info.confidence or "none yet; `imgret calibrate`"),
            ("disk", disk),
            *([("published", _published(info.served))] if info.served else []),
            *(("left over", _leftover(path, size)) for path, size in info.leftovers),
        ]
    )


def _by_hand(images: int) -> str:
    return f"; set by hand of {counted(images, 'image')}" if images else ""


def _published(served: ServedInfo) -> str:
    held = f"{served.kind}, effort {served.effort}, {counted(served.images, 'image')}"
    behind = "" if served.current else "; behind the gallery: run `imgret publish` again"
    return f"{served.address}, {held}, recall@10 {served.recall:.4f}{behind}"


def _leftover(path: Path, size: int) -> str:
    from imgret.output import as_size

    what = "of an interrupted --reembed, which the same command continues"
    return f"{as_size(size)} {path.name}, {what if path.name == 'reembed' else 'swept by the next'}"

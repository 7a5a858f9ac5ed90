"""imgret publish: a gallery in a Milvus server."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from imgret.command import Command
from imgret.galleries import existing_gallery
from imgret.options import OneOf, format_option, gallery_option
from imgret.ranges import WholeNumber
from imgret.streams import say
from retrieval.milvus import ServedAddress
from retrieval.text import counted
from retrieval.words import SERVED_KINDS

if TYPE_CHECKING:
    from retrieval.milvus import Publication

RECALL_TOLD = 0.99  # a lower one is told


@click.command(
    "publish",
    cls=Command,
    epilog="""\b
Examples:
  imgret publish milvus://localhost:19530/photos
  imgret query photo.jpg --gallery "milvus://localhost:19530/photos?gallery=photos.imgret"
  imgret info --gallery "milvus://localhost:19530/photos?gallery=photos.imgret"
""",
)
@click.argument("address")
@gallery_option
@click.option(
    "--kind",
    type=OneOf(SERVED_KINDS),
    help="Kind of index; at first hnsw up to 10 million images, ivf_sq8 up to 100 million, and "
    "diskann beyond.",
)
@click.option(
    "--shards",
    type=WholeNumber(min=1),
    help="Parts that share the writing; at first one for 25 million images.",
)
@click.option(
    "--replicas",
    type=WholeNumber(min=1),
    help="Copies in memory that share the searches; at first 1.",
)
@click.option("--replace", is_flag=True, help="Replace another gallery that is published there.")
@format_option("text", "json")
def publish_command(address: str, gallery: Path | None, output: str, **options: Any) -> int:
    """Bring what a Milvus server holds at ADDRESS in step with a gallery.

    ADDRESS is milvus://HOST:PORT/NAME. Only what has changed is sent, and an interrupted run
    continues. An option that is not given stays as it was published. MILVUS_TOKEN holds
    USER:PASSWORD, or ~/.netrc names the host.
    """
    from imgret.output import print_json, shown_progress
    from retrieval.retriever import Retriever

    named = ServedAddress.parse(address).gallery
    with shown_progress() as progress:
        retriever = Retriever(named if named and gallery is None else existing_gallery(gallery))
        done = retriever.publish(address, progress=progress, **options)
    if done.recall < RECALL_TOLD:
        say(
            f"imgret: A search finds {done.recall:.3f} of the ten nearest images, less than "
            f"{RECALL_TOLD}. Another --kind may find more."
        )
    print_json(dataclasses.asdict(done)) if output == "json" else _print(done)
    return 0


def _print(done: Publication) -> None:
    from imgret.output import print_facts

    changed = f"{done.added:,} new, {done.changed:,} changed, {done.removed:,} removed"
    print_facts(
        [
            ("published", f"{counted(done.images, 'image')} at {done.address}"),
            ("changes", changed),
            ("index", f"{done.kind}, effort {done.effort}"),
            ("recall@10", f"{done.recall:.4f}"),
            ("collection", f"{done.collection}{', new' if done.anew else ''}"),
            ("took", f"{done.seconds:.1f} s"),
        ]
    )

"""imgret map: the gallery in two dimensions."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import click

from imgret.command import Command
from imgret.exits import NOTHING
from imgret.galleries import existing_gallery
from imgret.options import PAGES, OneOf, gallery_option, trust_option, trusted
from imgret.path_types import FileToWrite
from imgret.ranges import WholeNumber
from imgret.streams import say
from retrieval.projection import has_umap
from retrieval.words import MOST_ON_MAP, ProjectionMethod


@click.command(
    "map",
    cls=Command,
    epilog="""\b
Examples:
  imgret map --report cars.html
  imgret map --report cars.html --method tsne --where "label LIKE 'BMW%'"
""",
)
@click.option(
    "--report",
    "file",
    type=FileToWrite(*PAGES),
    metavar="FILE.html",
    required=True,
    help="HTML page to write.",
)
@gallery_option
@trust_option
@click.option(
    "--method",
    type=OneOf(get_args(ProjectionMethod)),
    help="How to draw the map; by default umap if umap-learn is installed, else tsne.",
)
@click.option(
    "--most-images",
    type=WholeNumber(1, 100_000),
    default=MOST_ON_MAP,
    show_default=True,
    help="Draw at most this many images, chosen at random.",
)
@click.option(
    "--where", metavar="FILTER", help="Draw only rows that pass the filter; see the example."
)
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Another seed gives another map."
)
def map_command(
    file: Path,
    gallery: Path | None,
    method: ProjectionMethod | None,
    most_images: int,
    where: str | None,
    seed: int,
) -> int:
    """Draw the gallery as a map: images that look alike lie close together.

    The result is one HTML page with thumbnails on hover, colours by label, zoom and search.
    """
    from imgret.output import print_facts, shown_progress
    from retrieval.libraries import distribution
    from retrieval.report.map import write_map
    from retrieval.retriever import Retriever

    chosen = method or ("umap" if has_umap() else "tsne")
    with shown_progress() as progress:
        drawn = Retriever(existing_gallery(gallery), trust=trusted()).map(
            chosen, most_images=most_images, where=where, seed=seed, progress=progress
        )
        if not drawn.points:
            say("imgret: No image passes --where. Give another filter.")
            return NOTHING
        write_map(file, drawn, progress)
    if method is None and chosen == "tsne":
        say(f"imgret: t-SNE drew the map. Run `pip install '{distribution()}[map]'` for UMAP.")
    shown = f"{len(drawn.points):,}"
    if len(drawn.points) < drawn.total:
        shown += f" of {drawn.total:,}, a random sample"
    print_facts([("images", shown), ("method", drawn.method), ("written", str(file))])
    return 0

"""imgret remove: drop rows."""

from __future__ import annotations

from pathlib import Path

import click

from imgret.command import Command
from imgret.galleries import existing_gallery
from imgret.options import gallery_option
from imgret.path_types import NamedPath
from imgret.streams import say, tell


@click.command(
    "remove",
    cls=Command,
    epilog="""\b
Examples:
  imgret remove cars/old/
  imgret remove cars/a.jpg cars/b.jpg
""",
)
@click.argument("paths", nargs=-1, required=True, type=NamedPath(path_type=Path, stores=True))
@gallery_option
def remove_command(paths: tuple[Path, ...], gallery: Path | None) -> int:
    """Drop images, and all images below folders, from a gallery; their files stay.

    They come back with the next `imgret index` of a folder that holds them: leave them out there
    with --exclude. A PATH that is not in the gallery is named on standard error. Exit codes: 0 some
    were dropped, 1 none, 2 an error.
    """
    from imgret.output import shown_progress
    from retrieval.retriever import Retriever

    absent: list[Path] = []
    with shown_progress() as progress:
        removed = Retriever(existing_gallery(gallery)).remove(
            paths, progress=progress, on_absent=absent.append
        )
    tell(f"removed  {removed:,}")
    for path in absent:
        say(f"imgret: {path}: The gallery holds no such image. Check its spelling.")
    return 0 if removed else 1

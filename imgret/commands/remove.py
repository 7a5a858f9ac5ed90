"""imgret remove: drop rows."""

from __future__ import annotations

from pathlib import Path

import click

from imgret.command import Command
from imgret.options import NamedPath, existing_gallery, gallery_option
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
@click.argument("paths", nargs=-1, required=True, type=NamedPath(path_type=Path))
@gallery_option
def command(paths: tuple[Path, ...], gallery: Path | None) -> int:
    """Drop images, and all images below folders, from a gallery; their files stay.

    They come back with the next `imgret index` of a folder that holds them: leave them out there
    with --exclude. Exit code 1 says that no such image was stored.
    """
    from imgret.output import shown_progress
    from retrieval.retriever import Retriever

    with shown_progress() as progress:
        removed = Retriever(existing_gallery(gallery)).remove(paths, progress=progress)
    tell(f"removed  {removed:,}")
    if not removed:
        say("imgret: The gallery holds no such image. Give a path as `imgret query` shows it.")
    return 0 if removed else 1

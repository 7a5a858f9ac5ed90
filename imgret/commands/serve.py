"""imgret serve: a page on which one drops an image and sees its classes."""

from __future__ import annotations

from pathlib import Path

import click

from imgret.command import Command
from imgret.options import NamedPath
from imgret.streams import say, tell


@click.command(
    "serve",
    cls=Command,
    epilog="""\b
Example:
  imgret serve runs/parts
""",
)
@click.argument("run", type=NamedPath(path_type=Path))
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help="By default any that is free."
)
@click.option("--top", type=click.IntRange(min=1), default=5, show_default=True, help="Classes.")
def command(run: Path, port: int, top: int) -> int:
    """Open a page of RUN on this machine, on which one drops an image and sees its classes.

    Nothing is stored, and other machines cannot reach it. Ctrl-C ends it.
    """
    from classify.predictor import Predictor
    from classify.server import PageServer

    with PageServer(Predictor.load(run), port, top) as server:
        tell(server.address)
        say("Ctrl-C ends it.")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return 0
    return 0

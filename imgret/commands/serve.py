"""imgret serve: a page that shows the classes of a dropped image."""

from __future__ import annotations

from pathlib import Path

import click

from imgret.command import Command
from imgret.options import NamedPath
from imgret.ranges import WholeNumber
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
    "--port",
    type=WholeNumber(0, 65535),
    default=0,
    help="Port to listen on; by default any free one.",
)
@click.option(
    "--top",
    type=WholeNumber(min=1),
    default=5,
    show_default=True,
    help="Number of classes to show.",
)
def serve_command(run: Path, port: int, top: int) -> int:
    """Open a page on this machine that shows the classes that RUN predicts for a dropped image.

    Nothing is stored, and other machines cannot reach the page. Press Ctrl-C to end it.
    """
    from classify.predictor import Predictor
    from classify.server import PageServer

    with PageServer(Predictor.load(run), port, top) as server:
        tell(server.address)
        say("Press Ctrl-C to end it.")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return 0
    return 0

"""imgret serve: search over HTTP, and a page in the browser."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from imgret.command import Command
from imgret.galleries import existing_gallery
from imgret.options import OneOf, trust_option, trusted
from imgret.path_types import FolderToWrite, GalleryPlace, NamedPath
from imgret.ranges import WholeNumber
from imgret.streams import say, tell
from retrieval.files import is_a_file, is_a_folder
from retrieval.milvus import ServedAddress

if TYPE_CHECKING:
    from imgret.server import Tokens

DEFAULT_PORT = 8000
TOKEN_VARIABLE = "IMGRET_TOKEN"  # noqa: S105  its name
GALLERY_PATH = GalleryPlace(path_type=Path, stores=True)
NAMED_GALLERY = re.compile(r"([A-Za-z0-9_-]{1,64})=(.+)", re.DOTALL)
ORIGIN = re.compile(r"https?://[^/?#@\s]+")


@click.command(
    "serve",
    cls=Command,
    epilog="""\b
Examples:
  imgret serve --open
  imgret serve cars=cars/.imgret parts=parts/.imgret --port 9000
  imgret serve --model runs/parts --open
  IMGRET_TOKEN=$(openssl rand -hex 24) imgret serve --host 0.0.0.0
""",
)
@click.argument("galleries", metavar="[GALLERY | NAME=GALLERY]...", nargs=-1)
@trust_option
@click.option(
    "--model",
    type=NamedPath(path_type=Path),
    metavar="RUN",
    help="Also tell classes, by a run of `imgret train`.",
)
@click.option(
    "--port",
    type=WholeNumber(0, 65535),
    default=DEFAULT_PORT,
    show_default=True,
    help="Port to listen on; 0 takes any free one.",
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on. Any but this machine's own needs a token.",
)
@click.option(
    "--token-file",
    type=NamedPath(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Let in who has a token: lines such as `read-only TOKEN` or `read-write TOKEN`. The "
    f"variable {TOKEN_VARIABLE} holds one more, which may write.",
)
@click.option(
    "--uploads",
    type=FolderToWrite(),
    metavar="FOLDER",
    help="Store and index pictures that are sent, in this folder.",
)
@click.option("--read-only", is_flag=True, help="Change nothing, whatever the token.")
@click.option("--allow-urls", is_flag=True, help="Fetch pictures from public web addresses.")
@click.option(
    "--allow-origin",
    multiple=True,
    metavar="ORIGIN",
    help="Let pages of this site ask, such as https://example.com. May be repeated.",
)
@click.option(
    "--log-format",
    type=OneOf(["text", "json"]),
    default="text",
    show_default=True,
    help="Format of the line that is logged for each request.",
)
@click.option("--open", "opens", is_flag=True, help="Open the page in the browser.")
@click.option("--debug", is_flag=True, help="Tell with each answer how long it took.")
def serve_command(
    galleries: tuple[str, ...],
    model: Path | None,
    port: int,
    host: str,
    token_file: Path | None,
    allow_origin: tuple[str, ...],
    opens: bool,
    **options: Any,
) -> int:
    """Search galleries over HTTP and on a page in the browser.

    Without GALLERY that of the working directory is served. Only this machine can reach the
    service, unless --host says otherwise. Press Ctrl-C to end it.
    """
    for origin in allow_origin:
        if not ORIGIN.fullmatch(origin):
            raise click.UsageError(
                f"{origin!r} is not an origin. Write it like https://example.com, without a path."
            )
    begins = options["uploads"] is not None and not options["read_only"]
    named = _named(galleries, model, begins=begins)
    from imgret.server import ServiceOptions, run_service
    from imgret.server.options import LOOPBACK

    tokens = _tokens(token_file)
    if host not in LOOPBACK and not tokens:
        raise click.UsageError(
            f"--host {host} lets other machines in, so a token is needed. Set {TOKEN_VARIABLE}, or "
            "give --token-file."
        )

    def started(address: str) -> None:
        tell(address)
        say("Press Ctrl-C to end it.")
        if opens:
            click.launch(address)

    asked = ServiceOptions(
        galleries=named, trust=trusted(), model=model, host=host, tokens=tokens,
        origins=allow_origin, **options,
    )  # fmt: skip
    run_service(asked, port, started)
    return 0


def _named(
    galleries: tuple[str, ...], model: Path | None, *, begins: bool
) -> Mapping[str, Path | str]:
    """Return the galleries by name; that of the working directory where none is given.

    begins: whether it may be one that is not there yet. Raises UsageError for what is a run, or
    for a name that is given twice.
    """
    from retrieval.errors import GalleryError

    if not galleries:
        variable = os.environ.get("IMGRET_GALLERY")
        try:
            place = existing_gallery(
                GALLERY_PATH.convert(variable, None, None) if variable else None
            )
        except GalleryError:
            if model is not None and not begins:
                return {}
            if not begins:
                raise
            place = Path.cwd() / ".imgret"
        if isinstance(place, str):
            return {ServedAddress.parse(place).name: place}
        return {place.resolve().parent.name if place.name == ".imgret" else place.stem: place}
    found: dict[str, Path | str] = {}
    for given in galleries:
        parts = None if Path(given).exists() else NAMED_GALLERY.fullmatch(given)
        text = parts[2] if parts else given
        place = existing_gallery(GALLERY_PATH.convert(text, None, None))
        own = ServedAddress.parse(place).name if isinstance(place, str) else place.stem.lstrip(".")
        name = parts[1] if parts else own or "gallery"
        if isinstance(place, str):
            pass  # it is looked at when it is opened
        elif is_a_file(place / "config.json") and not is_a_folder(place / "images.lance"):
            raise click.UsageError(
                f"{place} is a run of `imgret train`, not a gallery. Write `imgret serve --model "
                f"{place}`."
            )
        if name in found:
            raise click.UsageError(f"Two galleries are called {name}. Write NAME=GALLERY for one.")
        found[name] = place
    return found


def _tokens(file: Path | None) -> Tokens:
    from imgret.server import Tokens

    tokens = Tokens.read(file) if file else Tokens()
    value = os.environ.get(TOKEN_VARIABLE)
    return tokens + Tokens.of([(value, "read-write")]) if value else tokens

"""What `-` stands for: names of images on standard input, or one image itself.

An image is known by its first bytes, as everywhere. It is kept in a file of its own while it is
searched by, since a query is a file; who reads the results sees `-`.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from retrieval.errors import ImageError, QueryError
from retrieval.objects import place_of

HERE = Path("-")
HEAD = 4096  # bytes that tell a list of names from something else
NOISE = re.compile(rb"[\x00-\x08\x0e-\x1f\x7f]")


@contextlib.contextmanager
def named_images(images: Sequence[str]) -> Iterator[tuple[list[Path], Path]]:
    """Return the paths that arguments name, with `-`, and the path of an image given by `-`.

    Raises QueryError when standard input is neither an image nor a list of names, or too large.
    """
    with tempfile.TemporaryDirectory(prefix="imgret-") as folder:
        given = Path(folder) / "query"
        names: list[Path] = []
        for image in images:
            names += _of_standard_input(given) if image == "-" else [place_of(image)]
        try:
            yield names, given
        except ImageError as error:
            raise ImageError(str(error).replace(str(given), str(HERE))) from error


def shown(query: Path, given: Path) -> Path:
    """Return a query's name (or several), with `-` for the image from standard input."""
    text = str(query)
    return Path(text.replace(str(given), str(HERE))) if str(given) in text else query


def _of_standard_input(given: Path) -> list[Path]:
    from retrieval.images import sniff

    content = _read()
    if sniff(content[:64]):
        given.write_bytes(content)
        return [given]
    names = [_place(name) for name in _names(content)]
    if not (names and _is_there(names[0])):
        _check_names(content[:HEAD])
    return names


def _place(name: str) -> Path:
    try:
        return place_of(name)
    except ValueError as error:
        raise QueryError(
            f"{error}, on standard input. Give names of files or such addresses."
        ) from error


def _is_there(name: Path) -> bool:
    try:
        return name.exists()
    except OSError:  # too long for a name
        return False


def _check_names(head: bytes) -> None:
    """Raise QueryError for a file of a format that is not read, and for noise.

    Two NULs in a row are noise: no name is empty.
    """
    from retrieval.images.formats import unread_content

    what = unread_content(head)
    if what:
        what = f"a {what} file, which imgret does not read"
    elif b"\0\0" in head or NOISE.search(head.replace(b"\0", b"")):
        what = "neither an image that imgret reads nor a list of names"
    if what:
        raise QueryError(
            f"Standard input is {what}. Give an image, or names of images, one per line or each "
            "ended by NUL."
        )


def _read() -> bytes:
    from retrieval.images import MAX_FILE_BYTES

    content = sys.stdin.buffer.read(MAX_FILE_BYTES + 1) if sys.stdin else b""
    if len(content) > MAX_FILE_BYTES:
        raise QueryError(
            f"Standard input is larger than {MAX_FILE_BYTES >> 30} GiB. Give less, or name files."
        )
    return content


def _names(content: bytes) -> list[str]:
    """Split names, which may hold any bytes but the one that ends them."""
    text = os.fsdecode(content)
    if "\0" in text:
        return [name for name in text.split("\0") if name]
    return [name for line in text.split("\n") if (name := line.removesuffix("\r"))]

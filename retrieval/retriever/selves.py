"""Which files the queries of a search are, so that their own rows can be left out."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from retrieval.errors import ImageError, QueryError
from retrieval.gallery import Gallery
from retrieval.images import as_sent, read_bytes
from retrieval.objects import place_of
from retrieval.retriever.left_out import LeftOut


def as_files(queries: Sequence[Any]) -> list[str | os.PathLike[str] | bytes]:
    """Return queries as paths or as the bytes of their files, each read once.

    Raises QueryError for one that is pixels, of which nobody knows the file, and ImageError for a
    file that cannot be read. What is no picture stays as it is.
    """
    return [_as_file(query) for query in queries]


def _as_file(query: Any) -> str | os.PathLike[str] | bytes:
    try:
        sent = as_sent(query)
    except ImageError as error:
        raise ImageError(f"The query image: {error}") from error
    if isinstance(sent, np.ndarray | Image.Image):
        raise QueryError(
            "exclude_self needs the query's file, which pixels do not tell. Give a path or the "
            "bytes of an image file."
        )
    return bytes(sent) if isinstance(sent, bytearray | memoryview) else sent


def own_files(gallery: Gallery, files: Sequence[str | os.PathLike[str] | bytes]) -> list[LeftOut]:
    """Return what tells the rows of each file: of bytes the content alone. Raises ImageError."""
    return [_own(gallery, file) for file in files]


def _own(gallery: Gallery, file: str | os.PathLike[str] | bytes) -> LeftOut:
    if isinstance(file, bytes):
        return LeftOut(contents=[hashlib.sha256(file).hexdigest()])
    path = place_of(file)
    return own_file(gallery, path, hashlib.sha256(read_bytes(path)[0]).hexdigest())


def own_file(gallery: Gallery, path: Path, sha256: str) -> LeftOut:
    """Return what tells the rows of a file that was read: its place, or its content."""
    return LeftOut(paths=[gallery.stored(path.absolute())], contents=[sha256])


def of_any_file(parts: Sequence[LeftOut]) -> LeftOut:
    """Return what any of some files leaves out."""
    return LeftOut(
        paths=frozenset(path for part in parts for path in part.paths),
        contents=frozenset(sha256 for part in parts for sha256 in part.contents),
    )

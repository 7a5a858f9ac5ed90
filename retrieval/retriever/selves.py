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
from retrieval.gallery import FileIdentity, Gallery
from retrieval.images import as_sent, read_bytes
from retrieval.objects import place_of


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


def identities(
    gallery: Gallery, files: Sequence[str | os.PathLike[str] | bytes]
) -> list[FileIdentity]:
    """Return what tells the rows of each file: of bytes the content alone. Raises ImageError."""
    return [_identity(gallery, file) for file in files]


def _identity(gallery: Gallery, file: str | os.PathLike[str] | bytes) -> FileIdentity:
    if isinstance(file, bytes):
        return FileIdentity("", len(file), hashlib.sha256(file).hexdigest())
    path = place_of(file)
    content = read_bytes(path)[0]
    return identity_of(gallery, path, len(content), hashlib.sha256(content).hexdigest())


def identity_of(gallery: Gallery, path: Path, size: int, sha256: str) -> FileIdentity:
    """Return what tells the rows of a file that was read: its place, or its content."""
    return FileIdentity(gallery.stored(path.absolute()), size, sha256)

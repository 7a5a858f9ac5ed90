"""Files -> a hash of their upright RGB pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from PIL import Image

from retrieval.errors import ImageError
from retrieval.images import open_image, read_bytes
from retrieval.loader import TOO_SLOW, default_workers
from retrieval.retriever.results import Progress
from retrieval.threads import map_ahead

STRIP_PIXELS = 1 << 20


def hash_pixels(picture: Image.Image) -> str:
    """SHA-256 of a picture's width, height and 8-bit RGB pixels, hex; read strip by strip."""
    digest = hashlib.sha256(f"{picture.width} {picture.height} ".encode())
    rows = max(1, STRIP_PIXELS // picture.width)
    for top in range(0, picture.height, rows):
        bottom = min(picture.height, top + rows)
        digest.update(picture.crop((0, top, picture.width, bottom)).tobytes())
    return digest.hexdigest()


def hash_files(
    files: Sequence[tuple[Path, str]], *, max_pixels: int, progress: Progress | None = None
) -> list[tuple[str, str | None]]:
    """For each file its pixels' hash and None, or "" and why it cannot be used.

    files: path and SHA-256 of the content that was indexed. They are decoded whole, one a core at
    a time, with the limits that indexing has. What is transparent lies on white, as in indexing.
    """
    hash_file = partial(_hash_file, max_pixels=max_pixels)
    found = []
    with closing(map_ahead(hash_file, files, late=_late, workers=default_workers())) as hashes:
        for hashed in hashes:
            found.append(hashed)
            if progress:
                progress("decoding", len(found), len(files))
    return found


def _late(_: tuple[Path, str]) -> tuple[str, str | None]:
    return "", TOO_SLOW


def _hash_file(file: tuple[Path, str], *, max_pixels: int) -> tuple[str, str | None]:
    path, sha256 = file
    try:
        data, _ = read_bytes(path)
        if hashlib.sha256(data).hexdigest() != sha256:
            return "", "changed since it was indexed"
        return hash_pixels(open_image(data, max_pixels=max_pixels)[0]), None
    except ImageError as error:
        return "", str(error)

"""Images of a gallery, and their files, of which only what was indexed is read."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retrieval.errors import GalleryError, ImageError
from retrieval.images import file_budget, read_bytes
from retrieval.images.formats import may_be_inside
from retrieval.plain import Plain
from retrieval.retriever.snapshot import Snapshot

KNOWN_OF_IMAGES = (
    "id", "path", "root", "label", "width", "height", "size", "mtime_ns", "sha256", "error",
    "facts",
)  # fmt: skip


@dataclass(frozen=True)
class GalleryImage(Plain):
    """One image of a gallery.

    path: its file. root: the folder that it was found below, or itself. width, height: upright, in
    pixels. size: bytes. modified_ns: when the file was changed, since 1970. sha256: of its content,
    hex. format: such as "JPEG". outside: as in Match.
    """

    id: int
    path: Path
    root: Path
    label: str | None
    width: int
    height: int
    size: int
    modified_ns: int
    sha256: str
    format: str
    outside: bool


def images_of(state: Snapshot, ids: np.ndarray) -> Mapping[int, GalleryImage]:
    """Return what is known of the usable images among (n,) ids."""
    found = {}
    for row in state.rows_of(ids, KNOWN_OF_IMAGES):
        if row["error"] is None:
            found[row["id"]] = GalleryImage(
                id=row["id"],
                path=state.gallery.full(row["path"]),
                root=state.gallery.full(row["root"]),
                label=row["label"],
                width=row["width"],
                height=row["height"],
                size=row["size"],
                modified_ns=row["mtime_ns"],
                sha256=row["sha256"],
                format=(row["facts"] or {}).get("format") or "",
                outside=state.leads_outside(row["path"]),
            )
    return found


def read_original(state: Snapshot, image: GalleryImage) -> bytes:
    """Read an image's file. Raises ImageError where it is gone, is elsewhere, or is another now.

    Links are followed, but not out of the folder that holds the gallery or that was indexed.
    """
    try:
        place = image.path.resolve(strict=not may_be_inside(image.path))
        inside = [state.gallery.base]
        if not image.outside and state.table.is_ours:
            inside.append(image.root.resolve())
    except (OSError, RuntimeError, ValueError, GalleryError) as error:
        raise ImageError("its file is not there; index its folder again") from error
    if image.outside or not any(place.is_relative_to(folder) for folder in inside):
        raise ImageError("its file lies outside of the folder that was indexed; index it there")
    with file_budget().holding(image.size):
        content = read_bytes(place)[0]
        if len(content) != image.size or hashlib.sha256(content).hexdigest() != image.sha256:
            raise ImageError("its file has changed since it was indexed; index its folder again")
        return content

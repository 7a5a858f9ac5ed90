"""A gallery's rows -> the files that are still what was indexed, best to keep first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.files import modified_ns
from retrieval.gallery import Gallery, facts_of
from retrieval.gallery.filter import INDEXED, Filter
from retrieval.gallery.rows import as_matrix
from retrieval.images import PictureFacts
from retrieval.images.formats import os_reason

STORED_COLUMNS = (
    "id", "path", "size", "mtime_ns", "sha256", "width", "height", "label", "facts", "embedding"
)  # fmt: skip
UNKNOWN = PictureFacts()


@dataclass(frozen=True, slots=True)
class StoredImage:
    """One file, as its row describes it."""

    path: Path
    sha256: str
    width: int
    height: int
    size: int
    label: str | None
    gallery: Path
    facts: PictureFacts

    @property
    def keep_order(self) -> tuple[bool, int, int, bool, int, int, str]:
        """Sorts the image to keep first: a raw, the most pixels, depth, transparency, frames,
        bytes; then by path."""
        f = self.facts
        pixels = self.width * self.height
        return (
            f.format != "RAW",
            -pixels,
            -f.depth,
            not f.alpha,
            -f.frames,
            -self.size,
            str(self.path),
        )


@dataclass(frozen=True)
class StoredImages:
    """Files in the order in which one would keep them, and their raw embeddings.

    embeddings: (n, d) float16. failures: path and reason of the files that were left out.
    """

    images: list[StoredImage]
    embeddings: np.ndarray
    failures: list[tuple[str, str]]


def read_stored(gallery: Gallery, where: Filter | None = None) -> StoredImages:
    """Read the images of a gallery whose files exist and have not changed.

    Of several names of one file (links) one is kept, and of these one that is no symbolic link:
    such names are no duplicates, and deleting one could take the other's content away.
    where: which rows to look at. Raises GalleryError.
    """
    table = gallery.open_table()
    gallery.check_followable(table)
    table.check_finite()
    passing = None if where is None else set(table.ids_passing(where).tolist())
    images: list[StoredImage] = []
    vectors = [np.empty((0, table.dim), np.float16)]
    failures: list[tuple[str, str]] = []
    names: dict[tuple[int, int], int] = {}
    for batch in table.batches(STORED_COLUMNS, INDEXED):
        rows = batch.drop_columns(["embedding"]).to_pylist()
        kept = [
            place
            for place, row in enumerate(rows)
            if (passing is None or row["id"] in passing)
            and _is_kept(gallery, row, images, names, failures)
        ]
        vectors.append(as_matrix(batch["embedding"])[kept])
    return _in_keep_order(images, np.concatenate(vectors), sorted(names.values()), failures)


def _is_kept(
    gallery: Gallery,
    row: dict[str, Any],
    images: list[StoredImage],
    names: dict[tuple[int, int], int],
    failures: list[tuple[str, str]],
) -> bool:
    """Append a row to images unless its file is gone or changed; names: file -> its image."""
    path = gallery.full(row["path"])
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        failures.append((str(path), os_reason(error)))
        return False
    if (status.st_size, modified_ns(status)) != (row["size"], row["mtime_ns"]):
        failures.append((str(path), "changed since it was indexed"))
        return False
    file = status.st_dev, status.st_ino
    if file not in names or images[names[file]].path.is_symlink():
        names[file] = len(images)
    images.append(
        StoredImage(
            path, row["sha256"], row["width"], row["height"], row["size"], row["label"],
            gallery.path, facts_of(row["facts"]) or UNKNOWN,
        )
    )  # fmt: skip
    return True


def _in_keep_order(
    images: Sequence[StoredImage],
    embeddings: np.ndarray,
    kept: Sequence[int],
    failures: list[tuple[str, str]],
) -> StoredImages:
    order = sorted(kept, key=lambda place: images[place].keep_order)
    return StoredImages([images[i] for i in order], embeddings[np.array(order, np.int64)], failures)

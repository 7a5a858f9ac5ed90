"""A gallery's rows -> the files that are still what was indexed, best to keep first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.evaluation.protocols import content_codes
from retrieval.gallery import Gallery, ImageTable, facts_of
from retrieval.gallery.block import Column
from retrieval.gallery.filter import Filter
from retrieval.images import PictureFacts
from retrieval.images.formats import file_facts, os_reason
from retrieval.objects import place_of

STORED_COLUMNS: tuple[Column, ...] = (
    "id", "path", "size", "mtime_ns", "sha256", "width", "height", "label", "facts"
)  # fmt: skip
UNKNOWN = PictureFacts()
IMAGES_READ = 4096  # at a time
FEW_OF_ALL = 0.1  # share of all rows that are taken alone; of more, all rows are read


@dataclass(frozen=True, slots=True)
class StoredImage:
    """One file, as its row describes it. name: its full path, which is smaller as text."""

    name: str
    sha256: str
    width: int
    height: int
    size: int
    label: str | None
    gallery: Path
    facts: PictureFacts

    @property
    def path(self) -> Path:
        """The full path."""
        return place_of(self.name)

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
            self.name,
        )


@dataclass(frozen=True)
class StoredImages:
    """Files of one gallery in the order in which one would keep them.

    rows: (n,) int64, the place of each among the usable rows of the table. ids: (n,) int64, theirs.
    compared: how many files were looked at, with those whose content occurs only once. failures:
    path and reason of the files that were left out.
    """

    table: ImageTable
    images: list[StoredImage]
    rows: np.ndarray
    ids: np.ndarray
    compared: int
    failures: list[tuple[str, str]]


def read_stored(gallery: Gallery, table: ImageTable, where: Filter | None = None) -> StoredImages:
    """Read the images of a gallery whose files exist and have not changed; no embedding.

    Of several names of one file (links) one is kept, and of these one that is no symbolic link:
    such names are no duplicates, and deleting one could take the other's content away.
    where: which rows to look at. Raises GalleryError.
    """
    gallery.check_followable(table)
    table.check_finite()
    passing = None if where is None else np.unique(table.ids_passing(where))
    files, first = _Files(gallery), 0
    for block in table.blocks(*STORED_COLUMNS):
        ids = block.ids
        wanted = np.arange(len(ids))
        if passing is not None:
            wanted = np.flatnonzero(_is_among(ids, passing))
        if len(wanted):
            files.add(block.at(wanted).as_dicts(), first + wanted)
        first += len(ids)
    return files.in_keep_order(table)


def read_repeated(
    galleries: Sequence[Gallery], tables: Sequence[ImageTable], wheres: Sequence[Filter | None]
) -> list[StoredImages]:
    """Read, as read_stored() does, only images whose content occurs twice or more.

    galleries: one, or two that are held against each other: then what occurs in both. Only columns
    are read, and no file is looked at whose content occurs once. tables: theirs, opened and leased.
    Raises GalleryError.
    """
    for gallery, table in zip(galleries, tables, strict=True):
        gallery.check_followable(table)
    columns = [_contents(*each) for each in zip(tables, wheres, strict=True)]
    repeated = _repeated([codes for _, codes in columns])
    found = []
    for gallery, table, (places, codes) in zip(galleries, tables, columns, strict=True):
        files = _Files(gallery)
        wanted = places[np.isin(codes, repeated)]
        for at, rows in _rows_at(table, wanted):
            files.add(rows, at)
        files.alone = len(places) - len(wanted)
        found.append(files.in_keep_order(table))
    return found


def _contents(table: ImageTable, where: Filter | None) -> tuple[np.ndarray, np.ndarray]:
    """Places in the table of the usable rows that pass a filter, and numbers of their contents."""
    passing = None if where is None else np.unique(table.ids_passing(where))
    places, codes, first = [np.empty(0, np.int64)], [np.empty(0, np.int64)], 0
    for block in table.blocks("id", "sha256", "error", where=None):
        wanted = ~block.failed
        if passing is not None:
            wanted = wanted & _is_among(block.ids, passing)
        kept = np.flatnonzero(wanted)
        places.append(first + kept)
        codes.append(content_codes(block.at(kept).contents))
        first += len(block)
    return np.concatenate(places), np.concatenate(codes)


def _is_among(ids: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Which ids are among many sorted ones; np.isin() would sort those for every batch."""
    if not len(known):
        return np.zeros(len(ids), bool)
    return np.asarray(known[np.minimum(np.searchsorted(known, ids), len(known) - 1)] == ids)


def _repeated(contents: Sequence[np.ndarray]) -> np.ndarray:
    """Sorted numbers that occur twice in one gallery, or in both of two."""
    if len(contents) > 1:
        return np.intersect1d(contents[0], contents[1])
    numbers, counts = np.unique(contents[0], return_counts=True)
    return numbers[counts > 1]


def _rows_at(
    table: ImageTable, places: np.ndarray
) -> Iterator[tuple[np.ndarray, list[dict[str, Any]]]]:
    """Rows by their ascending places in the table, some thousand at a time; few are taken alone."""
    if len(places) <= FEW_OF_ALL * table.count():
        for start in range(0, len(places), IMAGES_READ):
            part = places[start : start + IMAGES_READ]
            yield part, table.take(part.tolist(), STORED_COLUMNS)
        return
    for place, rows, block in table.blocks_of(places, *STORED_COLUMNS, where=None):
        yield places[place], block.at(rows).as_dicts()


class _Files:
    """The files of one gallery that are there and unchanged, as they are read.

    alone: how many more there are that need not be looked at.
    """

    def __init__(self, gallery: Gallery) -> None:
        self._gallery = gallery
        self._images: list[StoredImage] = []
        self._rows: list[int] = []
        self._ids: list[int] = []
        self._failures: list[tuple[str, str]] = []
        self._names: dict[int, int] = {}  # file -> its image
        self._labels: dict[str | None, str | None] = {}  # one string for all rows of a label
        self.alone = 0

    def add(self, rows: Sequence[dict[str, Any]], places: np.ndarray) -> None:
        """Take in the rows at some places, but for those whose file is gone or has changed."""
        for row, place in zip(rows, places.tolist(), strict=True):
            path = self._gallery.full(row["path"])
            file = self._file(path, row)
            if file is None:
                continue
            if file not in self._names or self._images[self._names[file]].path.is_symlink():
                self._names[file] = len(self._images)
            self._images.append(self._image(path, row))
            self._rows.append(place)
            self._ids.append(row["id"])

    def in_keep_order(self, table: ImageTable) -> StoredImages:
        """Give one image a file, the one to keep first."""
        kept = sorted(self._names.values())
        self._names.clear()
        order = sorted(kept, key=lambda place: self._images[place].keep_order)
        return StoredImages(
            table,
            [self._images[place] for place in order],
            np.array(self._rows, np.int64)[order],
            np.array(self._ids, np.int64)[order],
            len(order) + self.alone,
            self._failures,
        )

    def _file(self, path: Path, row: dict[str, Any]) -> int | None:
        try:
            facts = file_facts(path)
        except (OSError, ValueError) as error:
            self._failures.append((str(path), os_reason(error)))
            return None
        if not facts.are_of(row["size"], row["mtime_ns"]):
            self._failures.append((str(path), "changed since it was indexed"))
            return None
        return facts.number

    def _image(self, path: Path, row: dict[str, Any]) -> StoredImage:
        label = row["label"]
        return StoredImage(
            str(path), row["sha256"], row["width"], row["height"], row["size"],
            self._labels.setdefault(label, label), self._gallery.path,
            facts_of(row["facts"]) or UNKNOWN,
        )  # fmt: skip

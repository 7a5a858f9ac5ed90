"""The plan of a run that several processes do: plans/<run>.lance, written before any of the work.

A row stands for one file and has the id that its row in the table gets. A part is some rows that
follow each other, so a worker is told no more than where its part begins and ends. What of a plan
is done, the table tells: who takes over from a killed run plans what has no row yet.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow as pa

from retrieval.files import delete, make_folder, new_folder
from retrieval.gallery.dataset import (
    LANCE_ERRORS,
    damage_as_gallery_errors,
    dataset_at,
    unwritten,
    write_dataset,
)
from retrieval.gallery.rows import storable
from retrieval.objects import place_of

PLANS = "plans"  # a folder of the gallery
ROWS_WRITTEN = 1 << 14  # at a time
_SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        pa.field("part", pa.int32(), nullable=False),
        pa.field("file", pa.binary(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("root", pa.string(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("mtime_ns", pa.int64(), nullable=False),
        pa.field("label", pa.string()),
        pa.field("error", pa.string()),
        pa.field("etag", pa.string()),
        pa.field("is_stored", pa.bool_(), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """A file that is to be read.

    id: of its row. part: the number of its part. file: where it is; path, root: as they are stored.
    size: bytes. mtime_ns, label: of the file. error: why it cannot be read, where that is known.
    etag: of an object or a shard.
    is_stored: whether there is a row of its path already.
    """

    id: int
    part: int
    file: Path
    path: str
    root: str
    size: int
    mtime_ns: int
    label: str | None
    error: str | None
    etag: str | None
    is_stored: bool

    @property
    def label_set(self) -> bool:
        """Return False: nobody has set the label of a file that has no row yet."""
        return False


@dataclass(frozen=True)
class PlanFile:
    """A plan on the disk. path: its folder."""

    path: Path

    @classmethod
    def write(cls, gallery: Path, files: Iterable[PlannedFile]) -> PlanFile:
        """Write the plan of a new run below the folder of a gallery, in place of all others there.

        Raises GalleryWriteError.
        """
        plans = gallery / PLANS
        delete(plans)  # of runs that were killed: there is one writer
        path = plans / f"{secrets.token_hex(8)}.lance"
        reader = pa.RecordBatchReader.from_batches(_SCHEMA, _batches(files))
        try:
            make_folder(plans)
            with new_folder(path) as making:
                write_dataset(reader, making)
        except LANCE_ERRORS as error:
            raise unwritten(path, error, is_new=True) from error
        return cls(path)

    def files(self, start: int, end: int) -> list[PlannedFile]:
        """Read the files at the places from start to end. Raises GalleryError if it is damaged."""
        with damage_as_gallery_errors(self.path):
            rows = dataset_at(self.path).to_table(offset=start, limit=end - start)
            return [
                PlannedFile(**{**row, "file": place_of(os.fsdecode(row["file"]))})
                for row in rows.to_pylist()
            ]

    def delete(self) -> None:
        """Delete the plan and the folder of plans."""
        delete(self.path.parent)


def _batches(files: Iterable[PlannedFile]) -> Iterator[pa.RecordBatch]:
    left = iter(files)
    while rows := list(islice(left, ROWS_WRITTEN)):
        columns = {
            field.name: pa.array([_value(row, field.name) for row in rows], field.type)
            for field in _SCHEMA
        }
        yield pa.RecordBatch.from_pydict(columns, _SCHEMA)


def _value(row: PlannedFile, name: str) -> object:
    return os.fsencode(row.file) if name == "file" else storable(getattr(row, name))

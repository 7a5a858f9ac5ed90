"""How many rows have each label, lie in each folder, and are of each month and size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

FILE_NAME = "/?[^/]*$"
SIZE_CLASSES = (0, 100_000, 1_000_000, 10_000_000)  # the least bytes of each


@dataclass(frozen=True)
class Counts:
    """Numbers of rows by value.

    folders: as stored, or ".". months: such as "2026-11". sizes: by the least bytes of each of
    SIZE_CLASSES, also of those that no row has.
    """

    total: int
    labels: Mapping[str | None, int]
    folders: Mapping[str | None, int]
    months: Mapping[str, int]
    sizes: Mapping[int, int]


def counts_of(rows: pa.Table) -> Counts:
    """Count rows that have the columns label, path, mtime_ns and size."""
    folders = pc.replace_substring_regex(rows["path"], FILE_NAME, "")
    times = rows["mtime_ns"].to_numpy().view("datetime64[ns]").astype("datetime64[M]")
    months, images = np.unique(times, return_counts=True)
    return Counts(
        total=int(rows.num_rows),
        labels=_counted(rows["label"]),
        folders={folder or ".": n for folder, n in _counted(folders).items()},
        months=dict(zip(map(str, months), images.tolist(), strict=True)),
        sizes=_by_size(rows["size"].to_numpy()),
    )


def _by_size(sizes: np.ndarray) -> dict[int, int]:
    places = np.searchsorted(np.array(SIZE_CLASSES), sizes, "right") - 1
    counts = np.bincount(np.maximum(places, 0), minlength=len(SIZE_CLASSES))
    return dict(zip(SIZE_CLASSES, counts.tolist(), strict=True))


def _counted(column: pa.ChunkedArray) -> dict[str | None, int]:
    counts = pc.value_counts(column)
    pairs = zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True)
    return dict(pairs)

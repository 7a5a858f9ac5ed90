"""One row a path and one id a row, which a table that others wrote may lack."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from retrieval.errors import GalleryError
from retrieval.gallery.rows import Row, row_of
from retrieval.gallery.table import IDS_PER_VERSION, ROWS_A_READ, ImageTable

_log = logging.getLogger("imgret")


def make_distinct(table: ImageTable) -> None:
    """Give each path one row and each row its own id.

    Of rows of one path the last stays. Costs a look at the columns id and path.
    """
    columns = table.columns(["id", "path"])
    known_ids, paths = columns["id"].to_numpy(), columns["path"].to_pylist()
    last = {path: place for place, path in enumerate(paths)}
    known, counts = np.unique(known_ids, return_counts=True)
    wrong = set(known[(counts > 1) | (known < 0) | (known >= table.next_id)].tolist())
    wrong |= {int(known_ids[i]) for i, path in enumerate(paths) if last[path] != i}
    if not wrong:
        return
    kept = {path for path, place in last.items() if int(known_ids[place]) in wrong}
    _log.warning("%s: %d rows are given ids of their own.", table.path, len(kept))
    rows: dict[str, Row] = {}
    for batch in table.batches(table.column_names, None, rows=256):
        of_wrong = np.isin(batch["id"].to_numpy(), list(wrong))
        for row in batch.filter(pa.array(of_wrong)).to_pylist():
            if row["path"] in kept:
                rows[row["path"]] = row_of(row)
    _write_anew(table, list(rows.values()), wrong)
    table.remove(sorted(wrong))


def _write_anew(table: ImageTable, rows: Sequence[Row], taken: set[int]) -> None:
    """Commit rows under new ids, none of which is taken."""
    for start in range(0, len(rows), ROWS_A_READ):
        part = rows[start : start + ROWS_A_READ]
        free = (i for i in table.next_ids(IDS_PER_VERSION) if i not in taken)
        new = [replace(row, id=i) for i, row in zip(free, part, strict=False)]
        if len(new) < len(part):
            raise GalleryError(
                f"{table.path} has ids that imgret never assigns. Index the images into a new "
                "gallery."
            )
        table.write(new, replace=False)

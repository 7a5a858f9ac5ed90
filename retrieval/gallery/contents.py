"""Which rows have which content: found by SHA-256, at 36 bytes a row."""

from __future__ import annotations

import numpy as np
import pyarrow.compute as pc

from retrieval.gallery.reader import TableReader
from retrieval.gallery.stored_rows import ROWS_A_BATCH, StoredRows

NONE = np.empty(0, np.int32)


class Contents:
    """The SHA-256 of rows whose files could be read.

    rows: all of them. sums: (n,) S32 of some, in any order, without "". places: (n,) theirs.
    """

    def __init__(self, rows: StoredRows, sums: np.ndarray, places: np.ndarray) -> None:
        order = np.lexsort((places, sums))
        self.rows = rows
        self._sums, self._places = sums[order], places[order].astype(np.int32)

    @classmethod
    def none(cls) -> Contents:
        """Return the contents of no rows."""
        return cls(StoredRows.read(None), np.empty(0, "S32"), NONE)

    @classmethod
    def read(cls, table: TableReader, rows: StoredRows) -> Contents:
        """Read the contents of rows, read from this version of the table. Raises GalleryError."""
        digests, ids = [b""], [np.empty(0, np.int64)]
        for batch in table.batches(["id", "sha256"], None, rows=ROWS_A_BATCH):
            batch = batch.filter(pc.match_substring_regex(batch["sha256"], "^[0-9a-f]{64}$"))
            digests.append(bytes.fromhex("".join(batch["sha256"].to_pylist())))
            ids.append(batch["id"].to_numpy())
        sorter = np.argsort(rows.ids)
        places = np.searchsorted(rows.ids, np.concatenate(ids), sorter=sorter)
        return cls(rows, np.frombuffer(b"".join(digests), "S32"), sorter[places])

    def places(self, sha256: str) -> np.ndarray:
        """Return the (n,) places of the rows of a content, given in hex; none for ""."""
        if not sha256:
            return NONE
        wanted = np.array(bytes.fromhex(sha256), self._sums.dtype)
        start, end = (int(np.searchsorted(self._sums, wanted, side)) for side in ("left", "right"))
        return self._places[start:end]

    def by_place(self) -> np.ndarray:
        """Return (len(rows),) S32 sums of all rows, empty where the file could not be read."""
        sums = np.zeros(len(self.rows), "S32")
        sums[self._places] = self._sums
        return sums

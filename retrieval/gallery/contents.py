"""Which rows have which content: found by SHA-256, at 36 bytes a row; and what of it is stored."""

from __future__ import annotations

import numpy as np
import pyarrow.compute as pc

from retrieval.gallery.filter import INDEXED, Filter
from retrieval.gallery.reader import TableReader
from retrieval.gallery.stored_rows import ROWS_A_BATCH, StoredRows

NONE = np.empty(0, np.int32)
_HEX = "^[0-9a-f]{64}$"


class Contents:
    """The SHA-256 of rows whose files could be read.

    rows: all of them. sums: (n,) S32 of some, in any order, without "". places: (n,) int32 theirs.
    """

    def __init__(self, rows: StoredRows, sums: np.ndarray, places: np.ndarray) -> None:
        order = np.lexsort((places, sums))
        self.rows = rows
        self._sums, self._places = sums[order], places[order]

    @classmethod
    def none(cls) -> Contents:
        """Return the contents of no rows."""
        return cls(StoredRows.read(None), np.empty(0, "S32"), NONE)

    @classmethod
    def read(cls, table: TableReader, rows: StoredRows) -> Contents:
        """Read the contents of rows, read from this version of the table. Raises GalleryError."""
        digests, ids = bytearray(), bytearray()  # which grow in place: a list is held twice
        for batch in table.batches(["id", "sha256"], None, rows=ROWS_A_BATCH):
            batch = batch.filter(pc.match_substring_regex(batch["sha256"], _HEX))
            digests += bytes.fromhex("".join(batch["sha256"].to_pylist()))
            ids += batch["id"].to_numpy().data
        sorter = np.argsort(rows.ids).astype(np.int32)
        places = sorter[np.searchsorted(rows.ids, np.frombuffer(ids, np.int64), sorter=sorter)]
        return cls(rows, np.frombuffer(digests, "S32"), places)

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


class StoredContents:
    """The contents that rows of a table have, at 33 bytes each, for who needs no more of the rows.

    sums: (n,) S32, sorted, each once. usable: (n,) bool, whether a row of it has an embedding.
    """

    def __init__(self, sums: np.ndarray, usable: np.ndarray) -> None:
        self._sums, self._usable = sums, usable

    @classmethod
    def read(cls, table: TableReader) -> StoredContents:
        """Read the contents of all rows of a version. Raises GalleryError."""
        every, with_embedding = (_digests(table, where) for where in (None, INDEXED))
        return cls(every, np.isin(every, with_embedding))

    def holds(self, sha256: str) -> bool:
        """Tell whether any row has a content, given in hex; False for ""."""
        return self._place(sha256) is not None

    def holds_embedding(self, sha256: str) -> bool:
        """Tell whether a row with an embedding has a content, given in hex; False for ""."""
        place = self._place(sha256)
        return place is not None and bool(self._usable[place])

    def _place(self, sha256: str) -> int | None:
        if not sha256:
            return None
        wanted = np.array(bytes.fromhex(sha256), self._sums.dtype)
        place = int(np.searchsorted(self._sums, wanted))
        return place if place < len(self._sums) and self._sums[place] == wanted else None


def _digests(table: TableReader, where: Filter | None) -> np.ndarray:
    """The (n,) S32 of contents of rows, sorted, each once."""
    found = [np.empty(0, "S32")]
    for batch in table.batches(["sha256"], where, rows=ROWS_A_BATCH):
        read = batch.filter(pc.match_substring_regex(batch["sha256"], _HEX))
        found.append(np.frombuffer(bytes.fromhex("".join(read["sha256"].to_pylist())), "S32"))
    return np.unique(np.concatenate(found))

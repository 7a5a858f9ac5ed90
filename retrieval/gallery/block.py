"""Rows as those read them who know nothing of Arrow: a column is numpy's, or a list of text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, overload

import numpy as np
import pyarrow as pa

from retrieval.gallery.rows import DAMAGED_BEFORE, as_matrix, checksums, facts_of
from retrieval.images import PictureFacts

Column = Literal[
    "id", "path", "root", "size", "mtime_ns", "sha256", "width", "height", "label", "embedding",
    "error", "facts", "stored_ns", "checksum", "label_set",
]  # fmt: skip


class Texts(Sequence[str]):
    """A column of text of many rows, held as it is stored."""

    def __init__(self, column: Any) -> None:
        self._column = column

    def __len__(self) -> int:
        return len(self._column)

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> list[str]: ...
    def __getitem__(self, row: int | slice) -> str | list[str]:
        """Return the text of a row, or of some."""
        if isinstance(row, slice):
            return [str(text) for text in self._column[row].to_pylist()]
        return str(self._column[int(row)].as_py())


class Block:
    """Some rows, in the order in which they are stored, with the columns that were asked for.

    Reading another column raises KeyError.
    """

    def __init__(self, rows: pa.Table | pa.RecordBatch) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return int(self._rows.num_rows)

    @property
    def ids(self) -> np.ndarray:
        """The ids, (n,) int64."""
        return np.asarray(self._rows["id"].to_numpy())

    @property
    def paths(self) -> list[str]:
        """The stored paths."""
        return list(self._rows["path"].to_pylist())

    @property
    def path_texts(self) -> Texts:
        """The stored paths, for many rows of which few are asked for."""
        return Texts(self._rows["path"])

    @property
    def roots(self) -> list[str]:
        """The stored folder that each image was found below."""
        return list(self._rows["root"].to_pylist())

    @property
    def labels(self) -> list[str | None]:
        """The labels; None where there is none."""
        return list(self._rows["label"].to_pylist())

    @property
    def labels_set(self) -> np.ndarray:
        """Whether a user has set the label of each row, (n,) bool."""
        column = self._rows["label_set"].fill_null(False)  # noqa: FBT003  Arrow's
        return np.array(column, bool)

    @property
    def contents(self) -> list[str]:
        """The SHA-256 of each file, hex; "" where it was not read."""
        return list(self._rows["sha256"].to_pylist())

    @property
    def reasons(self) -> list[str]:
        """Why images have no embedding; "" for one that has."""
        return [reason or "" for reason in self._rows["error"].to_pylist()]

    @property
    def facts(self) -> list[PictureFacts | None]:
        """What is known of each picture."""
        return [facts_of(value) for value in self._rows["facts"].to_pylist()]

    @property
    def failed(self) -> np.ndarray:
        """Whether a row has a reason instead of an embedding, (n,) bool."""
        return _there(self._rows["error"])

    @property
    def embeddings(self) -> np.ndarray:
        """The embeddings, (n, d) float16. Raises GalleryError where a row has none."""
        return as_matrix(self._rows["embedding"])

    @property
    def checksums(self) -> np.ndarray:
        """The stored checksums, (n,) int64."""
        return np.asarray(self._rows["checksum"].to_numpy())

    @property
    def damaged(self) -> np.ndarray:
        """Rows with a wrong checksum or no finite embedding, or with no reason why: (n,) bool."""
        embeddings = self._rows["embedding"]
        there = _there(embeddings)
        wrong = checksums(self._rows) != self._rows["checksum"].to_numpy()
        finite = np.isfinite(as_matrix(embeddings.drop_null())).all(axis=1)
        wrong[np.flatnonzero(there)[~finite]] = True
        return np.asarray(wrong | ~(there | self.failed))

    @property
    def copied_damaged(self) -> np.ndarray:
        """Rows that were known to be damaged when they were written, (n,) bool."""
        return np.asarray(self._rows["checksum"].to_numpy() == DAMAGED_BEFORE)

    def value(self, name: Column, row: int) -> Any:
        """Return one value of a column."""
        return self._rows[name][row].as_py()

    def at(self, places: np.ndarray) -> Block:
        """Return the rows of (m,) places in this block."""
        return Block(self._rows.take(pa.array(places, pa.int64())))

    def as_dicts(self) -> list[dict[str, Any]]:
        """Return each row as a dict of what is stored."""
        return list(self._rows.to_pylist())

    def as_dicts_of(self, *names: Column) -> list[dict[str, Any]]:
        """Return some columns of each row as a dict."""
        return list(self._rows.select(list(names)).to_pylist())

    def count_distinct(self, name: Column) -> int:
        """Count the different values of a column."""
        return len(self._rows[name].unique())


def _there(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    valid = column.is_valid()
    return np.asarray(
        valid.to_numpy()
        if isinstance(valid, pa.ChunkedArray)
        else valid.to_numpy(zero_copy_only=False)
    )

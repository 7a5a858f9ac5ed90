"""images.lance: one row per image, changed by whole commits, read at any version.

A row's id stands for one embedding: it stays when a file was merely touched and is new when the
content is, and none is used twice. So an index is brought up to date by comparing ids alone.
"""

from __future__ import annotations

import contextlib
import shutil
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa

from retrieval.errors import GalleryError

IDS_PER_VERSION = 100_000  # more rows than one commit holds
FRAGMENTS_KEPT = 16
INDEXED = "embedding IS NOT NULL"
SETTINGS, TABLE = b"imgret.settings", b"imgret.table"
LANCE_ERRORS = (OSError, ValueError, RuntimeError, KeyError, pa.ArrowException)


@dataclass(frozen=True)
class Row:
    """One image as it is stored.

    path, root: relative to the folder that holds the gallery where they lie below it.
    size: bytes. mtime_ns: of the file. sha256: of its content, hex; "" where it was not read.
    width, height: upright, in pixels. embedding: (d,) float16, or None with the reason in error.
    """

    id: int
    path: str
    root: str
    size: int
    mtime_ns: int
    sha256: str = ""
    width: int = 0
    height: int = 0
    label: str | None = None
    embedding: np.ndarray | None = None
    error: str | None = None


class ImageTable:
    """The table at one version; writing moves it on to the version written."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    @classmethod
    def create(cls, path: Path, dim: int, settings: str) -> ImageTable:
        """A new, empty table for embeddings of width dim; whole or not there, whatever happens."""
        schema = _schema(dim, settings, uuid.uuid4().hex)
        making = path.with_name(f".{path.name}.making")
        shutil.rmtree(making, ignore_errors=True)
        lance.write_dataset(schema.empty_table(), str(making))
        making.rename(path)
        return cls(lance.dataset(str(path)))

    @classmethod
    def open(cls, path: Path, version: int | None = None) -> ImageTable:
        """The table at a version, by default its newest. Raises GalleryError when it is damaged."""
        with _damage_as_gallery_errors(path):
            table = cls(lance.dataset(str(path), version=version))
            table._check_schema()
        return table

    def frozen(self) -> ImageTable:
        """The table as it is now, whatever is written later."""
        return ImageTable(lance.dataset(self._dataset.uri, version=self.version))

    def _check_schema(self) -> None:
        found = self._dataset.schema
        if TABLE not in (found.metadata or {}):
            raise ValueError("it is not a table of imgret's")
        expected = _schema(self.dim, "", "")
        if {f.name: f.type for f in found} != {f.name: f.type for f in expected}:
            raise ValueError("its columns are not those of imgret's tables")

    @property
    def version(self) -> int:
        """Grows with every commit."""
        return int(self._dataset.version)

    @property
    def name(self) -> str:
        """Tells this table from another that was made in its place."""
        return str(self._dataset.schema.metadata[TABLE].decode())

    @property
    def settings(self) -> str:
        """The settings as they were last written, TOML."""
        return str(self._dataset.schema.metadata[SETTINGS].decode())

    @property
    def dim(self) -> int:
        """Width of an embedding."""
        kind = self._dataset.schema.field("embedding").type
        if not isinstance(kind, pa.FixedSizeListType):
            raise ValueError("its embeddings are no fixed-size lists")
        return int(kind.list_size)

    def count(self, where: str | None = None) -> int:
        """Rows, or those that a filter lets pass."""
        with _damage_as_gallery_errors(self._dataset.uri):
            return int(self._dataset.count_rows(filter=where))

    def write(self, rows: Sequence[Row], *, replace: bool) -> None:
        """Commit rows; with replace, a row takes the place of the one with the same path.

        Raises GalleryError when that fails, as on a full disk.
        """
        if not rows:
            return
        data = _to_arrow(rows, self._dataset.schema)
        try:
            if replace:
                merge = self._dataset.merge_insert("path")
                merge.when_matched_update_all().when_not_matched_insert_all().execute(data)
                self._dataset.checkout_latest()
            else:
                self._dataset.insert(data)
        except LANCE_ERRORS as error:
            raise GalleryError(
                f"{self._dataset.uri} cannot be written ({first_sentence(error)}). Free some space "
                "and run the same command again: it goes on where it stopped."
            ) from error

    def update(self, columns: dict[str, list[Any]]) -> None:
        """Commit new values of some columns; columns["id"] names the rows."""
        schema = pa.schema([self._dataset.schema.field(name) for name in columns])
        merge = self._dataset.merge_insert("id").when_matched_update_all()
        merge.execute(pa.table(columns, schema=schema))
        self._dataset.checkout_latest()

    def next_ids(self, n: int) -> range:
        """Ids for n rows that are to be written in one commit."""
        if n > IDS_PER_VERSION:
            raise ValueError(f"one commit holds {IDS_PER_VERSION} rows, not {n}")
        first = (self.version + 1) * IDS_PER_VERSION
        return range(first, first + n)

    def remove(self, ids: Sequence[int]) -> None:
        """Drop rows."""
        for start in range(0, len(ids), 5_000):
            chunk = ",".join(str(int(i)) for i in ids[start : start + 5_000])
            self._dataset.delete(f"id IN ({chunk})")

    def write_settings(self, settings: str) -> None:
        """Replace the settings that the table carries."""
        if settings != self.settings:
            metadata = {TABLE.decode(): self.name, SETTINGS.decode(): settings}
            self._dataset.update_schema_metadata(metadata, replace=True)

    def become(self, other: ImageTable) -> None:
        """Take over all rows and the settings of another table, in one commit."""
        source = other._dataset
        reader = pa.RecordBatchReader.from_batches(source.schema, source.to_batches())
        uri = self._dataset.uri
        self._dataset = lance.write_dataset(reader, uri, schema=source.schema, mode="overwrite")

    def compact(self) -> None:
        """Merge small pieces, once there are many."""
        stats = self._dataset.stats.dataset_stats(max_rows_per_group=1024)
        if stats["num_fragments"] > FRAGMENTS_KEPT or stats["num_deleted_rows"] > self.count() // 5:
            self._dataset.optimize.compact_files()
            self._dataset.checkout_latest()

    def drop_old_versions(self) -> None:
        """Delete what only older versions need; Lance by itself keeps all for weeks."""
        with contextlib.suppress(*LANCE_ERRORS):  # what cannot be deleted now goes next time
            self._dataset.cleanup_old_versions(
                older_than=timedelta(0), delete_unverified=True, error_if_tagged_old_versions=False
            )

    def columns(self, names: Sequence[str], where: str | None = None) -> pa.Table:
        """Whole columns, in the order in which rows are stored."""
        with _damage_as_gallery_errors(self._dataset.uri):
            return self._dataset.to_table(columns=list(names), filter=where)

    def ids_where(self, where: str) -> np.ndarray:
        """Ids of the rows that pass a filter. Raises what Lance raises where it is none."""
        return np.asarray(self._dataset.to_table(columns=["id"], filter=where)["id"].to_numpy())

    def take(self, offsets: Sequence[int], names: Sequence[str]) -> list[dict[str, Any]]:
        """Rows by their place in columns(), as dicts."""
        with _damage_as_gallery_errors(self._dataset.uri):
            return list(self._dataset.take(list(offsets), columns=list(names)).to_pylist())

    def rows_by_id(self, ids: np.ndarray, names: Sequence[str]) -> dict[int, dict[str, Any]]:
        """A few rows by their ids."""
        found = self.columns(names, f"id IN ({','.join(map(str, ids.tolist()))})")
        return {row["id"]: row for row in found.to_pylist()}

    def batches(
        self, names: Sequence[str], where: str | None = INDEXED, rows: int = 4096
    ) -> Iterator[pa.RecordBatch]:
        """All rows that pass the filter, a few thousand at a time."""
        with _damage_as_gallery_errors(self._dataset.uri):
            yield from self._dataset.to_batches(columns=list(names), filter=where, batch_size=rows)

    def embeddings(self, ids: np.ndarray | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Batches of (n,) int64 ids and their (n, d) float16 embeddings; all, or those of ids."""
        where = INDEXED
        if ids is not None and len(ids) <= 1_000:
            where += f" AND id IN ({','.join(map(str, [*ids.tolist(), -1]))})"
        for batch in self.batches(["id", "embedding"], where):
            found = batch["id"].to_numpy()
            vectors = as_matrix(batch["embedding"])
            if ids is not None:
                wanted = np.isin(found, ids)
                found, vectors = found[wanted], vectors[wanted]
            if len(found):
                yield found, vectors


@contextlib.contextmanager
def _damage_as_gallery_errors(path: Path | str) -> Iterator[None]:
    try:
        yield
    except LANCE_ERRORS as error:
        raise GalleryError(
            f"{path} cannot be read ({first_sentence(error)}). Bring it back from a backup, "
            "or delete the gallery's folder and index again."
        ) from error


def as_matrix(column: pa.Array) -> np.ndarray:
    """A column of embeddings without nulls as an (n, d) float16 array."""
    return column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)


def first_sentence(error: BaseException) -> str:
    """What a library said, without the places in its source."""
    return str(error).partition(", /")[0].partition("\n")[0].strip()[:300] or type(error).__name__


def _schema(dim: int, settings: str, name: str) -> pa.Schema:
    return pa.schema(
        [
            pa.field("id", pa.int64(), nullable=False),
            pa.field("path", pa.string(), nullable=False),
            pa.field("root", pa.string(), nullable=False),
            pa.field("size", pa.int64(), nullable=False),
            pa.field("mtime_ns", pa.int64(), nullable=False),
            pa.field("sha256", pa.string(), nullable=False),
            pa.field("width", pa.int32(), nullable=False),
            pa.field("height", pa.int32(), nullable=False),
            pa.field("label", pa.string()),
            pa.field("embedding", pa.list_(pa.float16(), dim)),
            pa.field("error", pa.string()),
        ],
        metadata={SETTINGS: settings.encode(), TABLE: name.encode()},
    )


def _to_arrow(rows: Sequence[Row], schema: pa.Schema) -> pa.Table:
    dim = schema.field("embedding").type.list_size
    empty = np.zeros(dim, np.float16)
    stacked = np.stack([empty if r.embedding is None else r.embedding for r in rows])
    missing = pa.array([r.embedding is None for r in rows])
    values = pa.array(stacked.astype(np.float16, copy=False).ravel())
    columns: list[pa.Array] = []
    for field in schema:
        if field.name == "embedding":
            columns.append(pa.FixedSizeListArray.from_arrays(values, dim, mask=missing))
        else:
            columns.append(pa.array([getattr(r, field.name) for r in rows], field.type))
    return pa.Table.from_arrays(columns, schema=schema)

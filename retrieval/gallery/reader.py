"""images.lance, read: whole columns, batches, single rows, at the version that is open."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from retrieval.gallery import compaction
from retrieval.gallery import rows as stored
from retrieval.gallery.block import Block, Column
from retrieval.gallery.counts import Counts, counts_of
from retrieval.gallery.dataset import changed, damage_as_gallery_errors
from retrieval.gallery.filter import INDEXED, Filter, with_ids
from retrieval.gallery.lease import Lease
from retrieval.gallery.places import places_of_few, rows_at
from retrieval.gallery.rows import ADDED, IDS_FROM, SETTINGS_KEY, TABLE, as_matrix
from retrieval.gallery.versions import (
    data_files_of,
    files_of,
    is_superseded,
    manifest_of,
    path_of_dataset,
)

FEW_OF, ROWS_TAKEN = 0.2, 4096  # of all rows are read alone; at a time
COLUMNS_EMBEDDED = ("id", "embedding")
ABSOLUTE = "^(/|[A-Za-z]:/|[a-z0-9]+://)"
FOLDER_OF_A_PATH = "(?s)^.*/"
_Rows = TypeVar("_Rows", pa.Table, pa.RecordBatch)


class TableReader:
    """The rows of one version. dataset: Lance's. Reads raise GalleryError where it is damaged."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        self._path = path_of_dataset(dataset)

    @property
    def path(self) -> Path:
        """The folder of the table."""
        return self._path

    @property
    def column_names(self) -> list[str]:
        """The names of all columns."""
        return list(self._dataset.schema.names)

    @property
    def version(self) -> int:
        """The version, which grows with every commit."""
        return int(self._dataset.version)

    @property
    def name(self) -> str:
        """A name that tells this table from another in its place."""
        return str(self._dataset.schema.metadata[TABLE].decode())

    @property
    def state_name(self) -> str:
        """A text that changes with every commit, and tells this table from others."""
        return f"{self.name[:8]}-{self.version}"

    @property
    def settings(self) -> str:
        """The settings as they were last written, in TOML."""
        return str(self._dataset.schema.metadata[SETTINGS_KEY].decode())

    @property
    def ids_from(self) -> int:
        """What is added to the ids that a version gives."""
        return int(self._dataset.schema.metadata.get(IDS_FROM, b"0"))

    @property
    def dim(self) -> int:
        """The width of an embedding."""
        kind = self._dataset.schema.field("embedding").type
        if not isinstance(kind, pa.FixedSizeListType):
            raise ValueError("its embeddings are not fixed-size lists")
        return int(kind.list_size)

    def lease(self) -> Lease:
        """Keep the files of this version, whatever others write: until release(), or for a `with`.

        Raises GalleryChangedError where they are gone already.
        """
        lease = Lease.take(manifest_of(self._path, self.version))
        if lease is None or is_superseded(self._path, self._dataset):
            raise changed(self._path)
        return lease

    def _reading(self) -> AbstractContextManager[None]:
        return damage_as_gallery_errors(self._path, self._dataset)

    def lacks(self, name: str) -> bool:
        """Tell whether the table is from before a column; then no row has anything in it."""
        return name in ADDED and name not in self.column_names

    def _there(self, names: Sequence[str]) -> list[str]:
        return [name for name in names if not self.lacks(name)]

    def _completed(self, rows: _Rows, names: Sequence[str]) -> _Rows:
        """Rows with empty columns for those that were asked for and are not there."""
        lacking = [name for name in ADDED if name in names and name not in rows.schema.names]
        for name in lacking:
            kind = stored.schema(1, "", "").field(name).type
            rows = rows.append_column(pa.field(name, kind), pa.nulls(rows.num_rows, kind))
        return rows.select(list(names)) if lacking else rows

    def count(self, where: Filter | None = None) -> int:
        """Count rows, or those that pass a filter."""
        with self._reading():
            return int(self._dataset.count_rows(filter=_in_sql(where)))

    def paths(self) -> list[str]:
        """Return the stored paths of all rows."""
        return self.block("path").paths

    def pieces(self) -> list[int]:
        """Return the numbers of the pieces that the table is written in."""
        return [fragment.fragment_id for fragment in self._dataset.get_fragments()]

    def blocks_of_piece(self, number: int, *names: Column, rows: int = 4096) -> Iterator[Block]:
        """Give the rows of one piece, all columns where none is named.

        Raises GalleryError if it is damaged.
        """
        with self._reading():
            fragment = self._dataset.get_fragment(number)
            yield from map(Block, fragment.to_batches(columns=[*names] or None, batch_size=rows))

    def rows_in_piece(self, number: int) -> int:
        """Count the rows of a piece, dropped ones included."""
        return int(self._dataset.get_fragment(number).metadata.physical_rows)

    def files_of_piece(self, number: int) -> list[Path]:
        """List the files that hold the rows of a piece."""
        return data_files_of(self._path, self._dataset.get_fragment(number))

    def files(self) -> list[Path]:
        """List the files that this version consists of."""
        return [manifest_of(self._path, self.version), *files_of(self._path, self._dataset)]

    @property
    def size_to_merge(self) -> int:
        """The bytes of the pieces that compacting everything writes anew."""
        found = compaction.complete(self._dataset, self.dim)
        return found.size(self._path) if found else 0

    def block(self, *names: Column, where: Filter | None = None) -> Block:
        """Return columns of all rows that pass a filter, in the order in which they are stored."""
        return Block(self.columns(names, where))

    def blocks(
        self, *names: Column, where: Filter | None = INDEXED, rows: int = 4096
    ) -> Iterator[Block]:
        """Give columns of all rows that pass a filter, a few thousand rows at a time."""
        return map(Block, self.batches(names, where, rows))

    def blocks_of(
        self, places: np.ndarray, *names: Column, where: Filter | None = INDEXED
    ) -> Iterator[tuple[slice, np.ndarray, Block]]:
        """Give the blocks in which some of the rows that pass a filter lie.

        places: (n,) of those rows among all that pass, ascending. Each block comes with the part of
        places that lies in it, and where these rows are in the block.
        """
        first = 0
        for block in self.blocks(*names, where=where):
            low, high = np.searchsorted(places, [first, first + len(block)])
            if high > low:
                yield slice(low, high), places[low:high] - first, block
            first += len(block)

    def ordered(
        self, name: Column, where: Filter | None, *, descending: bool, last_part: bool = False
    ) -> Block:
        """Return the ids and a column of the rows that pass a filter, sorted by it and then by id.

        Rows without a value come last. last_part: take of a path what follows its last slash.
        """
        rows = self.columns(sorted({"id", name}), where)
        if last_part:
            import pyarrow.compute as pc

            parts = pc.replace_substring_regex(rows[name], FOLDER_OF_A_PATH, "")
            rows = rows.set_column(rows.schema.get_field_index(name), name, parts)
        by = [(name, "descending" if descending else "ascending")]
        by += [("id", "ascending")] * (name != "id")
        return Block(rows.sort_by(by).combine_chunks())

    def counts(self, where: Filter | None) -> Counts:
        """Count the rows that pass a filter by label, folder, month and size."""
        rows = self.columns(["label", "path", "mtime_ns", "size"], where)
        return counts_of(rows)

    def ids(self, where: Filter | None = None) -> np.ndarray:
        """Return (n,) int64 ids of all rows, or of those that pass a filter."""
        return self.block("id", where=where).ids

    def columns(self, names: Sequence[str], where: Filter | None = None) -> pa.Table:
        """Return whole columns in Arrow, for this package and exports; others take block()."""
        with self._reading():
            found = self._dataset.to_table(columns=self._there(names), filter=_in_sql(where))
        return self._completed(found, names)

    def ids_passing(self, where: Filter) -> np.ndarray:
        """Return (n,) int64 ids of the usable rows that pass a filter."""
        return self.ids(where & INDEXED)

    def places_of_few(self, ids: np.ndarray) -> np.ndarray | None:
        """Find the places of (n,) ids in columns(); None where ids() tells more cheaply."""
        with self._reading():
            return places_of_few(self._dataset, ids)

    def take(self, offsets: Sequence[int], names: Sequence[str]) -> list[dict[str, Any]]:
        """Return rows by their place in columns(), as dicts."""
        return list(self._rows_at(np.array(offsets, np.int64), names).to_pylist())

    def embeddings_at(self, offsets: np.ndarray) -> np.ndarray:
        """Return (n, d) float16 embeddings of usable rows by their place in columns()."""
        if not len(offsets):
            return np.empty((0, self.dim), np.float16)
        found = self._rows_at(offsets, ["embedding"])
        return as_matrix(found["embedding"])

    def _rows_at(self, places: np.ndarray, names: Sequence[str]) -> pa.Table:
        with self._reading():
            found = rows_at(self._dataset, places, self._there(names))
        return self._completed(found, names)

    def rows_by_id(self, ids: np.ndarray, names: Sequence[str]) -> dict[int, dict[str, Any]]:
        """Return a few rows by their ids."""
        found = self.columns(names, with_ids(ids.tolist()))
        return {row["id"]: row for row in found.to_pylist()}

    def ids_of_paths(self, paths: Sequence[str]) -> dict[str, int]:
        """Return the ids of the rows with these stored paths, by path."""
        import pyarrow.compute as pc

        columns = self.columns(["id", "path"])
        found = columns.filter(pc.is_in(columns["path"], value_set=pa.array(paths, pa.string())))
        return dict(zip(found["path"].to_pylist(), found["id"].to_pylist(), strict=True))

    def ids_of_contents(self, sizes: Mapping[str, int]) -> dict[str, list[int]]:
        """Return the rising ids of the rows of some contents, by SHA-256; sizes: theirs, in bytes.

        Hashes are read only where sizes are equal.
        """
        held = self.columns(["size"])["size"].to_numpy()
        alike = np.flatnonzero(np.isin(held, [*sizes.values()]))
        few, names = len(alike) <= FEW_OF * self.count(), ["sha256", "id"]
        rows = self._rows_at(alike, names) if few else self.columns(names).take(alike)
        found: dict[str, list[int]] = {sha256: [] for sha256 in sizes}
        for sha256, id_ in zip(rows["sha256"].to_pylist(), rows["id"].to_pylist(), strict=True):
            if sha256 in found:
                found[sha256].append(id_)
        return {sha256: sorted(ids) for sha256, ids in found.items()}

    def paths_below(self, folders: Sequence[str]) -> dict[int, str]:
        """Return ids and stored paths of the rows whose path is one of these or lies below one.

        "." stands for all paths that are relative.
        """
        import pyarrow.compute as pc

        columns = self.columns(["id", "path"])
        paths = columns["path"]
        found = pc.is_in(paths, value_set=pa.array(list(folders), pa.string()))
        for folder in folders:
            if folder == ".":
                inside = pc.invert(pc.match_substring_regex(paths, ABSOLUTE))
            else:
                inside = pc.starts_with(paths, f"{folder.rstrip('/')}/")
            found = pc.or_(found, inside)
        below = columns.filter(found)
        return dict(zip(below["id"].to_pylist(), below["path"].to_pylist(), strict=True))

    def batches(
        self, names: Sequence[str], where: Filter | None = INDEXED, rows: int = 4096
    ) -> Iterator[pa.RecordBatch]:
        """Give columns in Arrow, for this package and exports; others take blocks()."""
        with self._reading():
            batches = self._dataset.to_batches(
                columns=self._there(names), filter=_in_sql(where), batch_size=rows
            )
            for batch in batches:
                yield self._completed(batch, names)

    def embeddings(self, ids: np.ndarray | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Give batches of (n,) int64 ids and (n, d) float16 embeddings; all, or those of ids.

        Those of few are read alone, by their places.
        """
        few = ids is not None and len(ids) < FEW_OF * self.count()
        batches = self._taken(ids) if few and ids is not None else self.batches(COLUMNS_EMBEDDED)
        for batch in batches:
            found = batch["id"].to_numpy()
            vectors = as_matrix(batch["embedding"])
            if ids is not None and not few:
                wanted = np.isin(found, ids)
                found, vectors = found[wanted], vectors[wanted]
            if len(found):
                yield found, vectors

    def _taken(self, ids: np.ndarray) -> Iterator[pa.RecordBatch]:
        """The rows of ids that have an embedding."""
        places = np.flatnonzero(np.isin(self.ids(), ids))
        for start in range(0, len(places), ROWS_TAKEN):
            rows = self._rows_at(places[start : start + ROWS_TAKEN], COLUMNS_EMBEDDED)
            for batch in rows.to_batches():
                yield batch.filter(batch["embedding"].is_valid())


def _in_sql(where: Filter | None) -> str | None:
    return None if where is None else where.to_lance()

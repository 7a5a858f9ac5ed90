"""images.lance, read: whole columns, batches, single rows, at the version that is open."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from retrieval.gallery.dataset import damage_as_gallery_errors
from retrieval.gallery.filter import INDEXED, Filter, with_ids
from retrieval.gallery.rows import SETTINGS_KEY, TABLE, as_matrix
from retrieval.gallery.versions import files_of, manifest_of

FEW_IDS = 1_000


class TableReader:
    """The rows of one version. dataset: Lance's. Reads raise GalleryError where it is damaged."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        self._path = Path(dataset.uri)

    @property
    def version(self) -> int:
        """The version, which grows with every commit."""
        return int(self._dataset.version)

    @property
    def name(self) -> str:
        """A name that tells this table from another in its place."""
        return str(self._dataset.schema.metadata[TABLE].decode())

    @property
    def settings(self) -> str:
        """The settings as they were last written, in TOML."""
        return str(self._dataset.schema.metadata[SETTINGS_KEY].decode())

    @property
    def dim(self) -> int:
        """The width of an embedding."""
        kind = self._dataset.schema.field("embedding").type
        if not isinstance(kind, pa.FixedSizeListType):
            raise ValueError("its embeddings are not fixed-size lists")
        return int(kind.list_size)

    def count(self, where: Filter | None = None) -> int:
        """Count rows, or those that pass a filter."""
        with damage_as_gallery_errors(self._dataset.uri):
            return int(self._dataset.count_rows(filter=_in_sql(where)))

    def paths(self) -> list[str]:
        """Return the stored paths of all rows."""
        return list(self.columns(["path"])["path"].to_pylist())

    def pieces(self) -> list[int]:
        """Return the numbers of the pieces that the table is written in."""
        return [fragment.fragment_id for fragment in self._dataset.get_fragments()]

    def piece(
        self, number: int, names: Sequence[str] | None = None, rows: int = 4096
    ) -> Iterator[pa.RecordBatch]:
        """Return the rows of one piece. Raises GalleryError if it is damaged."""
        with damage_as_gallery_errors(self._path):
            fragment = self._dataset.get_fragment(number)
            yield from fragment.to_batches(columns=names and list(names), batch_size=rows)

    def rows_in_piece(self, number: int) -> int:
        """Count the rows of a piece, dropped ones included."""
        return int(self._dataset.get_fragment(number).metadata.physical_rows)

    def files(self) -> list[Path]:
        """List the files that this version consists of."""
        return [manifest_of(self._path, self.version), *files_of(self._path, self._dataset)]

    def columns(self, names: Sequence[str], where: Filter | None = None) -> pa.Table:
        """Return whole columns, in the order in which rows are stored."""
        with damage_as_gallery_errors(self._dataset.uri):
            return self._dataset.to_table(columns=list(names), filter=_in_sql(where))

    def ids_passing(self, where: Filter) -> np.ndarray:
        """Return (n,) int64 ids of the usable rows that pass a filter."""
        return np.asarray(self.columns(["id"], where & INDEXED)["id"].to_numpy())

    def take(self, offsets: Sequence[int], names: Sequence[str]) -> list[dict[str, Any]]:
        """Return rows by their place in columns(), as dicts."""
        with damage_as_gallery_errors(self._dataset.uri):
            return list(self._dataset.take(list(offsets), columns=list(names)).to_pylist())

    def embeddings_at(self, offsets: np.ndarray) -> np.ndarray:
        """Return (n, d) float16 embeddings of usable rows by their place in columns()."""
        if not len(offsets):
            return np.empty((0, self.dim), np.float16)
        with damage_as_gallery_errors(self._dataset.uri):
            found = self._dataset.take(offsets.tolist(), columns=["embedding"])
        return as_matrix(found["embedding"].combine_chunks())

    def rows_by_id(self, ids: np.ndarray, names: Sequence[str]) -> dict[int, dict[str, Any]]:
        """Return a few rows by their ids."""
        found = self.columns(names, with_ids(ids.tolist()))
        return {row["id"]: row for row in found.to_pylist()}

    def batches(
        self, names: Sequence[str], where: Filter | None = INDEXED, rows: int = 4096
    ) -> Iterator[pa.RecordBatch]:
        """Give all rows that pass the filter, a few thousand at a time."""
        with damage_as_gallery_errors(self._dataset.uri):
            yield from self._dataset.to_batches(
                columns=list(names), filter=_in_sql(where), batch_size=rows
            )

    def embeddings(self, ids: np.ndarray | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Give batches of (n,) int64 ids and (n, d) float16 embeddings; all, or those of ids."""
        where = INDEXED
        if ids is not None and len(ids) <= FEW_IDS:
            where &= with_ids(ids.tolist())
        for batch in self.batches(["id", "embedding"], where):
            found = batch["id"].to_numpy()
            vectors = as_matrix(batch["embedding"])
            if ids is not None:
                wanted = np.isin(found, ids)
                found, vectors = found[wanted], vectors[wanted]
            if len(found):
                yield found, vectors


def _in_sql(where: Filter | None) -> str | None:
    return None if where is None else where.to_lance()

"""images.lance: one row per image, changed by whole commits, read at any version.

A row's id stands for one embedding: it stays when a file was merely touched or moved and is new
when the content is, and none is used twice. So an index is brought up to date by comparing ids
alone. After each commit all that it needs is on the disk (versions.py).
"""

from __future__ import annotations

import contextlib
import logging
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa

from retrieval.errors import GalleryError
from retrieval.files import disk_use, new_folder
from retrieval.gallery import compaction, trust
from retrieval.gallery import rows as stored
from retrieval.gallery.dataset import (
    LANCE_ERRORS,
    commit,
    damage_as_gallery_errors,
    dataset_at,
    is_passing,
    note_use,
    open_dataset,
    say_once,
    unwritten,
    write_dataset,
)
from retrieval.gallery.filter import with_ids
from retrieval.gallery.lease import delete_versions
from retrieval.gallery.reader import FEW_OF, TableReader
from retrieval.gallery.room import has_room
from retrieval.gallery.rows import Row, metadata
from retrieval.gallery.versions import (
    Durability,
    check_folders,
    damaged_file,
    manifest_of,
    place_of_table,
    versions_of,
)
from retrieval.objects import ObjectPath
from retrieval.sorted_ids import IdPlaces
from retrieval.text import one_sentence

IDS_PER_VERSION = 100_000  # more rows than one commit holds
ROWS_A_READ = 10_000
TOLD_FROM, TOLD_BYTES = 0.3, 1 << 27  # of the table's size; at least
TOO_OLD, KEPT_IN_STORE = timedelta(days=36_500), timedelta(days=1)  # stores know no readers
STEPPED_BACK = (
    "%s: version %d cannot be read (%s), so version %d is used: images that were removed since are "
    "found again. Run `imgret verify --repair`, or `imgret index` again: it continues from there."
)
TOLD = "%s: merging its pieces and the index needs %.0f MB of disk until it is done."

_log = logging.getLogger("imgret")


class ImageTable(TableReader):
    """The table at one version; writing moves it on to the version written.

    dataset: Lance's. place: of place_of_table(). stepped_back: why a newer version cannot be read,
    or None. is_read: whether somebody reads versions that drop_old_versions() left. sums: the
    SHA-256 of files as they were published, by their path below the gallery, where known. guard:
    called before each commit; it raises GalleryError where this may write no more.
    """

    def __init__(self, dataset: Any, place: object, stepped_back: str | None = None) -> None:
        super().__init__(dataset)
        self._place = place
        self._durability = Durability(self._path)
        self.stepped_back = stepped_back
        self.is_read = False
        self.sums: Mapping[str, str] = {}
        self.guard: Callable[[], None] = lambda: None

    @cached_property
    def is_ours(self) -> bool:
        """Whether this user wrote the opened version on this machine, or trusts it."""
        return trust.is_noted(self.name, manifest_of(self._path, self.version))

    @classmethod
    def of(cls, dataset: Any, stepped_back: str | None = None) -> ImageTable:
        """Return the table of a dataset at its present place."""
        return cls(dataset, place_of_table(dataset), stepped_back)

    @classmethod
    def create(cls, path: Path, dim: int, settings: str) -> ImageTable:
        """Create an empty table for embeddings of width dim, whole or not at all."""
        schema = stored.schema(dim, settings, uuid.uuid4().hex)
        try:
            note_use()
            with new_folder(path) as making:
                empty = schema.empty_table()
                write_dataset(empty, making)
        except LANCE_ERRORS as error:
            raise unwritten(path, error, is_new=True) from error
        table = cls.of(dataset_at(path))
        table.is_ours = True
        trust.note(table.name, manifest_of(path, table.version))
        return table

    @classmethod
    def open(cls, path: Path, version: int | None = None) -> ImageTable:
        """Open the table at a version, by default the newest that can be read.

        Where that is not the newest one, a line in the log says so. Raises GalleryError when the
        version, or every version, is damaged.
        """
        with damage_as_gallery_errors(path):
            check_folders(path)
            if version is not None:
                return cls.of(open_dataset(path, version))
            if isinstance(path, ObjectPath):  # which have no version that is not whole
                return cls.of(open_dataset(path, None))
            versions, before = versions_of(path), None
            while versions != before:  # else a writer has moved on in between
                try:
                    return cls._newest_of(path, versions)
                except LANCE_ERRORS:
                    before, versions = versions, versions_of(path)
                    if before == versions:
                        raise
            raise ValueError("it has no version")

    @classmethod
    def _newest_of(cls, path: Path, versions: Sequence[int]) -> ImageTable:
        """Open the table at the first of the versions that can be read."""
        reason = None
        for candidate in versions:
            try:
                table = cls.of(open_dataset(path, candidate), reason)
            except LANCE_ERRORS as error:
                if candidate == versions[-1] or is_passing(error):
                    raise
                if versions_of(path)[:1] != list(versions[:1]):  # a writer took it away
                    raise
                reason = reason or one_sentence(error)
                continue
            if reason:
                say_once(STEPPED_BACK % (path, versions[0], reason, candidate))
            return table
        raise ValueError("it has no version")

    def frozen(self) -> ImageTable:
        """Return the table as it is now, whatever is written later."""
        table = ImageTable.of(dataset_at(self._path, self.version))
        table.is_ours = self.is_ours
        return table

    def drop_damaged_versions(self) -> None:
        """Make this version the newest if a newer one cannot be read."""
        if self.stepped_back is None:
            return
        with self._committing():
            for version in versions_of(self._path):
                if version > self.version:
                    manifest_of(self._path, version).unlink()
        self.stepped_back = None

    def write(self, rows: Sequence[Row], *, replace: bool) -> None:
        """Commit rows; with replace, a row takes the place of the one with the same path.

        Raises GalleryError when that fails, as on a full disk.
        """
        if not rows:
            return
        if any(row.etag for row in rows):
            self.hold(stored.ETAG)
        data = stored.to_arrow(rows, self._dataset.schema)
        with self._committing():
            if replace:
                merge = self._dataset.merge_insert("path")
                merge.when_matched_update_all().when_not_matched_insert_all().execute(data)
            else:
                self._dataset.insert(data)

    def update(self, columns: dict[str, list[Any]]) -> None:
        """Commit new values of some columns; columns["id"] names the rows.

        Of few, the whole rows are written anew: Lance copies all embeddings to change a column. So
        they are where a file is damaged: what Lance copies gets a new SHA-256, which would hide it.
        """
        columns = {name: c for name, c in columns.items() if any(c) or not self.lacks(name)}
        self.hold(*columns)
        n = len(columns["id"])
        few = n < FEW_OF * self.count() or damaged_file(self.files(), self.sums) is not None
        step = ROWS_A_READ if few else IDS_PER_VERSION
        for start in range(0, n, step):
            part = {name: column[start : start + step] for name, column in columns.items()}
            self._update(part, whole=few)

    def hold(self, *names: str) -> None:
        """Add columns to a table from before them, which writes no row. Raises GalleryError."""
        schema = stored.schema(self.dim, "", "")
        for name in filter(self.lacks, names):
            with self._committing():
                self._dataset.add_columns(schema.field(name))

    def _update(self, columns: dict[str, list[Any]], *, whole: bool) -> None:
        schema = self._dataset.schema
        names = [field.name for field in schema if whole or field.name != "embedding"]
        before = self._in_order(np.array(columns["id"], np.int64), names, few=whole)
        kept = set(before["id"].to_pylist())
        places = [i for i, row in enumerate(columns["id"]) if row in kept]
        after = before
        for name, values in columns.items():
            new = pa.array([stored.storable(values[i]) for i in places], schema.field(name).type)
            after = after.set_column(after.schema.get_field_index(name), schema.field(name), new)
        sums = pa.array(stored.with_facts_changed(before, after))
        written = names if whole else [*columns, "checksum"]
        changed = pa.table(
            {name: sums if name == "checksum" else after[name] for name in written},
            schema=pa.schema([schema.field(name) for name in written]),
        )
        with self._committing():
            self._dataset.merge_insert("id").when_matched_update_all().execute(changed)

    def _in_order(self, ids: np.ndarray, names: Sequence[str], *, few: bool) -> pa.Table:
        """Return the existing rows of ids, in the order of ids."""
        places = IdPlaces(self.columns(["id"])["id"].to_numpy()).of(ids)
        places = places[places >= 0]
        if not few:
            return self.columns(names).take(places)
        return self._rows_at(places, names)

    def next_ids(self, n: int) -> range:
        """Reserve ids for n rows that one commit writes."""
        if n > IDS_PER_VERSION:
            raise ValueError(f"one commit holds {IDS_PER_VERSION} rows, not {n}")
        return range(self.next_id, self.next_id + n)

    @property
    def next_id(self) -> int:
        """The first of the ids that the next commit may give, which no row has or had."""
        return self.ids_from + (self.version + 1) * IDS_PER_VERSION

    def remove(self, ids: Sequence[int]) -> None:
        """Drop the rows of ids."""
        for start in range(0, len(ids), 5_000):
            with self._committing():
                self._dataset.delete(with_ids(map(int, ids[start : start + 5_000])).to_lance())

    def write_settings(self, settings: str) -> None:
        """Replace the settings that the table carries."""
        if settings != self.settings:
            new = metadata(settings, self.name, self.ids_from)
            texts = {key.decode(): value.decode() for key, value in new.items()}
            with self._committing():
                self._dataset.update_schema_metadata(texts, replace=True)

    def become(self, other: ImageTable) -> None:
        """Take over all rows and the settings of another table, in one commit.

        Ids go on from where the table is that has given more.
        """
        source = other._dataset
        ids_from = max(self.next_id, other.next_id) - (self.version + 2) * IDS_PER_VERSION
        beside = metadata(other.settings, other.name, max(0, ids_from))
        schema = source.schema.with_metadata(beside)
        reader = pa.RecordBatchReader.from_batches(schema, source.to_batches())
        with self._committing():
            write_dataset(reader, self._path, schema=schema, mode="overwrite")

    def compact(self, *, everything: bool = False, beside: Callable[[], int] = int) -> None:
        """Merge small pieces, once there are many, and write those anew that lost many rows.

        everything: all of these at once, so that nothing of a removed row is kept. beside:
        gives the bytes of the index that is written before what is old can be deleted. Where
        everything is asked for, raises GalleryWriteError if the disk has no room for both, and
        GalleryError if a piece is damaged.
        """
        find = compaction.complete if everything else compaction.due
        found = find(self._dataset, self.dim)
        if found is None or not self._is_sound(found, must=everything):
            return
        size = found.size(self._path) + beside()
        if has_room(self._path, size, "merging its pieces and the index", must=everything):
            table = 0 if isinstance(self._path, ObjectPath) else disk_use(self._path)
            if table and size > max(TOLD_BYTES, TOLD_FROM * table):
                _log.warning(TOLD, self._path, size / 1e6)
            with self._committing():
                found.run(self._dataset)

    def forget_removed(self) -> None:
        """Write the pieces that hold removed rows anew, where they are small.

        What older versions hold goes with drop_old_versions(), what is large with compact().
        Raises GalleryWriteError where the disk has no room for it.
        """
        found = compaction.erasure(self._dataset, self._path)
        if found and self._is_sound(found, must=False):
            has_room(self._path, found.size(self._path), "erasing removed rows", must=True)
            with self._committing():
                found.run(self._dataset)

    def _is_sound(self, found: compaction.Compaction, *, must: bool) -> bool:
        """Tell whether pieces are what was published; the log says where not.

        Raises GalleryError where they must be.
        """
        file = damaged_file(found.files(self._path), self.sums)
        if file:
            error = GalleryError(
                f"{file} is not what was written, so nothing is copied from it. Run `imgret verify "
                "--repair`, which embeds damaged images again."
            )
            if must:
                raise error
            _log.warning("%s", error)
        return file is None

    @property
    def holds_removed(self) -> bool:
        """Whether removed rows are still in the files."""
        return any(piece.metadata.deletion_file for piece in self._dataset.get_fragments())

    def check_finite(self) -> None:
        """Raise GalleryError if untrusted embeddings are not finite; ours are."""
        if self.is_ours:
            return
        for ids, embeddings in self.embeddings():
            if not np.isfinite(embeddings).all():
                wrong = ids[~np.isfinite(embeddings).all(axis=1)][:1]
                path = self.rows_by_id(wrong, ["id", "path"])[int(wrong[0])]["path"]
                raise GalleryError(
                    f"{self._path} has an embedding of {path} that is not finite. Run `imgret "
                    "verify --repair`, which embeds the image again."
                )

    def drop_piece(self, number: int) -> None:
        """Drop all rows of a piece, whether they can be read or not."""
        operation = lance.LanceOperation.Delete([], [number], "true")
        with self._committing():
            commit(self._path, operation, self.version)

    @contextlib.contextmanager
    def _committing(self) -> Iterator[None]:
        """Wrap one commit: check that the folder is there, and have all on the disk after.

        Raises GalleryError when the folder is not the one that was opened, or cannot be written.
        """
        self.check_place()
        ours = self.is_ours
        try:
            yield
            self._reopen()
            self._durability.sync()
            if ours:
                trust.note(self.name, manifest_of(self._path, self.version))
        except LANCE_ERRORS as error:
            self.check_place()
            raise unwritten(self._path, error) from error
        except KeyboardInterrupt:  # Lance may have committed: what is written next must see it
            self._reopen()
            raise

    def _reopen(self) -> None:
        self._dataset = dataset_at(self._path)
        self._place = place_of_table(self._dataset)

    def check_place(self) -> None:
        """Raise GalleryError when the table's folder was deleted, moved or replaced meanwhile."""
        self.guard()
        if place_of_table(self._dataset) != self._place:
            raise GalleryError(
                f"{self._path} was deleted or moved while it was being written. Put it back, or "
                "run the same command again to start a new gallery."
            )

    def drop_old_versions(self) -> None:
        """Delete what only older versions need, but for those that somebody reads.

        Lance by itself keeps all for weeks, and knows no readers: so it deletes no version, only
        what none names any more.
        """
        with contextlib.suppress(*LANCE_ERRORS):  # what cannot be deleted now goes next time
            in_store = isinstance(self._path, ObjectPath)
            if not in_store:
                self._durability.sync()  # who committed this version may have been killed before
                tagged = {tag["version"] for tag in self._dataset.tags.list().values()}
                self.is_read = delete_versions(self._path, before=self.version, but=tagged)
            age = KEPT_IN_STORE if in_store else TOO_OLD
            self._dataset.cleanup_old_versions(
                age, delete_unverified=not in_store, error_if_tagged_old_versions=False
            )

"""Rows that several processes write before one of them commits: ids reserved, pieces staged.

A piece is staged when its file lies in the table's folder and no version names it: no reader sees
it. What commits it needs to know no more than a line of JSON. Staged pieces that nobody committed,
such as those of a run that was killed, are deleted by the next writer (drop_old_versions), who
holds the lock: so no other run has staged pieces then.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import lance
from lance.commit import CommitConflictError
from lance.fragment import write_fragments

from retrieval.errors import GalleryError
from retrieval.files import sync
from retrieval.gallery import rows as stored
from retrieval.gallery.dataset import (
    LANCE_ERRORS,
    LANCE_FORMAT,
    commit,
    panics_as_errors,
    unwritten,
)
from retrieval.gallery.rows import IDS_FROM, Row
from retrieval.gallery.table import IDS_PER_VERSION, ImageTable
from retrieval.gallery.versions import MAGIC, ends_in
from retrieval.objects import ObjectPath
from retrieval.objects.store import options_of_lance

RESERVATIONS_TRIED = 64  # each is refused only because another one was granted
DATA = "data"  # the folder of a table's pieces


@dataclass(frozen=True)
class StagedRows:
    """Rows that are written and that no version has. pieces: what a commit needs of each, JSON."""

    pieces: tuple[str, ...] = ()
    rows: int = 0


def reserve_ids(table: ImageTable, n: int) -> range:
    """Reserve ids for n rows that later commits may write; the table moves on to its new version.

    It is a compare and swap: Lance refuses whoever changes the first id from a version that another
    one has changed it in, and who was overtaken by a commit of rows finds a version too many. The
    ids begin behind those that a writer may give who has read the same version. Raises GalleryError
    where others reserve all the time, or the table cannot be written.
    """
    for _ in range(RESERVATIONS_TRIED):
        version, first = table.version, table.next_id + IDS_PER_VERSION
        if _moved_on(table, table.ids_from + n) and table.version == version + 1:
            return range(first, first + n)
    raise GalleryError(
        f"{table.path} is being written by too many others to reserve ids in it. Run the same "
        "command again."
    )


def _moved_on(table: ImageTable, ids_from: int) -> bool:
    """Commit what is added to ids from now on; False where another one did since this version."""
    update = lance.LanceOperation.UpdateMap({IDS_FROM.decode(): str(ids_from)}, replace=False)
    operation = lance.LanceOperation.UpdateConfig(schema_metadata_updates=update)
    try:
        with table._committing():
            try:
                commit(table.path, operation, table.version)
            except CommitConflictError as error:
                raise _OvertakenError from error  # which no disk is to blame for
    except _OvertakenError:
        table._reopen()
        return False
    return True


class _OvertakenError(Exception):
    """Ids were reserved by others since the version that was read."""


def stage_rows(table: ImageTable, rows: Sequence[Row]) -> StagedRows:
    """Write rows into pieces that no version names, each row with its checksum; durably.

    Needs no lock: the ids of the rows are reserved. Raises GalleryWriteError, as on a full disk.
    """
    if not rows:
        return StagedRows()
    data = stored.to_arrow(rows, table._dataset.schema)
    try:
        with panics_as_errors():
            pieces = write_fragments(
                data, table._dataset, data_storage_version=LANCE_FORMAT,
                storage_options=options_of_lance(table.path),
            )  # fmt: skip
        for piece in pieces:
            for file in _files(table.path, piece):
                sync(file)
        sync(table.path / DATA)
    except LANCE_ERRORS as error:
        raise unwritten(table.path, error) from error
    return StagedRows(tuple(json.dumps(piece.to_json()) for piece in pieces), len(rows))


def commit_staged(table: ImageTable, staged: Sequence[StagedRows]) -> None:
    """Append many staged pieces in one commit, durably; only who holds the gallery's lock may.

    Raises GalleryError for a piece of which a file is not whole, and where the table cannot be
    written; then nothing is committed.
    """
    pieces = [_piece(table.path, text) for part in staged for text in part.pieces]
    if not pieces:
        return
    for piece in pieces:
        _check(table.path, piece)
    operation = lance.LanceOperation.Append(pieces)
    with table._committing():
        commit(table.path, operation, table.version)


def drop_staged(table: ImageTable, staged: Sequence[StagedRows]) -> None:
    """Delete the files of staged pieces that will not be committed."""
    for part in staged:
        for text in part.pieces:
            for file in _files(table.path, _piece(table.path, text)):
                file.unlink(missing_ok=True)


def _piece(table: Path, text: str) -> Any:
    """Read what stage_rows() said of a piece. Raises GalleryError for what it never says."""
    try:
        piece = lance.FragmentMetadata.from_json(text)
        names = [PurePosixPath(data.path) for data in piece.files]
    except (*LANCE_ERRORS, TypeError, AttributeError) as error:
        raise _unlike(table) from error
    if not names or any(name.name != str(name) or str(name) in (".", "..") for name in names):
        raise _unlike(table)
    return piece


def _files(table: Path, piece: Any) -> list[Path]:
    return [table / DATA / data.path for data in piece.files]


def _check(table: Path, piece: Any) -> None:
    is_object = isinstance(table, ObjectPath)  # which is whole once it is there
    for data, file in zip(piece.files, _files(table, piece), strict=True):
        try:
            whole = file.stat().st_size == data.file_size_bytes
            whole = whole and (is_object or ends_in(file, MAGIC))
        except OSError:
            whole = False
        if not whole:
            raise _unlike(table)


def _unlike(table: Path) -> GalleryError:
    return GalleryError(
        f"{table}: rows that a worker wrote are not there as it wrote them. Run the same command "
        "again: it embeds those images anew."
    )

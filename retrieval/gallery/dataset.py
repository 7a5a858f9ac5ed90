"""Lance's dataset at a complete version; what Lance raises becomes errors of imgret."""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa

from retrieval.errors import GalleryChangedError, GalleryError, GalleryWriteError
from retrieval.gallery import rows as stored
from retrieval.gallery.rows import ADDED, IDS_FROM, SETTINGS_KEY, TABLE
from retrieval.gallery.versions import (
    check_manifest,
    check_version_files,
    is_superseded,
    newest_in_store,
)
from retrieval.objects import ObjectPath, place_of
from retrieval.objects.store import options_of_lance, unanswered
from retrieval.text import one_sentence, remedy, unwritable

LANCE_FORMAT = "2.2"  # of its files, by every version of Lance; 2.0 loses that facts are null
MOST_DIGITS = 18  # of a number that 64 bits hold, and those that are added to it
LANCE_ERRORS = (OSError, ValueError, RuntimeError, KeyError, pa.ArrowException)

_log = logging.getLogger("imgret")
_used_in: list[int] = []  # the process that was the first to use Lance


class StoreUnreachedError(GalleryError):
    """The store of a gallery does not answer, so asking it again at once is of no use."""


def note_use() -> None:
    """Remember the process that is the first to use Lance."""
    _used_in[:] = _used_in or [os.getpid()]


def was_used_before_fork() -> bool:
    """Tell whether Lance was used by a process from which this one was forked."""
    return bool(_used_in) and _used_in[0] != os.getpid()


def open_dataset(path: Path, version: int | None, *, whole: bool = True) -> Any:
    """Open Lance's dataset at a version. Raises one of LANCE_ERRORS if it is incomplete.

    version: in a store None stands for the newest.

    whole: whether data files may not be cut short or gone, either.
    """
    note_use()
    if version is not None:
        check_manifest(path, version)
    with panics_as_errors():
        dataset = dataset_at(path, version)
        _check_schema(dataset.schema)
        if whole:
            check_version_files(path, dataset)
    return dataset


def dataset_at(path: Path, version: int | None = None) -> Any:
    """Return Lance's dataset at a version, by default the newest, as it is."""
    if version is None and isinstance(path, ObjectPath):
        version = newest_in_store(path)
    return lance.dataset(str(path), version=version, storage_options=options_of_lance(path))


def write_dataset(data: Any, path: Path, **how: Any) -> None:
    """Write a Lance dataset in the format of ours. how: further arguments of Lance's."""
    lance.write_dataset(
        data, str(path), data_storage_version=LANCE_FORMAT,
        storage_options=options_of_lance(path), **how,
    )  # fmt: skip


def commit(path: Path, operation: Any, version: int) -> None:
    """Commit an operation of Lance's on a version that was read."""
    lance.LanceDataset.commit(
        str(path), operation, read_version=version, storage_options=options_of_lance(path)
    )


@contextlib.contextmanager
def damage_as_gallery_errors(path: Path | str, dataset: Any = None) -> Iterator[None]:
    """Turn what Lance raises while it reads, its panics too, into GalleryErrors.

    dataset: the version that is read, which a writer may delete meanwhile (GalleryChangedError).
    """
    try:
        with panics_as_errors():
            yield
    except LANCE_ERRORS as error:
        if (said := unanswered(error)) is not None:
            raise unreached(path, said) from error
        if dataset is not None and is_superseded(place_of(path), dataset):
            raise changed(path) from error
        raise _damaged(path, error) from error


def unreached(place: Path | str, reason: str) -> StoreUnreachedError:
    """Return the error of a gallery whose store cannot be asked."""
    return StoreUnreachedError(_no_answer(place, reason))


def unwritten(table: Path, error: BaseException, *, is_new: bool = False) -> GalleryWriteError:
    """Return the error of a table that cannot be written to. is_new: it holds nothing yet."""
    if (said := unanswered(error)) is not None:
        return GalleryWriteError(_no_answer(table, said))
    if is_new:
        return GalleryWriteError(str(unwritable(table, error)))
    return GalleryWriteError(
        f"{table} cannot be written ({one_sentence(error)}), and nothing that was stored is lost. "
        f"{remedy(error)}"
    )


def _no_answer(place: Path | str, reason: str) -> str:
    return (
        f"{place} cannot be reached ({reason}). Check the address, the network and the credentials."
    )


def changed(path: Path | str) -> GalleryChangedError:
    """Return the error of a reader whose version is gone."""
    return GalleryChangedError(
        f"Another command rewrote {path} while it was read. Run this command again."
    )


@contextlib.contextmanager
def panics_as_errors() -> Iterator[None]:
    """Turn a panic of Rust's code, which is not an Exception, into a RuntimeError."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise RuntimeError(one_sentence(error)) from error


def is_passing(error: Exception) -> bool:
    """Tell whether an error is not about the stored data: no permission, too many open files."""
    return (
        isinstance(error, OSError) or re.search(r"os error|[Pp]ermission", str(error)) is not None
    )


def _check_schema(found: pa.Schema) -> None:
    known = found.metadata or {}
    if not {TABLE, SETTINGS_KEY} <= set(known):
        raise ValueError("it is not a table of imgret")
    ids_from = known.get(IDS_FROM, b"0")
    if not (ids_from.isdigit() and len(ids_from) < MOST_DIGITS):
        raise ValueError("its ids begin at no number")
    kind = found.field("embedding").type
    width = kind.list_size if isinstance(kind, pa.FixedSizeListType) else 1
    expected = stored.schema(width, "", "")
    columns = {f.name: f.type for f in expected}
    if {name: columns[name] for name in ADDED} | {f.name: f.type for f in found} != columns:
        raise ValueError("its columns are not those of imgret")


def _damaged(path: Path | str, error: BaseException) -> GalleryError:
    return GalleryError(
        f"{path} cannot be read ({one_sentence(error)}). Run `imgret verify --repair`, restore it "
        "from a backup, or delete the gallery's folder and index again."
    )


@lru_cache(maxsize=64)
def say_once(line: str) -> None:
    """Log a line once per process: a command opens its table more than once."""
    _log.warning("%s", line)

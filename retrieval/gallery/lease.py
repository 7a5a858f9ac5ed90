"""A reader's lease on a version of the table: while one is held, no writer deletes that version.

It is a shared lock on the version's manifest, which needs no right to write and ends with the
process, however that ends. A writer deletes a manifest only under the exclusive lock, and data
files only once no manifest names them. A file system without locks keeps nothing: who reads there
notices what is gone (GalleryChangedError). Nor has an object store locks: there a version stays
for a day after the next one.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Set
from pathlib import Path
from typing import Self, TypeVar
from weakref import finalize

from retrieval.errors import GalleryChangedError
from retrieval.files import NO_WAIT, identity
from retrieval.gallery.versions import manifest_of, versions_of
from retrieval.objects import ObjectPath

try:
    import fcntl
except ImportError:  # Windows, which deletes no file that is open
    fcntl = None  # type: ignore[assignment]

CALLS = 4  # of reading one state, where it cannot be kept
_Made = TypeVar("_Made")


class Lease:
    """What keeps a version: until release(), or as long as this object is there."""

    def __init__(self, handle: int | None) -> None:
        self.release = (lambda: None) if handle is None else finalize(self, os.close, handle)

    @classmethod
    def take(cls, manifest: Path) -> Lease | None:
        """Lease the version of a manifest; None where that is gone, or just being deleted."""
        if isinstance(manifest, ObjectPath):
            return cls(None)
        try:
            handle = os.open(manifest, os.O_RDONLY | NO_WAIT)
        except FileNotFoundError:
            return None
        except OSError:  # such as too many open files: what is read may go, as without locks
            return cls(None)
        lease = cls(handle)
        if fcntl:
            try:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                lease.release()
                return None
            except OSError:  # a file system without locks
                pass
        if not _is_at(handle, manifest):
            lease.release()
            return None
        return lease

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def delete_versions(table: Path, *, before: int, but: Set[int]) -> bool:
    """Delete the manifests of older versions, but for some and those that somebody reads.

    Tells whether any is read.
    """
    older = [v for v in reversed(versions_of(table)) if v < before and v not in but]
    leased = [_delete_unless_leased(manifest_of(table, version)) for version in older]
    return any(leased)


def read_one_state(read: Callable[[contextlib.ExitStack], _Made]) -> _Made:
    """Return what `read` makes of one state of a gallery, which other commands leave on the disk.

    read: takes a lease on each table that it opens, and enters it into the stack. It is called
    again, a few times, where its state is gone already. Raises GalleryChangedError after these.
    """
    for _ in range(CALLS - 1):
        with contextlib.suppress(GalleryChangedError), contextlib.ExitStack() as leases:
            return read(leases)
    with contextlib.ExitStack() as leases:
        return read(leases)


def _delete_unless_leased(manifest: Path) -> bool:
    """Delete a manifest, unless somebody has a lease on it; tell whether somebody has."""
    with contextlib.ExitStack() as opened:
        if fcntl:
            try:
                handle = _open_to_lock(manifest)
            except OSError:  # it is gone, or is not ours to delete
                return False
            opened.callback(os.close, handle)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            except OSError:  # a file system without locks
                pass
        try:
            manifest.unlink()
        except OSError:
            return fcntl is None  # somebody has it open
    return False


def _open_to_lock(manifest: Path) -> int:
    """NFS gives the exclusive lock only on what is open for writing."""
    try:
        return os.open(manifest, os.O_RDWR | NO_WAIT)
    except PermissionError:
        return os.open(manifest, os.O_RDONLY | NO_WAIT)


def _is_at(handle: int, path: Path) -> bool:
    """Tell whether an open file still has its name."""
    status = os.fstat(handle)
    return identity(path) == (status.st_dev, status.st_ino)

"""The lock of the one process that writes to a gallery, and what its failed writes become."""

from __future__ import annotations

import contextlib
import datetime
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from retrieval.errors import GalleryError, GalleryWriteError
from retrieval.files import make_folder, read_bounded, write_atomically
from retrieval.gallery.run_progress import forget_note
from retrieval.gallery.store_lease import WriterLease, is_leased, leased
from retrieval.objects import ObjectPath
from retrieval.text import unwritable


@contextlib.contextmanager
def locked(folder: Path, wait: float) -> Iterator[WriterLease | None]:
    """Be the one writer to a gallery's folder, which is made where it is not there.

    Gives the lease that stands for a lock in a store. Raises GalleryError, naming the holder, when
    there is another still after so many seconds, and GalleryWriteError where a file of the gallery
    cannot be written meanwhile.
    """
    if isinstance(folder, ObjectPath):
        with leased(folder, wait) as lease:
            yield lease
        return
    from filelock import FileLock, Timeout  # who only searches needs neither

    lock = FileLock(folder / "lock", timeout=wait)
    try:
        make_folder(folder)
        if (folder / "lock").is_symlink():  # a stranger's: locking would empty its target
            (folder / "lock").unlink()
        lock.acquire()
    except Timeout:
        raise GalleryError(
            f"{folder} is being written by {_holder(folder)}. "
            "Wait until it is done, or stop it; what it has stored stays."
        ) from None
    except OSError as error:
        raise GalleryWriteError(str(unwritable(folder, error))) from error
    holder = folder / "lock-holder"
    handle = None if os.name == "nt" else os.open(folder, os.O_RDONLY)
    try:
        with _failures_as_gallery_errors(folder):
            now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
            forget_note(folder)  # of a writer that was killed
            write_atomically(
                holder, f"process {os.getpid()} on {socket.gethostname()} since {now}".encode()
            )
            yield None
    finally:
        with contextlib.suppress(OSError):
            holder.unlink(missing_ok=True)
        forget_note(folder)
        lock.release()
        if handle is not None:
            os.close(handle)


def is_locked(folder: Path) -> bool:
    """Tell whether another process holds the lock; False if that cannot be told."""
    if isinstance(folder, ObjectPath):
        return is_leased(folder)
    if (folder / "lock").is_symlink() or not (folder / "lock").is_file():
        return False
    from filelock import FileLock, Timeout

    try:
        with FileLock(folder / "lock", timeout=0):
            return False
    except Timeout:
        return True
    except OSError:
        return False


def _holder(folder: Path) -> str:
    with contextlib.suppress(OSError, ValueError):
        return read_bounded(folder / "lock-holder", 1024).decode(errors="replace")[:200].strip()
    return "another process"


@contextlib.contextmanager
def _failures_as_gallery_errors(folder: Path) -> Iterator[None]:
    """Turn the OSError of a file in the gallery into a GalleryWriteError; others are not its own.

    All that is written to a gallery is written under its lock, so this is the one place for it.
    """
    try:
        yield
    except OSError as error:
        file = error.filename
        if not isinstance(file, str | bytes) or not _is_below(Path(os.fsdecode(file)), folder):
            raise
        raise GalleryWriteError(str(unwritable(os.fsdecode(file), error))) from error


def _is_below(file: Path, folder: Path) -> bool:
    return file.absolute().is_relative_to(folder)

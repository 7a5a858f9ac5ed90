"""Whether the disk has room for what is about to be written beside what is there."""

from __future__ import annotations

import shutil
from pathlib import Path

from retrieval.errors import GalleryWriteError

ROOM_BESIDE = 1 << 18  # bytes: a manifest, marks of deleted rows, their copies and gallery.toml


def has_room(place: Path, size: int, what: str, *, must: bool = False) -> bool:
    """Tell whether so many bytes fit beside a file or folder, and all that is published with them.

    what: the subject of a sentence. Raises GalleryWriteError where they must fit and do not. An
    object store has room.
    """
    try:
        free = shutil.disk_usage(place).free
    except OSError:  # such as of a folder that is gone: who writes to it says that better
        return True
    if size + ROOM_BESIDE <= free:
        return True
    if must:
        raise GalleryWriteError(f"{place}: {what} {describe_need(place, size)}. Free some space.")
    return False


def describe_need(place: Path, size: int) -> str:
    """Say how much of the disk so many bytes need, and how much is free."""
    free = shutil.disk_usage(place).free
    return f"needs {(size + ROOM_BESIDE) / 1e6:,.1f} MB of disk, and {free / 1e6:,.1f} MB are free"

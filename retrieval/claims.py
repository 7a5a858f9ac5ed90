"""What a process is making beside a file, under a name of ours, and whether it still lives.

Its maker holds a lock on it, so that what a killed process left is told from what is being written.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows, which deletes and renames no file that is open
    fcntl = None  # type: ignore[assignment]

PREFIX = ".imgret-part-"
ABANDONED = 24 * 3600  # seconds; where there are no locks, a file so old is nobody's


def new_file(folder: Path, suffix: str) -> tuple[Path, int]:
    """Make an empty file that is ours; return it, and the handle that holds its lock."""
    while True:
        made = folder / f"{PREFIX}{secrets.token_hex(6)}{suffix[:32]}"
        handle = os.open(made, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)  # what the umask leaves
        lock_file(handle)
        if made.exists():  # else another process swept it in the moment before the lock
            return made, handle
        os.close(handle)


def new_scratch(folder: Path, mode: int) -> tuple[Path, int | None]:
    """Make an empty folder that is ours; return it, and the handle that holds its lock."""
    while True:
        made = folder / f"{PREFIX}{secrets.token_hex(6)}"
        made.mkdir(mode)
        if not fcntl:
            return made, None
        with contextlib.suppress(FileNotFoundError):
            handle = os.open(made, os.O_RDONLY)
            lock_file(handle)
            if made.exists():  # else another process swept it in the moment before the lock
                return made, handle
            os.close(handle)


def lock_file(handle: int) -> None:
    """Hold the lock of what an open file or folder is, where the file system has locks."""
    if fcntl:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def is_abandoned(path: Path) -> bool:
    """Tell whether the process that was making this has ended."""
    if not fcntl:
        with contextlib.suppress(OSError):
            return time.time() - path.lstat().st_mtime > ABANDONED
        return False
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True

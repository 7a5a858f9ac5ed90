"""The lock of the one process that trains into a run's folder."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from retrieval.errors import RunError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


@contextlib.contextmanager
def only_trainer(out: Path) -> Iterator[None]:
    """Be the one process that trains into a folder. Raises RunError where another does.

    The folder itself is locked, so that no file of it is left in the run.
    """
    handle = os.open(out, os.O_RDONLY) if fcntl else None
    try:
        if handle is not None:
            _lock(handle, out)
        yield
    finally:
        if handle is not None:
            os.close(handle)


def _lock(handle: int, out: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise RunError(
            f"{out} is being trained by another process. Wait until it is done or stop it, or give "
            "another --out."
        ) from None
    except OSError:  # a file system without locks
        return

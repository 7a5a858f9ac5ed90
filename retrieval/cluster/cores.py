"""A share of the cores for a process: libraries count them when they start their threads."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator
from pathlib import Path


@contextlib.contextmanager
def counting_only(cores: Collection[int]) -> Iterator[None]:
    """Let this process see only these cores meanwhile; none stands for all.

    The threads that were begun may use all of them afterwards, wherever the system finds room.
    """
    if not cores or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        for thread in _threads():
            with contextlib.suppress(OSError, ValueError):  # it has ended
                os.sched_setaffinity(thread, before)


def _threads() -> list[int]:
    try:
        return [int(entry.name) for entry in Path("/proc/self/task").iterdir()]
    except OSError:
        return [0]

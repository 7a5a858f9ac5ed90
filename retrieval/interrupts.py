"""Ctrl-C between two steps, not within one: what belongs together is completed."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def interrupts_wait() -> Iterator[None]:
    """Let an interrupt of the main thread wait until the block is done; it is raised behind it.

    A row that is half taken, or a commit that is half done and then tried again, would be wrong.
    The block must be short; what waits for others belongs outside.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    caught: list[tuple[int, object]] = []
    signal.signal(signal.SIGINT, lambda number, frame: caught.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if caught:
            before(caught[0][0], None)

"""Ctrl-C: the first ends a command in order, a second ends it at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

INTERRUPTED = 130


@contextmanager
def second_interrupt_ends_at_once() -> Iterator[None]:
    """While this lasts, a second SIGINT ends the process, whatever it does, with 130.

    Python runs a signal's handler between two of its own steps, so never while a library computes.
    The number of each signal is written to a pipe at once, and a thread reads it there. What is
    stored is whole at every moment: ending like this loses nothing but what was not yet stored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reading, writing = os.pipe()
    if hasattr(os, "set_blocking"):  # Python 3.11 has none on Windows
        os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reading,), daemon=True, name="imgret-interrupts").start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before, warn_on_full_buffer=False)
        os.close(writing)


def end_at_once() -> NoReturn:
    """End an interrupted process, without Python's own end.

    Threads may have been left behind in C++, and Python's end unwinds them, which C++ answers with
    abort(). What was to be written has been, and nothing here waits for that end.
    """
    os._exit(INTERRUPTED)


def _watch(reading: int) -> None:
    """Count interrupts until nobody writes any more."""
    interrupts = 0
    while numbers := os.read(reading, 64):
        interrupts += numbers.count(signal.SIGINT)
        if interrupts >= 2:
            with suppress(OSError):
                if os.isatty(2):
                    os.write(2, b"\x1b[?25h\n")  # a progress bar had hidden the cursor
            end_at_once()
    os.close(reading)

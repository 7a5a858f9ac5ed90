"""The lines of the log, written by a thread: who does not read them keeps no request waiting."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator

from prometheus_client import Counter

from imgret.streams import say
from retrieval.text import visible

MOST_LINES = 10_000  # that wait
END_SECONDS, FULL_SECONDS = 2.0, 0.05


def write_line(line: str) -> None:
    """Write a line to standard error.

    Past its buffer, where that has a file: a thread that waits there when the process ends would
    hold the buffer's lock.
    """
    try:
        number = sys.stderr.fileno()
    except (OSError, ValueError, AttributeError):
        say(line)
        return
    left = f"{visible(line)}\n".encode(errors="backslashreplace")
    while left:
        try:
            left = left[os.write(number, left) :]
        except BlockingIOError:
            time.sleep(FULL_SECONDS)
        except OSError:  # nobody listens any more
            return


class LineLog:
    """Lines that wait to be written, at most so many; more are dropped and counted."""

    def __init__(
        self,
        dropped: Counter,
        most: int = MOST_LINES,
        write: Callable[[str], None] = write_line,
    ) -> None:
        self._lines: queue.Queue[str | None] = queue.Queue(most)
        self._dropped = dropped
        self._write = write
        self._lost = 0
        self._thread = threading.Thread(target=self._work, daemon=True, name="imgret-log")
        self._thread.start()

    def tell(self, line: str) -> None:
        """Have a line written soon; never waits."""
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self._lost += 1
            self._dropped.inc()

    def end(self) -> None:
        """Write what waits, for END_SECONDS at most."""
        with contextlib.suppress(queue.Full):
            self._lines.put(None, timeout=END_SECONDS)
            self._thread.join(END_SECONDS)

    def _work(self) -> None:
        while (line := self._lines.get()) is not None:
            self._write(line)
            if self._lost and self._lines.empty():
                lost, self._lost = self._lost, 0
                self._write(f"imgret: {lost:,} lines of this log were dropped: nobody read them.")


class LoggedLine(logging.Handler):
    """Passes what libraries log on to a LineLog."""

    def __init__(self, log: LineLog) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Pass on a record, without a traceback."""
        self._log.tell(f"imgret: {record.getMessage()}")


@contextlib.contextmanager
def logged_to(log: LineLog) -> Iterator[None]:
    """Have a LineLog write what libraries log, while this lasts."""
    root = logging.getLogger()
    before, root.handlers = root.handlers, [LoggedLine(log)]
    try:
        yield
    finally:
        root.handlers = before

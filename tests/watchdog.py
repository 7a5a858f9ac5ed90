"""Work that would go on for ever fails its test instead of keeping all of them waiting."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator

PATIENCE = 300  # seconds until what does nothing has failed; the machine may do other things


@contextlib.contextmanager
def ends() -> Iterator[None]:
    """Raise TimeoutError in what is run here, once it has run for PATIENCE."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"it runs for more than {PATIENCE} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(PATIENCE)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def until(is_so: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for what will be so; it fails after so many seconds."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.02)

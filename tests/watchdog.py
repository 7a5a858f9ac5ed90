"""Work that would go on for ever fails its test instead of keeping all of them waiting."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

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

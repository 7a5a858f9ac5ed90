"""Memory that decoding may use: one budget for all threads of a process, and places for a machine.

What a picture will take is known from its header, before anything is allocated. Threads wait until
it is free, first come, first served. Large pictures also take places that all processes of a user
share (locked files, which the system frees when a process dies), so that processes do not add up
either. Without such places (no fcntl, no writable folder, none given back in time) decoding
continues.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

from retrieval.errors import ImageError

try:
    import fcntl
    import resource
except ImportError:  # Windows
    fcntl = resource = None  # type: ignore[assignment]

SHARE = 0.25  # of the memory, for pixels
LEAST_MEMORY, LEAST_SHARE = 1 << 30, 0.5  # bytes that may be used, unless above that share
PLACE = 1 << 30  # bytes that one of the machine's places stands for
LARGE = 1 << 28  # bytes from which a picture takes places
PATIENCE = 60.0  # seconds of waiting for places
_POLL = 0.02
_CGROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


class Budget:
    """Bytes that several threads share. limit: bytes. places: folder of the shared places."""

    def __init__(self, limit: int, places: Path | None = None) -> None:
        self.limit = limit
        self._places = places
        self._used = 0
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()

    @contextmanager
    def holding(self, need: int) -> Iterator[None]:
        """Wait for memory, and give it back. Raises ImageError when all of it is not enough."""
        if need > self.limit:
            raise ImageError(
                f"it takes {_shown(need)} of memory to decode, more than the {_shown(self.limit)} "
                "that this machine has for that; make it smaller, or use a machine with more memory"
            )
        with self._machine_wide(need):
            self._take(need)
            try:
                yield
            finally:
                with self._changed:
                    self._used -= need
                    self._changed.notify_all()

    def _take(self, need: int) -> None:
        turn = object()
        with self._changed:
            self._waiting.append(turn)
            try:
                while self._waiting[0] is not turn or self._used + need > self.limit:
                    # A decoder that was given up holds its memory for ever: go on at some time.
                    if not self._changed.wait(PATIENCE) and self._waiting[0] is turn:
                        break
                self._used += need
            finally:
                self._waiting.remove(turn)
                self._changed.notify_all()

    @contextmanager
    def _machine_wide(self, need: int) -> Iterator[None]:
        if need < LARGE or self._places is None or fcntl is None:
            yield
            return
        total = max(1, self.limit // PLACE)
        wanted = min(-(-need // PLACE), total)
        until = time.monotonic() + PATIENCE
        held = _try_places(self._places, wanted, total)
        while held is not None and not held and time.monotonic() < until:
            time.sleep(_POLL)
            held = _try_places(self._places, wanted, total)
        try:
            yield
        finally:
            _close(held or [])  # and with them the locks


@lru_cache(maxsize=1)
def process_budget() -> Budget:
    """Return the budget of all decoders of this process: a quarter of its memory."""
    import tempfile  # the half of the standard library with it

    if hasattr(os, "register_at_fork"):  # a lock that another thread held would stay locked
        os.register_at_fork(after_in_child=process_budget.cache_clear)
    places = Path(tempfile.gettempdir()) / f"imgret-{os.getuid() if fcntl else 0}-decoding"
    return Budget(limit_for(memory()), places)


@lru_cache(maxsize=1)
def file_budget() -> Budget:
    """Return the budget for the bytes of files to decode, which is apart from that for pixels.

    A thread that waits for that of pixels may hold some of this, never the other way round.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=file_budget.cache_clear)
    return Budget(limit_for(memory()))


def limit_for(memory: int) -> int:
    """Return the bytes for decoding on a machine with so much memory."""
    return int(max(SHARE * memory, min(LEAST_MEMORY, LEAST_SHARE * memory)))


def memory() -> int:
    """Return the memory of this process in bytes: the least of machine, group and own limit."""
    limits = [1 << 34]
    if hasattr(os, "sysconf"):
        limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for file in _CGROUPS:
        with suppress(OSError, ValueError):
            limits.append(int(Path(file).read_text()))
    if resource is not None:
        for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA):
            limit, _ = resource.getrlimit(kind)
            limits += [limit] if limit != resource.RLIM_INFINITY else []
    return min(limits)


def _try_places(folder: Path, wanted: int, total: int) -> list[int] | None:
    """Take so many places or none: nobody holds some and waits for others.

    None where no places are available.
    """
    held: list[int] = []
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.is_symlink() or folder.stat().st_uid != os.getuid():
            return None
        for n in range(total):
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            descriptor = os.open(folder / str(n), flags, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                continue
            held.append(descriptor)
            if len(held) == wanted:
                return held
    except OSError:
        _close(held)
        return None
    _close(held)
    return []


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _shown(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.0f} MB"

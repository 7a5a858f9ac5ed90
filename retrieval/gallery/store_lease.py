"""The one writer of a gallery in an object store, which has no lock files: who holds a lease.

The lease is an object that is changed by compare and swap (conditional puts), so that of two who
want it one gets it. It expires, is renewed by a thread while the writer lives, and its holder
writes nothing once it could not renew it in time (Gray and Cheriton 1989, "Leases"). It is an
object of its own, not a key in the table's config: there each renewal would write a manifest.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from retrieval.errors import GalleryError, GalleryWriteError
from retrieval.objects import ObjectChangedError, ObjectPath
from retrieval.text import one_sentence, unwritable, visible

LEASE_NAME = "writer.json"
LASTS, RENEWED_EVERY = 60.0, 15.0  # seconds
CLOCKS_APART = 20.0  # seconds by which another machine's clock may differ from ours
MOST_OF_A_LEASE = 4096
ASKED_EVERY = 0.5


@dataclass(frozen=True)
class _Held:
    """What the object says. until: seconds since 1970, of the holder's clock; 0 once released.

    process: what tells the holder from all other processes, where its system says so.
    """

    holder: str
    token: str
    until: float
    process: str = ""

    @classmethod
    def read(cls, content: bytes) -> _Held:
        try:
            data: Any = json.loads(content)
            holder, token, until = data["holder"], data["token"], float(data["until"])
            process = str(data.get("process", ""))[:200]
            return cls(visible(str(holder))[:200], str(token)[:64], until, process)
        except (ValueError, KeyError, TypeError, RecursionError):
            return cls("somebody", "", 0.0)

    def write(self) -> bytes:
        return json.dumps(self.__dict__).encode()

    @property
    def is_over(self) -> bool:
        """Whether it was released, its time is over, or its holder was here and is dead."""
        if time.time() > self.until + (CLOCKS_APART if self.until else 0):
            return True
        return _has_ended(self.process)


class WriterLease:
    """A lease that this process holds and renews until end()."""

    def __init__(self, place: ObjectPath, etag: str, held: _Held, began: float) -> None:
        self._place, self._etag, self._held = place, etag, held
        self._good_until = began + LASTS
        self._lost: str | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True, name="imgret-lease")
        self._thread.start()

    @classmethod
    def take(cls, folder: ObjectPath, wait: float) -> WriterLease:
        """Take the lease of a gallery. Raises GalleryError, naming who holds it, and OSError."""
        place, deadline = folder / LEASE_NAME, time.monotonic() + wait
        me = f"process {os.getpid()} on {socket.gethostname()}"
        while True:
            etag, other = "", None
            with contextlib.suppress(FileNotFoundError, ValueError):
                content, facts = place.read_with_facts(MOST_OF_A_LEASE)
                etag, other = facts.etag, _Held.read(content)
            if other is None or other.is_over:
                began, until = time.monotonic(), time.time() + LASTS
                ours = _Held(me, secrets.token_hex(8), until, _named(os.getpid()))
                with contextlib.suppress(ObjectChangedError):
                    return cls(place, place.put(ours.write(), over=etag), ours, began)
            elif time.monotonic() >= deadline:
                left = other.until + CLOCKS_APART - time.time()
                raise GalleryError(
                    f"{folder} is being written by {other.holder}. Wait until it is done, or stop "
                    f"it and wait {left:.0f} seconds; what it has stored stays."
                )
            time.sleep(ASKED_EVERY)

    def check(self) -> None:
        """Raise GalleryWriteError where the lease was lost, or could not be renewed in time."""
        reason = self._lost
        if reason is None and time.monotonic() > self._good_until:
            reason = "it could not be renewed in time"
        if reason is not None:
            raise GalleryWriteError(
                f"The lease on {self._place.parent} is lost: {reason}. What was stored stays. Run "
                "the same command again."
            )

    def end(self) -> None:
        """Give the lease back."""
        self._ended.set()
        self._thread.join()
        if self._lost is None:
            with contextlib.suppress(OSError):
                self._place.put(_Held(self._held.holder, "", 0.0).write(), over=self._etag)

    def _renew(self) -> None:
        while not self._ended.wait(RENEWED_EVERY):
            began, until = time.monotonic(), time.time() + LASTS
            renewed = replace(self._held, until=until)
            try:
                self._etag = self._place.put(renewed.write(), over=self._etag)
                self._good_until = began + LASTS
            except ObjectChangedError:
                if not self._is_ours():
                    self._lost = "another writer has taken it"
                    return
            except OSError:
                continue  # check() tells once the time is over

    def _is_ours(self) -> bool:
        """Whether a renewal arrived though its answer did not."""
        with contextlib.suppress(OSError, ValueError):
            content, facts = self._place.read_with_facts(MOST_OF_A_LEASE)
            if _Held.read(content).token == self._held.token:
                self._etag = facts.etag
                return True
        return False


def _named(process: int) -> str:
    """What tells a process of this machine from all others; "" where the system does not say."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        space = Path("/proc/self/ns/pid").stat().st_ino  # a container counts processes by itself
        began = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except (OSError, ValueError):
        return ""
    return f"{boot} {space} {process} {began[19]}"


def _has_ended(process: str) -> bool:
    """Whether a process was one of this machine, and is there no more."""
    parts, mine = process.split(" "), _named(os.getpid()).split(" ")
    if len(parts) != 4 or parts[:2] != mine[:2] or not parts[2].isdecimal():
        return False
    return _named(int(parts[2])) != process


@contextlib.contextmanager
def leased(folder: ObjectPath, wait: float) -> Iterator[WriterLease]:
    """Be the one writer to a gallery in a store.

    Raises GalleryError where there is another still after so many seconds, and GalleryWriteError
    where the store refuses what is written.
    """
    try:
        lease = WriterLease.take(folder, wait)
    except OSError as error:
        raise GalleryWriteError(str(unwritable(folder, error))) from error
    try:
        yield lease
    except OSError as error:
        if not str(error.filename or "").startswith(str(folder)):
            raise
        raise GalleryWriteError(
            f"{folder} cannot be written ({error.strerror or one_sentence(error)}), and nothing "
            "that was stored is lost. Run the same command again."
        ) from error
    finally:
        lease.end()


def is_leased(folder: ObjectPath) -> bool:
    """Tell whether somebody holds the lease; False if that cannot be told."""
    try:
        return not _Held.read((folder / LEASE_NAME).read_with_facts(MOST_OF_A_LEASE)[0]).is_over
    except (OSError, ValueError):
        return False

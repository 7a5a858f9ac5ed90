"""Workers that are processes of this machine. Each has its share of the cores."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import count, pairwise
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as ready_of
from typing import Any, NoReturn

from retrieval.cluster.child import start_child
from retrieval.cluster.cores import counting_only
from retrieval.cluster.workers import Duty, Told
from retrieval.errors import ImgretError, ProcessError

SECONDS_TO_END, SECONDS_TO_DIE = 2.0, 0.1  # of all that are told to; of one that has said so
_SERVE = "retrieval.cluster.processes:serve_jobs"


class Processes:
    """Workers as processes, at most one for each share.

    work: what they do. shares: the numbers of the cores that each may use, none where the system
    cannot tell. devices: a value of CUDA_VISIBLE_DEVICES for each share, or none.
    """

    def __init__(
        self, work: Duty, shares: Sequence[Sequence[int]], devices: Sequence[str] = ()
    ) -> None:
        self._work = work
        self._shares = list(shares)
        self._devices = devices
        self._free = list(range(len(shares)))[::-1]
        self._numbers = count()
        self._members: dict[int, _Member] = {}

    def start(self) -> int:
        """Start one more worker; return its number."""
        share, number = self._free.pop(), next(self._numbers)
        device = {"CUDA_VISIBLE_DEVICES": self._devices[share]} if self._devices else {}
        process, connection = start_child(_SERVE, device)
        self._members[number] = _Member(process, connection, share)
        for message in (self._shares[share], self._work):
            self._send(number, message)
        return number

    def submit(self, worker: int, job: Any) -> None:
        """Give a job to a worker that is ready."""
        self._send(worker, job)

    def wait(self, seconds: float) -> list[Told]:
        """Wait until any worker tells something, for so many seconds at most."""
        heard = set(ready_of([member.connection for member in self._members.values()], seconds))
        found = []
        for number, member in list(self._members.items()):
            if member.connection in heard:
                told = _told(number, member.connection)
                how = self._forget(number) if told.kind in ("lost", "raised") else None
                found.append(replace(told, value=how) if told.kind == "lost" else told)
        return found

    def end(self) -> None:
        """End all workers at once."""
        for member in self._members.values():
            member.connection.close()  # which ends the process
        until = time.monotonic() + SECONDS_TO_END
        for number in list(self._members):
            self._forget(number, until)

    def _send(self, number: int, message: Any) -> None:
        with contextlib.suppress(OSError):  # it has ended, which wait() tells
            self._members[number].connection.send(message)

    def _forget(self, number: int, until: float = 0.0) -> str:
        """End a worker, and say how it ended."""
        member = self._members.pop(number)
        member.connection.close()
        try:
            code = member.process.wait(max(SECONDS_TO_DIE, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            member.process.kill()
            code = member.process.wait()
        self._free.append(member.share)
        return f"signal {-code}" if code < 0 else f"exit code {code}"


class _Member:
    """A process, the connection to it, and the number of its share."""

    def __init__(
        self, process: subprocess.Popen[bytes], connection: Connection, share: int
    ) -> None:
        self.process, self.connection, self.share = process, connection, share


def _told(number: int, connection: Connection) -> Told:
    try:
        return Told(number, *connection.recv())
    except (EOFError, OSError):
        return Told(number, "lost")


def shares_of_cores(n: int) -> list[list[int]]:
    """Divide the cores that this process may use among n workers; [] each where that is unknown."""
    if not hasattr(os, "sched_getaffinity"):
        return [[] for _ in range(n)]
    cores = sorted(os.sched_getaffinity(0))
    if n >= len(cores):
        return [[cores[place % len(cores)]] for place in range(n)]
    ends = [len(cores) * place // n for place in range(n + 1)]
    return [cores[start:end] for start, end in pairwise(ends)]


def serve_jobs(handle: int) -> NoReturn:
    """Do the jobs of the process at the other end of a socket; end when it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the one that gives the jobs
    connection = Connection(handle)
    jobs: queue.SimpleQueue[Any] = queue.SimpleQueue()
    try:
        with counting_only(connection.recv()):  # before the duty imports libraries
            work: Duty = connection.recv()
            threading.Thread(target=_receive, args=(connection, jobs), daemon=True).start()
            opened = work.open()
        connection.send(("ready", opened.facts))
        while True:
            job = jobs.get()
            done = opened.do(job, lambda n: connection.send(("progress", n)))
            connection.send(("done", done))
    except (EOFError, ConnectionError):
        os._exit(0)
    except Exception as error:  # noqa: BLE001  raised again at the other end
        with contextlib.suppress(OSError):
            connection.send(("raised", _as_sent(error)))
        os._exit(1)


def _receive(connection: Connection, jobs: queue.SimpleQueue[Any]) -> None:
    """Take jobs in, and end the process in the middle of one when nobody waits for it any more."""
    with contextlib.suppress(EOFError, OSError):
        while True:
            jobs.put(connection.recv())
    os._exit(0)


def _as_sent(error: Exception) -> Exception:
    """An error as it can be sent; others of ours say themselves what to do."""
    if isinstance(error, ImgretError):
        return error
    return ProcessError(
        f"A worker has failed ({type(error).__name__}: {error}). Run the same command again, or "
        "leave --cluster out."
    )

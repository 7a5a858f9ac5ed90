"""Work in threads that can be left behind: a slow picture stops neither the run nor its end.

A decoder in C cannot be interrupted, and Python waits at its end for threads that are not daemons.
So these are daemons. What takes too long is given up and its result replaced. Its thread runs on
unseen until it is done or the process ends, and another one takes its place. On Ctrl-C nobody waits
for them either, since the caller waits in Python, where the interrupt arrives at once.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from itertools import islice
from typing import Generic, TypeVar

CPU_SECONDS = 60.0  # of its own thread that one piece of work may take
WALL_SECONDS = 600.0  # that it may take in all, with waiting for a disk, a network or memory
LEAVING_SECONDS = 0.5  # to wait at the end for threads that may be done at any moment
_LOOK_SECONDS = 1.0

Item = TypeVar("Item")
Result = TypeVar("Result")


class _Job(Generic[Result]):
    """One piece of work: what to do, and later what came of it."""

    def __init__(self, work: Callable[[], Result]) -> None:
        self.work = work
        self.done = threading.Event()
        self.result: Result | None = None
        self.error: BaseException | None = None
        self.started: float | None = None
        self._clock: int | None = None
        self._cpu_before = 0.0

    def run(self) -> None:
        """Run the task in the thread that calls this."""
        self._clock = _own_clock()
        self._cpu_before = _read(self._clock)
        self.started = time.monotonic()
        try:
            self.result = self.work()
        except BaseException as error:  # noqa: BLE001  it is raised again where the result is asked for
            self.error = error
        self.done.set()

    def is_late(self, cpu_seconds: float) -> bool:
        """Whether the job has run for longer than it may."""
        if self.started is None or self.done.is_set():
            return False
        took_cpu = _read(self._clock) - self._cpu_before > cpu_seconds
        return took_cpu or time.monotonic() - self.started > WALL_SECONDS


class _Threads:
    """Daemon threads that take jobs from one queue."""

    def __init__(self, count: int, name: str) -> None:
        self._name = name
        self._jobs: queue.SimpleQueue[_Job[object] | None] = queue.SimpleQueue()
        self._lost: set[int] = set()  # places in _threads of those that were given up
        self._threads: list[threading.Thread] = []
        self._running: dict[int, _Job[object]] = {}
        for _ in range(count):
            self._start()

    def submit(self, job: _Job[object]) -> None:
        self._jobs.put(job)

    def give_up(self, job: _Job[object]) -> None:
        """Leave the thread that does this job to itself, and start another one."""
        for place, running in list(self._running.items()):
            if running is job:
                self._lost.add(place)
                self._start()

    def end(self, seconds: float) -> None:
        """Let all threads end after what they do now, and wait a little for them."""
        for _ in self._threads:
            self._jobs.put(None)
        until = time.monotonic() + seconds
        for place, thread in enumerate(self._threads):
            if place not in self._lost:
                thread.join(max(0.0, until - time.monotonic()))

    def _start(self) -> None:
        place = len(self._threads)
        thread = threading.Thread(
            target=self._work, args=(place,), daemon=True, name=f"{self._name}-{place}"
        )
        self._threads.append(thread)
        thread.start()

    def _work(self, place: int) -> None:
        while (job := self._jobs.get()) is not None and place not in self._lost:
            self._running[place] = job
            job.run()
            self._running.pop(place, None)
            del job  # its result may be large
            if place in self._lost:
                return


def map_ahead(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    late: Callable[[Item], Result],
    workers: int,
    ahead: int = 64,
    cpu_seconds: float = CPU_SECONDS,
    name: str = "imgret-decode",
    cost: Callable[[Item], int] = lambda _: 0,
    most_cost: int = 0,
) -> Generator[Result, None, None]:
    """Apply a function to each item, in order, at most `ahead` of them in advance.

    late: what stands in place of a result that takes more than cpu_seconds. What function raises
    is raised here. cost: of an item; no more than most_cost pays for are begun, but one always is.
    """
    todo, begun = iter(items), 0
    waiting: deque[tuple[Item, _Job[object]]] = deque()
    threads = _Threads(workers, name)

    def start(item: Item) -> None:
        job: _Job[object] = _Job(lambda: function(item))
        waiting.append((item, job))
        threads.submit(job)

    def fill() -> None:
        nonlocal begun
        while len(waiting) < ahead and (not waiting or begun <= most_cost):
            for item in islice(todo, 1):
                begun += cost(item)
                start(item)
                break
            else:
                return

    try:
        fill()
        while waiting:
            item, job = waiting.popleft()
            in_time = _wait(job, cpu_seconds)
            if not in_time:
                threads.give_up(job)
            begun -= cost(item)
            fill()
            yield _result(job) if in_time else late(item)  # type: ignore[misc]
    finally:
        for _, job in waiting:
            job.work = _nothing
        threads.end(LEAVING_SECONDS)


def in_time(
    function: Callable[[], Result], *, cpu_seconds: float = CPU_SECONDS, name: str = "imgret-decode"
) -> Result:
    """Call function() in a thread of its own, so that Ctrl-C is heeded. Raises TimeoutError."""
    job = _Job(function)
    threading.Thread(target=job.run, daemon=True, name=name).start()
    if not _wait(job, cpu_seconds):
        raise TimeoutError
    return _result(job)


class Background:
    """One daemon thread for calls, one after the other, that the caller may give up waiting for."""

    def __init__(self, name: str) -> None:
        self._threads = _Threads(1, name)

    def call(self, function: Callable[[], Result]) -> Result:
        """Call function() in that thread. An interrupt here leaves it behind."""
        job: _Job[Result] = _Job(function)
        self._threads.submit(job)  # type: ignore[arg-type]
        job.done.wait()
        return _result(job)

    def end(self) -> None:
        """Let the thread end."""
        self._threads.end(0.0)


def _wait(job: _Job[Result], cpu_seconds: float) -> bool:
    """Whether a job was done before it took too long."""
    look = min(_LOOK_SECONDS, cpu_seconds)
    while not job.done.wait(look):
        if job.is_late(cpu_seconds):
            return False
    return True


def _result(job: _Job[Result]) -> Result:
    if job.error is not None:
        raise job.error
    return job.result  # type: ignore[return-value]


def _nothing() -> None:
    """What is left to do of work that nobody waits for any more."""


def _own_clock() -> int | None:
    """The clock of the CPU time of this thread, which other threads can read; None without one."""
    if not hasattr(time, "pthread_getcpuclockid"):
        return None
    return time.pthread_getcpuclockid(threading.get_ident())


def _read(clock: int | None) -> float:
    """Seconds of CPU time on a thread's clock; of a thread that is gone, or without a clock, 0."""
    if clock is None:
        return 0.0
    try:
        return time.clock_gettime(clock)
    except OSError:
        return 0.0


def default_workers() -> int:
    """Return one thread per core that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

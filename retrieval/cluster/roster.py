"""Gives jobs to workers until all are done; a worker that is lost is replaced."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from retrieval.cluster.workers import Told, Workers
from retrieval.errors import ProcessError

SECONDS_A_LOOK = 1.0
MOST_LOST = 24  # workers in a row, with no job done in between; halving a part needs up to 19
MOST_UNOPENED = 3  # workers in a row that ended before they were ready

ENDED = "A worker has ended (%s); another one does its part again."
Assignment = TypeVar("Assignment")
_log = logging.getLogger("imgret")


@dataclass(frozen=True)
class JobNews(Generic[Assignment]):
    """What has come of a job, or of a worker.

    kind: "ready" (value: facts of a worker; job: None), "progress" (value: how much of a job is
    done), "done" (value: its result), "lost" (its worker has ended; what again() said follows), or
    "nothing" for a while.
    """

    kind: Literal["ready", "progress", "done", "lost", "nothing"]
    job: Assignment | None = None
    value: Any = None


def work_off(
    workers: Workers,
    jobs: Iterable[Assignment],
    *,
    count: int,
    again: Callable[[Assignment], Sequence[Assignment]],
) -> Iterator[JobNews[Assignment]]:
    """Have `count` workers do all jobs; give the news as they come.

    again: the jobs to do in place of one whose worker was lost. Raises what a worker raised, and
    ProcessError where workers end all the time.
    """
    roster = _Roster(workers, deque(jobs), again)
    while roster.has_work:
        roster.fill(count)
        told = workers.wait(SECONDS_A_LOOK)
        if not told:
            yield JobNews("nothing")
        for news in told:
            yield roster.heed(news)


class _Roster(Generic[Assignment]):
    """Who does what. todo: jobs that nobody does."""

    def __init__(
        self,
        workers: Workers,
        todo: deque[Assignment],
        again: Callable[[Assignment], Sequence[Assignment]],
    ) -> None:
        self._workers, self._todo, self._again = workers, todo, again
        self._opening: set[int] = set()
        self._idle: list[int] = []
        self._busy: dict[int, Assignment] = {}
        self._lost = self._unopened = 0

    @property
    def has_work(self) -> bool:
        return bool(self._todo or self._busy)

    def fill(self, count: int) -> None:
        """Give jobs to who has none, and start workers for jobs that are left."""
        while self._todo and self._idle:
            worker = self._idle.pop()
            self._busy[worker] = self._todo.popleft()
            self._workers.submit(worker, self._busy[worker])
        there = len(self._opening) + len(self._busy) + len(self._idle)
        for _ in range(min(count - there, len(self._todo) - len(self._opening))):
            self._opening.add(self._workers.start())

    def heed(self, told: Told) -> JobNews[Assignment]:
        """Take in what a worker told. Raises what it raised, and ProcessError."""
        worker = told.worker
        if told.kind == "raised":
            raise told.value
        if told.kind == "progress":
            return JobNews("progress", self._busy[worker], told.value)
        job = self._busy.pop(worker, None)
        if told.kind == "lost":
            return self._without(worker, job, told.value)
        if told.kind == "ready":
            self._opening.discard(worker)
        self._idle.append(worker)
        self._unopened = 0
        self._lost = 0 if told.kind == "done" else self._lost
        return JobNews(told.kind, job, told.value)

    def _without(self, worker: int, job: Assignment | None, how: str) -> JobNews[Assignment]:
        """Do without a worker that has ended."""
        if worker in self._opening:
            self._opening.remove(worker)
            self._unopened += 1
        elif worker in self._idle:
            self._idle.remove(worker)
        self._lost += 1
        if self._lost > MOST_LOST or self._unopened > MOST_UNOPENED:
            raise ProcessError(
                f"Workers end again and again ({how}), as they do where memory is short. Give "
                "fewer with --cluster-workers, or leave --cluster out."
            )
        if job is not None:
            _log.warning(ENDED, how)
            self._todo.extendleft(reversed(self._again(job)))
        return JobNews("lost", job)

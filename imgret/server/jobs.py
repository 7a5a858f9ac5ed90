"""Work that takes longer than a request: done once in the background, with progress."""

from __future__ import annotations

import queue
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any

from retrieval.progress import Progress

RESULTS_KEPT = 8


class ServiceEndedError(Exception):
    """The service ends, and so does its work in the background."""


@dataclass
class Job:
    """One piece of work. step, done, total: how far it is."""

    future: Future[Any]
    step: str = "waiting"
    done: int = 0
    total: int | None = None


class Jobs:
    """One thread for such work, and the last results, by what they are of."""

    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._jobs: OrderedDict[Hashable, Job] = OrderedDict()
        self._turn = threading.Lock()
        self._ended = False
        # a daemon: nobody waits for a map of an hour when the service ends
        threading.Thread(target=self._work, daemon=True, name="imgret-jobs").start()

    def ask(self, key: Hashable, work: Callable[[Progress], Any]) -> Job:
        """Return the job of a key, begun now if it is not there; one that failed is done again."""
        with self._turn:
            job = self._jobs.get(key)
            if job is None:
                job = Job(Future())
                self._jobs[key] = job
                self._waiting.put(partial(self._do, key, job, work))
            elif job.future.done() and job.future.exception() is not None:
                del self._jobs[key]
            while len(self._jobs) > RESULTS_KEPT:
                self._jobs.popitem(last=False)
        return job

    def end(self) -> None:
        """End what runs at its next step."""
        self._ended = True
        self._waiting.put(lambda: None)

    def _work(self) -> None:
        while not self._ended:
            self._waiting.get()()

    def _do(self, key: Hashable, job: Job, work: Callable[[Progress], Any]) -> None:
        def progress(step: str, done: int, total: int | None) -> None:
            if self._ended:
                raise ServiceEndedError
            job.step, job.done, job.total = step, done, total

        if self._jobs.get(key) is not job:  # nobody asks for it any more
            job.future.cancel()
            return
        try:
            job.future.set_result(work(progress))
        except BaseException as error:  # noqa: BLE001  a panic in Rust is no Exception
            kept = error if isinstance(error, Exception) else RuntimeError(str(error))
            job.future.set_exception(kept)

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
from retrieval.retriever import OpenGallery, Retriever

VERSIONS_KEPT, RESULTS_KEPT = 2, 8  # of a gallery, and of one of its versions


class ServiceEndedError(Exception):
    """The service ends, and so does its work in the background."""


@dataclass
class Job:
    """One piece of work. step, done, total: how far it is. version: what its result is of."""

    future: Future[Any]
    step: str = "waiting"
    done: int = 0
    total: int | None = None
    version: str = ""


@dataclass(frozen=True)
class JobKey:
    """What a job is of. topic: which work, and its details."""

    gallery: str
    version: str
    topic: Hashable


JobWork = Callable[[OpenGallery, Progress], Any]


class Jobs:
    """One thread for such work, and the results that were asked for last.

    Of each gallery it keeps those of VERSIONS_KEPT versions, and of each version RESULTS_KEPT.
    """

    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._jobs: OrderedDict[JobKey, Job] = OrderedDict()  # what was asked for last is last
        self._turn = threading.Lock()
        self._ended = False
        # a daemon: nobody waits for a map of an hour when the service ends
        threading.Thread(target=self._work, daemon=True, name="imgret-jobs").start()

    def ask(self, key: JobKey, retriever: Retriever, work: JobWork) -> Job:
        """Return the job of a key, begun now if it is not there; one that failed is done again.

        work: called with the gallery as it is then, which may be a later version: job.version.
        """
        with self._turn:
            job = self._jobs.get(key)
            if job is None:
                job = Job(Future())
                self._keep(key, job)
                self._waiting.put(partial(self._do, key, job, retriever, work))
            elif job.future.done() and job.future.exception() is not None:
                del self._jobs[key]
            else:
                self._jobs.move_to_end(key)
        return job

    def end(self) -> None:
        """End what runs at its next step."""
        self._ended = True
        self._waiting.put(lambda: None)

    def _keep(self, key: JobKey, job: Job) -> None:
        """Hold a job, and drop those that were not asked for longest."""
        self._jobs[key] = job
        self._jobs.move_to_end(key)
        alike = [each for each in self._jobs if each.gallery == key.gallery]
        versions = list(dict.fromkeys(each.version for each in reversed(alike)))[:VERSIONS_KEPT]
        for each in alike:
            same = sum(other.version == each.version for other in alike if other in self._jobs)
            if each.version not in versions or same > RESULTS_KEPT:
                del self._jobs[each]

    def _work(self) -> None:
        while not self._ended:
            self._waiting.get()()

    def _do(self, key: JobKey, job: Job, retriever: Retriever, work: JobWork) -> None:
        def progress(step: str, done: int, total: int | None) -> None:
            if self._ended:
                raise ServiceEndedError
            job.step, job.done, job.total = step, done, total

        if self._jobs.get(key) is not job:  # nobody asks for it any more
            job.future.cancel()
            return
        try:
            with retriever.open() as gallery:
                job.version = gallery.version
                result = work(gallery, progress)
            with self._turn:  # who asks for the version that it is of finds it, too
                self._keep(JobKey(key.gallery, job.version, key.topic), job)
            job.future.set_result(result)
        except BaseException as error:  # noqa: BLE001  a panic in Rust is no Exception
            kept = error if isinstance(error, Exception) else RuntimeError(str(error))
            job.future.set_exception(kept)

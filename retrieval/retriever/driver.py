"""A run of index that many workers do: planned, divided into parts, committed by this process.

The driver holds the gallery's lock, reads no image and encodes none. Workers stage the rows of new
files; what has a row already, or the content of one, comes back to the driver, whose Writer decides
as in a run without workers. So both runs store the same rows.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from retrieval.cluster import Processes, Workers, work_off
from retrieval.cluster.processes import shares_of_cores
from retrieval.cluster.roster import JobNews
from retrieval.encoder import Encoder
from retrieval.gallery import Settings
from retrieval.gallery.plans import PlanFile, PlannedFile
from retrieval.gallery.staged import StagedRows, commit_staged, reserve_ids
from retrieval.interrupts import interrupts_wait
from retrieval.loader import read_undecoded
from retrieval.retriever.cluster_asked import ClusterAsked
from retrieval.retriever.encoders import EncoderChoice
from retrieval.retriever.engine_proof import EngineProof
from retrieval.retriever.parts import DEADLY, OddFile, Part, PartResult, PartWork
from retrieval.retriever.plan import Plan, Task
from retrieval.retriever.writer import FAILURES_SHOWN, Reading, Writer
from retrieval.threads import default_workers

MOST_IN_PART, MOST_IN_PART_OF_GPU, LEAST_IN_PART = 4_096, 65_536, 64  # images
PARTS_A_WORKER = 12  # so that none waits long for the last one
CORES_A_WORKER = 4  # more threads in one encoder gain less than another encoder does
ROWS_A_COMMIT, SECONDS_A_COMMIT = 1 << 18, 20.0


@dataclass(frozen=True)
class Team:
    """Who does the tasks of a run, and how they open its encoder."""

    asked: ClusterAsked
    settings: Settings
    choice: EncoderChoice

    def run_tasks(self, plan: Plan, writer: Writer, encoder: Encoder, reading: Reading) -> None:
        """Have all tasks read, encoded and committed. An interrupt commits what is whole.

        Raises what writer.run_tasks() does; BackboneError for a worker that encodes otherwise, and
        ProcessError where workers cannot be kept.
        """
        if not plan.tasks:
            return
        start, table = time.monotonic(), writer.table
        version, ids = table.version, reserve_ids(table, len(plan.tasks))
        batch = reading.batch_size or encoder.batch_size
        count, size = self._divided(len(plan.tasks), encoder, batch)
        written = PlanFile.write(table.path.parent, _planned(plan.tasks, ids, size))
        work = PartWork(
            table=table.path, version=version, plan=written.path, settings=self.settings,
            asked=self.choice.asked, engine=encoder.engine, trust=self.choice.trust,
            ours=table.is_ours, batch_size=reading.batch_size, threads=reading.workers,
            max_pixels=reading.max_pixels,
        )  # fmt: skip
        driver = _Driver(plan.tasks, writer, EngineProof.of(encoder), reading)
        with contextlib.ExitStack() as ended:
            ended.callback(written.delete)
            workers = self._workers(work, count, encoder)
            ended.callback(workers.end)
            ended.callback(driver.finish, start)
            parts = _parts(len(plan.tasks), size)
            for news in work_off(workers, parts, count=count, again=driver.again):
                with interrupts_wait():
                    driver.heed(news)
            with interrupts_wait():
                driver.end_suspicion()

    def _divided(self, tasks: int, encoder: Encoder, batch: int) -> tuple[int, int]:
        """How many workers there are, and how many images a part has."""
        on_gpu = encoder.engine == "torch-cuda-bf16"
        count = self.asked.workers or (len(_gpus()) if on_gpu else _worth_starting())
        most = MOST_IN_PART_OF_GPU if on_gpu else MOST_IN_PART
        size = max(LEAST_IN_PART, -(-tasks // (PARTS_A_WORKER * count)))
        size = min(most, -(-size // batch) * batch)
        return min(count, -(-tasks // size)), size

    def _workers(self, work: PartWork, count: int, encoder: Encoder) -> Workers:
        devices = _gpus() if encoder.engine == "torch-cuda-bf16" else []
        devices = [devices[place % len(devices)] for place in range(count)] if devices else []
        return Processes(work, shares_of_cores(count), devices)


class _Driver:
    """Takes in what workers tell, and commits it.

    tasks: of the plan, in its order. proof: how this process encodes.
    """

    def __init__(
        self, tasks: Sequence[Task], writer: Writer, proof: EngineProof, reading: Reading
    ) -> None:
        self._tasks, self._writer, self._proof = tasks, writer, proof
        self._progress, self._done = reading.progress, 0
        self._partly: dict[Part, int] = {}
        self._staged: list[StagedRows] = []
        self._failed: list[tuple[int, str, str]] = []
        self._suspected: list[Part] = []  # single images whose worker was lost
        self._last = time.monotonic()
        self._tell()

    def heed(self, news: JobNews[Part]) -> None:
        """Take in what has come; commit where it is time to."""
        if news.kind == "ready":
            self._proof.check(news.value)
        if news.job is not None:
            self._partly.pop(news.job, None)
            if news.kind == "progress":
                self._partly[news.job] = news.value
            elif news.kind == "done":
                self._take(news.job, news.value)
            self._tell()
        if self._is_due:
            self.commit()

    def again(self, part: Part) -> list[Part]:
        """Say what to do in place of a part whose worker was lost.

        The first time, the same. The second time a child looks first for images that end a process.
        Where that does not help, halves of it; in the end it is a single image.
        """
        part = replace(part, deaths=part.deaths + 1)
        if part.deaths < 2 or not part.is_probed:
            return [replace(part, is_probed=part.deaths > 1)]
        if len(part) > 1:
            return part.halves()
        self._suspected.append(part)
        return []

    def end_suspicion(self) -> None:
        """Give the suspected images their rows: other parts were done, so it is their fault."""
        for suspect in self._suspected:
            loaded = read_undecoded(self._tasks[suspect.start].file, DEADLY)
            self._take_odd(OddFile(suspect.start, loaded, None))
            self._done += 1
        self._suspected = []

    def commit(self) -> None:
        """Store what was taken since the last commit."""
        staged, self._staged = self._staged, []  # first: what fails may have been committed
        commit_staged(self._writer.table, staged)
        self._writer.commit()
        self._last = time.monotonic()

    def finish(self, start: float) -> None:
        """Store what is left, also when the run ends early."""
        with interrupts_wait():
            self.commit()
            tally = self._writer.tally
            failures = [(path, reason) for _, path, reason in sorted(self._failed)]
            tally.failures[:] = (tally.failures + failures)[:FAILURES_SHOWN]
            tally.seconds = time.monotonic() - start

    @property
    def _is_due(self) -> bool:
        waiting = sum(staged.rows for staged in self._staged)
        late = time.monotonic() - self._last > SECONDS_A_COMMIT
        return waiting >= ROWS_A_COMMIT or self._writer.due or (late and waiting > 0)

    def _take(self, part: Part, result: PartResult) -> None:
        tally = self._writer.tally
        tally.encoded += result.encoded
        tally.failed += len(result.failed)
        tally.added += result.staged.rows - len(result.failed)
        self._failed = sorted(self._failed + result.failed)[:FAILURES_SHOWN]
        self._staged.append(result.staged)
        for odd in result.odd:
            self._take_odd(odd)
        self._done += len(part)
        self.end_suspicion()

    def _take_odd(self, odd: OddFile) -> None:
        self._writer.take(self._tasks[odd.place], odd.loaded, odd.embedding)

    def _tell(self) -> None:
        if self._progress:
            done = self._done + sum(self._partly.values())
            self._progress("encoding", done, len(self._tasks))


def _planned(tasks: Sequence[Task], ids: range, size: int) -> Iterator[PlannedFile]:
    for place, (task, id_) in enumerate(zip(tasks, ids, strict=True)):
        file = task.file
        yield PlannedFile(
            id_, place // size, file.path.absolute(), task.path, task.root, file.size,
            file.mtime_ns, task.label, file.error, task.stored is not None,
        )  # fmt: skip


def _parts(tasks: int, size: int) -> list[Part]:
    return [Part(start, min(start + size, tasks)) for start in range(0, tasks, size)]


def _worth_starting() -> int:
    """How many encoders keep all cores busy."""
    cores = default_workers()
    return max(min(cores, 2), cores // CORES_A_WORKER)


def _gpus() -> list[str]:
    """Names of the GPUs as CUDA_VISIBLE_DEVICES has them."""
    if named := os.environ.get("CUDA_VISIBLE_DEVICES"):
        return named.split(",")
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]

"""A run of index that many workers do: planned, divided into parts, committed by this process.

The driver holds the gallery's lock, reads no image and encodes none. Workers stage the rows of new
files; what has a row already, or the content of one, comes back to the driver, whose Writer decides
as in a run without workers. So both runs store the same rows.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from retrieval.cluster import work_off
from retrieval.cluster.roster import JobNews
from retrieval.encoder import Encoder
from retrieval.gallery import Settings
from retrieval.gallery.plans import PlanFile, PlannedFile
from retrieval.gallery.settings import read_text
from retrieval.gallery.staged import StagedRows, commit_staged, reserve_ids
from retrieval.interrupts import interrupts_wait
from retrieval.loader import read_undecoded
from retrieval.retriever.cluster_asked import ClusterAsked
from retrieval.retriever.crew import open_crew
from retrieval.retriever.encoders import EncoderChoice
from retrieval.retriever.engine_proof import EngineProof
from retrieval.retriever.parts import DEADLY, OddFile, Part, PartResult, PartWork
from retrieval.retriever.plan import Plan
from retrieval.retriever.publish import without_index
from retrieval.retriever.tasks import Task
from retrieval.retriever.writer import FAILURES_SHOWN, Reading, Writer
from retrieval.words import Engine

ROWS_A_COMMIT, SECONDS_A_COMMIT = 1 << 18, 20.0
SECONDS_HELD = 120.0  # that a part may wait for one before it


@dataclass(frozen=True)
class Team:
    """Who does the tasks of a run, and how they open its encoder."""

    asked: ClusterAsked
    settings: Settings
    choice: EncoderChoice

    def run_tasks(
        self, plan: Plan, writer: Writer, encoder: Encoder, reading: Reading
    ) -> Engine | None:
        """Have all tasks read, encoded and committed. An interrupt commits what is whole.

        Returns the engine of the workers where it is not that of this process. Raises what
        writer.run_tasks() does; BackboneError for a worker that encodes otherwise, and ProcessError
        where workers cannot be kept.
        """
        if not plan.tasks:
            return None
        start, table = time.monotonic(), writer.table
        driver = _Driver(plan.tasks, writer, EngineProof.of(encoder), reading)
        with contextlib.ExitStack() as ended:
            stored = read_text(table.settings, table.path).engine if table.count() else None
            crew = ended.enter_context(open_crew(self.asked, encoder, self.choice.engine, stored))
            if crew.engine != encoder.engine:  # first, so that the same command continues with it
                table.write_settings(without_index(replace(self.settings, engine=crew.engine)))
            version, ids = table.version, reserve_ids(table, len(plan.tasks))
            size = crew.part_size(len(plan.tasks), reading.batch_size or encoder.batch_size)
            written = PlanFile.write(table.path.parent, _planned(plan.tasks, ids, size))
            ended.callback(written.delete)
            work = PartWork(
                table=table.path, version=version, plan=written.path, settings=self.settings,
                asked=self.choice.asked, engine=crew.engine, trust=self.choice.trust,
                ours=table.is_ours, batch_size=reading.batch_size, threads=reading.workers,
                max_pixels=reading.max_pixels,
            )  # fmt: skip
            workers = crew.workers(work)
            ended.callback(workers.end)
            ended.callback(driver.finish, start)
            parts = _parts(len(plan.tasks), size)
            for news in work_off(workers, parts, count=crew.count, again=driver.again):
                with interrupts_wait():
                    driver.heed(news)
            with interrupts_wait():
                driver.end_suspicion()
        return None if crew.engine == encoder.engine else crew.engine


class _Driver:
    """Takes in what workers tell, and commits it.

    tasks: of the plan, in its order. proof: how this process encodes.
    """

    def __init__(
        self, tasks: Sequence[Task], writer: Writer, proof: EngineProof, reading: Reading
    ) -> None:
        self._tasks, self._writer, self._proof = tasks, writer, proof
        self._progress, self._done = reading.progress, 0
        self._told = -1
        self._of_workers: EngineProof | None = None
        self._partly: dict[Part, int] = {}
        self._held = _Held()
        self._staged: list[StagedRows] = []
        self._failed: list[tuple[int, str, str]] = []
        self._suspected: list[Part] = []  # single images whose worker was lost
        self._last = time.monotonic()
        self._tell()

    def heed(self, news: JobNews[Part]) -> None:
        """Take in what has come; commit where it is time to."""
        if news.kind == "ready":
            self._check(news.value)
        if news.job is not None:
            self._partly.pop(news.job, None)
            if news.kind == "progress":
                self._partly[news.job] = news.value
            elif news.kind == "done":
                self._held.add(news.job, news.value)
                self._done += len(news.job)
                self.end_suspicion()
            self._tell()
        for result in self._held.next_ones(late=time.monotonic() - self._last > SECONDS_HELD):
            self._take(result)
        if self._is_due:
            self.commit()

    def _check(self, proof: EngineProof) -> None:
        """Raise BackboneError unless a worker encodes as the first one does, and that as we do.

        Where only the workers have a GPU, the first one's engine is another than ours.
        """
        if self._of_workers is not None:
            self._of_workers.check(proof)
        elif proof.engine == self._proof.engine:
            self._proof.check(proof)
        else:
            proof.check_kin(self._proof)
        self._of_workers = self._of_workers or proof

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
            self._held.add(suspect, PartResult(odd=[OddFile(suspect.start, loaded, None)]))
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
            for result in self._held.next_ones(late=True):
                self._take(result)
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

    def _take(self, result: PartResult) -> None:
        tally = self._writer.tally
        tally.encoded += result.encoded
        tally.failed += len(result.failed)
        tally.added += result.staged.rows - len(result.failed)
        self._failed = sorted(self._failed + result.failed)[:FAILURES_SHOWN]
        self._staged.append(result.staged)
        for odd in result.odd:
            self._writer.take(self._tasks[odd.place], odd.loaded, odd.embedding)

    def _tell(self) -> None:
        done = self._done + sum(self._partly.values())
        if self._progress and done != self._told:
            self._progress("encoding", done, len(self._tasks))
        self._told = done


class _Held:
    """What came of parts, held back until all before them have come.

    So rows lie in the order of the plan, as those of a run without workers do, and answers among
    equal scores are the same.
    """

    def __init__(self) -> None:
        self._results: dict[int, tuple[Part, PartResult]] = {}
        self._next = 0

    def add(self, part: Part, result: PartResult) -> None:
        """Hold what came of a part."""
        self._results[part.start] = part, result

    def next_ones(self, *, late: bool) -> list[PartResult]:
        """Return those that are next and hold them no more; where it is late, all."""
        found = []
        while self._results and (late or min(self._results) <= self._next):
            part, result = self._results.pop(min(self._results))
            self._next = max(self._next, part.end)
            found.append(result)
        return found


def _planned(tasks: Sequence[Task], ids: range, size: int) -> Iterator[PlannedFile]:
    for place, (task, id_) in enumerate(zip(tasks, ids, strict=True)):
        file = task.file
        yield PlannedFile(
            id_, place // size, file.path.absolute(), task.path, task.root, file.size,
            file.mtime_ns, task.label, file.error, file.etag, task.stored is not None,
        )  # fmt: skip


def _parts(tasks: int, size: int) -> list[Part]:
    return [Part(start, min(start + size, tasks)) for start in range(0, tasks, size)]

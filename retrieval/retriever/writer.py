"""The long part of a run of index: decode, encode and commit what is new or changed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from retrieval.arguments import whole
from retrieval.encoder import Encoder
from retrieval.gallery import ImageTable, Row, facts_of
from retrieval.gallery.contents import Contents
from retrieval.gallery.plans import PlannedFile
from retrieval.gallery.rows import embedding_fits
from retrieval.gallery.stored_rows import StoredRow, tells_changes_after
from retrieval.images import DEFAULT_MAX_PIXELS
from retrieval.interrupts import interrupts_wait
from retrieval.loader import Loaded, load_images
from retrieval.progress import Progress
from retrieval.retriever.batches import encode_batches
from retrieval.retriever.plan import Plan
from retrieval.retriever.tasks import Task
from retrieval.words import Engine

ROWS_PER_COMMIT = 2048
SECONDS_PER_COMMIT = 20.0
NOT_FINITE = "its embedding is not finite in half precision"
FAILURES_SHOWN = 20
MOST_IN_BATCH, MOST_WORKERS = 1 << 14, 1 << 10


@dataclass(frozen=True)
class Reading:
    """How images are read and encoded; None where the program works it out."""

    batch_size: int | None = None
    workers: int | None = None
    max_pixels: int = DEFAULT_MAX_PIXELS
    progress: Progress | None = None

    @classmethod
    def asked(
        cls,
        batch_size: int | None,
        workers: int | None,
        max_pixels: int,
        progress: Progress | None = None,
    ) -> Reading:
        """Check arguments. Raises ArgumentError."""  # fmt: skip
        return cls(
            None if batch_size is None else whole("batch_size", batch_size, most=MOST_IN_BATCH),
            None if workers is None else whole("workers", workers, most=MOST_WORKERS),
            whole("max_pixels", max_pixels),
            progress,
        )


@dataclass
class Tally:
    """The counts so far."""

    added: int = 0
    changed: int = 0
    moved: int = 0
    touched: int = 0
    failed: int = 0
    reused: int = 0
    relabelled: int = 0
    encoded: int = 0
    seconds: float = 0.0
    failures: list[tuple[str, str]] = field(default_factory=list)


class Writer:
    """Collects rows and commits them; what is committed survives any crash.

    before: the table as it was, for a row that this run replaces may still be copied from.
    contents: of the rows that may be copied or moved. is_gone: whether the file of a stored path is
    not there. A row whose file is gone while its content is found elsewhere is moved there.
    keeps_set: whether the label of such a row stays where a user has set it.
    found_again: the stored paths of such rows.
    """

    def __init__(
        self,
        table: ImageTable,
        before: ImageTable,
        contents: Contents,
        is_gone: Callable[[str], bool],
        *,
        keeps_set: bool = True,
    ) -> None:
        self.table = table
        self.tally = Tally()
        self.found_again: set[str] = set()
        self._before = before
        self._contents = contents
        self._is_gone = is_gone
        self._keeps_set = keeps_set
        self._committed: dict[str, int] = {}  # SHA-256 -> id of a usable row of this run
        self._rows: list[Row] = []
        self._copies: dict[int, int] = {}
        self._touched: list[tuple[int, Task, Loaded]] = []
        self._left: list[int] = []  # rows that moved into the place of another one
        self._last = time.monotonic()
        self._replaces = False

    @classmethod
    def begin(
        cls,
        table: ImageTable,
        contents: Contents,
        is_gone: Callable[[str], bool] = lambda _: False,
        *,
        keeps_set: bool = True,
    ) -> Writer:
        """Open a writer to a table as it is now."""
        return cls(table, table.frozen(), contents, is_gone, keeps_set=keeps_set)

    def is_known(self, sha256: str) -> bool:
        """Tell whether an embedding of this content is stored."""
        return next(self._usable(sha256), None) is not None

    def take(self, task: Task, loaded: Loaded, embedding: np.ndarray | None) -> None:
        """Count one file and keep its row for the next commit."""
        tally, old = self.tally, task.stored
        if self._is_touched(task, loaded) or self._is_moved(task, loaded, embedding):
            return
        row = row_of_file(task, loaded, embedding)
        if embedding is not None:
            tally.encoded += 1
        elif row.error is None:
            tally.reused += 1
            self._copies[len(self._rows)] = next(self._usable(loaded.sha256))
        if row.error is not None:
            tally.failed += 1
            if len(tally.failures) < FAILURES_SHOWN:
                tally.failures.append((task.path, row.error))
        elif old is None:
            tally.added += 1
        else:
            tally.changed += 1
        self._replaces |= old is not None
        self._rows.append(row)

    @property
    def due(self) -> bool:
        """Tell whether it is time to commit."""
        waiting = len(self._rows) + len(self._touched)
        late = time.monotonic() - self._last > SECONDS_PER_COMMIT
        return waiting >= ROWS_PER_COMMIT or (late and waiting > 0)

    def commit(self) -> None:
        """Store what was taken since the last commit."""
        rows = self._numbered(self._with_copies(self._rows))
        replaces, self._replaces = self._replaces, True  # if this is interrupted and done again
        self.table.write(rows, replace=replaces)
        self._committed |= {r.sha256: r.id for r in rows if r.embedding is not None}
        if self._touched:
            self.table.update(
                {
                    "id": [i for i, _, _ in self._touched],
                    "label_set": [task.label_set for _, task, _ in self._touched],
                    "path": [task.path for _, task, _ in self._touched],
                    "root": [task.root for _, task, _ in self._touched],
                    "size": [loaded.size for _, _, loaded in self._touched],
                    "mtime_ns": [loaded.mtime_ns for _, _, loaded in self._touched],
                    "label": [task.label for _, task, _ in self._touched],
                    "stored_ns": [loaded.read_ns for _, _, loaded in self._touched],
                    "etag": [loaded.etag for _, _, loaded in self._touched],
                }
            )
        self.table.remove(self._left)  # only now: what moved is stored in its new place
        self._rows, self._copies, self._touched, self._replaces = [], {}, [], False
        self._left = []
        self._last = time.monotonic()

    def finish(self, plan: Plan, gone: Sequence[int]) -> None:
        """Store what needs no file: new labels, and dropped rows."""
        if plan.relabel or plan.unset:
            ids, labels = zip(*plan.relabel, *plan.unset, strict=True)
            unset = [False] * len(ids)
            self.table.update({"id": list(ids), "label": list(labels), "label_set": unset})
            self.tally.relabelled += len(plan.relabel)
        self.table.remove(gone)

    def _is_touched(self, task: Task, loaded: Loaded) -> bool:
        """Whether the file's content is what is stored of it; then its row stays."""
        old = task.stored
        if old is None or not old.usable:
            return False
        same = self._contents.rows.ids[self._contents.places(loaded.sha256)]
        if not (same == old.id).any():
            return False
        self.tally.touched += 1
        if _is_news(old, task, loaded):
            self.tally.relabelled += old.label != task.label
            self._touched.append((old.id, task, loaded))
        return True

    def _is_moved(self, task: Task, loaded: Loaded, embedding: np.ndarray | None) -> bool:
        """Whether the file's row is that of a file of this content that is gone.

        Where another row is stored for the file already, or a new one is needed, that of the file
        which is gone is dropped.
        """
        ghost = self._ghost(loaded.sha256)
        if ghost is None:
            return False
        if task.stored is not None or embedding is not None:
            self._left.append(ghost.id)
            return False
        if ghost.label_set and self._keeps_set:
            task = replace(task, label=ghost.label, label_set=True)
        self.tally.moved += loaded.error is None
        self.tally.failed += loaded.error is not None
        self.tally.relabelled += ghost.label != task.label
        self._touched.append((ghost.id, task, loaded))
        return True

    def _ghost(self, sha256: str) -> StoredRow | None:
        """A row of this content whose file is gone; each is given once."""
        rows = self._contents.rows
        for place in map(int, self._contents.places(sha256)):
            path = rows.path(place)
            if path not in self.found_again and self._is_gone(path):
                self.found_again.add(path)
                return rows.row(place)
        return None

    def _usable(self, sha256: str) -> Iterator[int]:
        """Ids of rows that have an embedding of this content."""
        if sha256 in self._committed:
            yield self._committed[sha256]
        rows = self._contents.rows
        for place in map(int, self._contents.places(sha256)):
            if rows.is_usable(place):
                yield int(rows.ids[place])

    def _with_copies(self, rows: list[Row]) -> list[Row]:
        """Rows whose content is stored already, with the embedding of the row that has it."""
        if not self._copies:
            return rows
        sources = np.unique(list(self._copies.values()))
        names = ["id", "embedding", "width", "height", "facts", "checksum"]
        known = self.table.rows_by_id(sources, names) | self._before.rows_by_id(sources, names)
        for place, source in self._copies.items():
            row = known[source]
            embedding = np.asarray(row["embedding"], np.float16)
            rows[place] = replace(
                rows[place],
                embedding=embedding,
                damaged=not embedding_fits(embedding, row["checksum"]),
                width=row["width"],
                height=row["height"],
                facts=facts_of(row["facts"]),
            )
        return rows

    def _numbered(self, rows: Sequence[Row]) -> list[Row]:
        ids = self.table.next_ids(len(rows))
        return [replace(r, id=i) for i, r in zip(ids, rows, strict=True)]


def _is_news(old: StoredRow, task: Task, loaded: Loaded) -> bool:
    """Whether the row of a file of unchanged content has anything to be changed."""
    facts = old.size, old.mtime_ns, old.root, old.label, old.label_set
    if facts != (loaded.size, loaded.mtime_ns, task.root, task.label, task.label_set):
        return True
    if loaded.etag:  # it was read again since the row has another one
        return True
    trusted = tells_changes_after(loaded.mtime_ns, old.stored_ns)
    return not trusted and tells_changes_after(loaded.mtime_ns, loaded.read_ns)


TaskRunner = Callable[[Plan, Writer, Encoder, Reading], Engine | None]
"""What run_tasks() is: reads, encodes and commits all tasks of a plan.

Returns the engine that encoded, where it is not that of this process.
"""


def run_tasks(plan: Plan, writer: Writer, encoder: Encoder, reading: Reading) -> None:
    """Read, encode and commit all tasks. An interrupt commits what is encoded, then goes on up."""
    batch_size, progress = reading.batch_size or encoder.batch_size, reading.progress
    start, total = time.monotonic(), len(plan.tasks)
    if progress:
        progress("encoding", 0, total)
    loaded = load_images(
        (task.file for task in plan.tasks),
        encoder.spec.preprocessing,
        is_known=writer.is_known,
        max_pixels=reading.max_pixels,
        workers=reading.workers,
        ahead=2 * batch_size + 8,
    )
    tasks, done = iter(plan.tasks), 0
    try:
        for batch in encode_batches(loaded, encoder, batch_size, most=ROWS_PER_COMMIT):
            with interrupts_wait():
                for item, embedding in batch:
                    writer.take(next(tasks), item, embedding)
                    if writer.due:
                        writer.commit()
            done += len(batch)
            if progress:
                progress("encoding", done, total)
    finally:
        with interrupts_wait():
            writer.commit()
            writer.tally.seconds = time.monotonic() - start
            loaded.close()


def row_of_file(
    task: Task | PlannedFile, loaded: Loaded, embedding: np.ndarray | None, id_: int = -1
) -> Row:
    """Make the row of a file that was read. embedding: (d,) float32, or None for one without.

    An embedding that half precision cannot hold is an error of the row.
    """
    error, half = loaded.error, None
    if embedding is not None:
        with np.errstate(over="ignore"):
            half = embedding.astype(np.float16)
        if not np.isfinite(half).all():
            half, error = None, NOT_FINITE
    return Row(
        id=id_,
        path=task.path,
        root=task.root,
        size=loaded.size,
        mtime_ns=loaded.mtime_ns,
        sha256=loaded.sha256,
        width=loaded.width,
        height=loaded.height,
        label=task.label,
        embedding=half,
        error=error,
        facts=loaded.facts,
        stored_ns=loaded.read_ns,
        etag=loaded.etag,
        label_set=task.label_set,
    )

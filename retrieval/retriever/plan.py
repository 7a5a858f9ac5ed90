"""What a run of index has to do: found files compared with stored rows."""

from __future__ import annotations

import csv
import io
import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from retrieval.errors import DataError
from retrieval.files import opened
from retrieval.gallery import Gallery, ImageTable, storable
from retrieval.gallery.filter import INDEXED, UNSETTLED
from retrieval.images import ImageFile, find_images
from retrieval.progress import Progress
from retrieval.text import one_sentence

MAX_LABELS_BYTES = 1 << 30
MOST_LABELS, MOST_OF_A_STRANGER = 50_000_000, 1_000_000
CLOCK_NS = 20_000_000  # the clock that stamps files runs behind ours by up to a tick or two
COARSE_NS = 2_000_000_000  # the tick of FAT; others, such as old network shares, have a second


@dataclass(frozen=True, slots=True)
class StoredRow:
    """A row as it was when the run began, without its embedding.

    usable: has an embedding. settled: need not be tried again while the file is the same; what
    could not be read, or took more than was allowed then, is not. stored_ns: when the file was
    last read and found to be what the row says.
    """

    id: int
    root: str
    size: int
    mtime_ns: int
    sha256: str
    label: str | None
    stored_ns: int
    usable: bool
    settled: bool

    def is_of(self, file: ImageFile) -> bool:
        """Tell whether size and time say that the file is still what was stored.

        Not where it was written to no earlier than it was read: the time stamp may hide a later
        change then (git's "racily clean" entries).
        """
        same = (self.size, self.mtime_ns) == (file.size, file.mtime_ns) and file.error is None
        return same and tells_changes_after(file.mtime_ns, self.stored_ns)


def tells_changes_after(mtime_ns: int, read_ns: int) -> bool:
    """Tell whether a change of a file after it was read gives it a later time stamp.

    A stamp of whole seconds may be of a file system that knows no others.
    """
    tick = CLOCK_NS + (0 if mtime_ns % 10**9 else COARSE_NS)
    return mtime_ns < read_ns - tick


@dataclass(frozen=True, slots=True)
class Task:
    """One file that has to be read."""

    file: ImageFile
    path: str
    root: str
    label: str | None
    stored: StoredRow | None


@dataclass
class Plan:
    """Files to read, rows to relabel, rows whose files are gone, and what needs nothing.

    gone: path and row of what was not found below the given paths. searched: the given paths as
    they are stored, each with the number of files found below it.
    passed_over: files of formats that are not read, counted by their suffix.
    """

    tasks: list[Task] = field(default_factory=list)
    relabel: list[tuple[int, str | None]] = field(default_factory=list)
    gone: dict[str, StoredRow] = field(default_factory=dict)
    searched: dict[str, int] = field(default_factory=dict)
    unchanged: int = 0
    failed: int = 0
    passed_over: Counter[str] = field(default_factory=Counter)

    @property
    def passed_over_by_kind(self) -> tuple[tuple[str, int], ...]:
        """Suffixes of what was passed over and how often, the most frequent first."""
        kinds = sorted(self.passed_over.items(), key=lambda kind: (-kind[1], kind[0].lower()))
        return tuple(kinds)


def read_rows(table: ImageTable | None) -> dict[str, StoredRow]:
    """Read the stored rows by path."""
    if table is None:
        return {}
    names = ["id", "path", "root", "size", "mtime_ns", "sha256", "label", "stored_ns"]
    columns = table.columns(names)
    usable = set(table.columns(["id"], INDEXED)["id"].to_pylist())
    retried = set(table.columns(["id"], UNSETTLED)["id"].to_pylist())
    rows: dict[str, StoredRow] = {}
    for batch in columns.to_batches():
        for values in zip(*(batch[n].to_pylist() for n in names), strict=True):
            i, path, root, size, mtime_ns, sha256, label, stored_ns = values
            rows[path] = StoredRow(
                i, sys.intern(root), size, mtime_ns, sha256, label, stored_ns,
                usable=i in usable, settled=i not in retried,
            )  # fmt: skip
    return rows


def make_plan(
    gallery: Gallery,
    rows: dict[str, StoredRow],
    paths: Sequence[Path],
    label_of: Callable[[Path], str | None],
    *,
    exclude: Sequence[str] = (),
    include_hidden: bool = False,
    checksum: bool = False,
    progress: Progress | None = None,
) -> Plan:
    """Walk the paths once and sort what is found, by names, sizes and times alone.

    checksum: read also the files whose size and time are those stored.
    """
    check_paths(paths)
    plan, seen, unread = Plan(), set(), []
    roots = {path: storable(gallery.stored_root(path)) for path in map(Path, paths)}
    plan.searched = dict.fromkeys(roots.values(), 0)
    roots_above = gallery.roots_above(plan.searched)
    found = find_images(
        list(roots),
        exclude=exclude,
        include_hidden=include_hidden,
        known=lambda path: gallery.stored(path) in rows,
        passed_over=partial(_count, plan.passed_over),
    )
    for file in found:
        if gallery.path in file.path.absolute().parents:
            continue
        path, root = storable(gallery.stored(file.path)), roots[file.root]
        seen.add(path)
        plan.searched.update({root: plan.searched[root] + 1 for root in roots_above(path)})
        if file.error is not None:
            unread.append(path)
        label = storable(label_of(file.path))
        _sort(plan, Task(file, path, root, label, rows.get(path)), checksum=checksum)
        if progress and len(seen) % 100 == 0:
            progress("finding", len(seen), None)
    unread_folders = tuple(f"{path}/" for path in unread)
    for path, row in rows.items():
        if path not in seen and roots_above(path) and not path.startswith(unread_folders):
            plan.gone[path] = row
    return plan


def check_paths(paths: Sequence[Path]) -> None:
    """Raise DataError for the first path that does not exist."""
    for path in paths:
        if not path.exists() and not path.is_symlink():
            raise DataError(f"{path} does not exist. Give folders or image files that exist.")


def labels_from(source: str, most: int = MOST_LABELS) -> Callable[[Path], str | None]:
    """path -> label: "folder" for the name of the folder that holds it, "none", or a CSV file.

    A CSV file has the columns path and label; its paths are relative to its own folder. most: rows
    that it may have.
    """
    if source == "none":
        return lambda _: None
    if source == "folder":
        return lambda path: path.absolute().parent.name or None
    file = Path(source)
    labels = _read_csv(file, most)
    return lambda path: labels.get(str(path.parent.resolve() / path.name))


def _read_csv(file: Path, most: int) -> dict[str, str]:
    try:
        with opened(file) as data, io.TextIOWrapper(data, "utf-8-sig", newline="") as stream:
            if os.fstat(data.fileno()).st_size > MAX_LABELS_BYTES:
                raise ValueError(f"it is larger than {MAX_LABELS_BYTES:,} bytes")
            reader = csv.DictReader(stream)
            if not {"path", "label"} <= set(reader.fieldnames or ()):
                raise DataError(
                    f"{file} does not name its columns. Add a first line with path and label."
                )
            labels: dict[str, str] = {}
            resolved: dict[str, str] = {}  # folder -> itself without links
            base = file.absolute().parent
            for number, row in enumerate(reader):
                if number == most:
                    raise ValueError(f"it has more than {most:,} rows")
                folder, slash, name = (row["path"] or "").replace(os.sep, "/").rpartition("/")
                if folder + slash not in resolved:
                    resolved[folder + slash] = str(Path(base, folder + slash).resolve() / "_")[:-1]
                labels[resolved[folder + slash] + name] = sys.intern(row["label"] or "")
            return {path: label for path, label in labels.items() if label}
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(
            f"The labels {file} cannot be read ({one_sentence(error)}). Give --labels folder, "
            "none, or a CSV file with the columns path and label."
        ) from error


def _sort(plan: Plan, task: Task, *, checksum: bool) -> None:
    row = task.stored
    if row is None or checksum or not row.is_of(task.file) or not row.settled:
        plan.tasks.append(task)
    else:
        plan.unchanged += row.usable
        plan.failed += not row.usable
        if row.label != task.label:
            plan.relabel.append((row.id, task.label))


def _count(counts: Counter[str], suffix: str) -> None:
    """Count a suffix, written as it was seen first."""
    spelling = next((known for known in counts if known.lower() == suffix.lower()), suffix)
    counts[spelling] += 1

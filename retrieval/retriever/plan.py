"""What a run of index has to do: found files compared with stored rows, folder by folder.

No file costs an object: at a million files that is the difference between seconds and minutes.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path

from retrieval.errors import DataError
from retrieval.files import is_there
from retrieval.gallery import Gallery, storable
from retrieval.gallery.stored_rows import StoredRow, StoredRows, folder_of, prefix_of
from retrieval.images import FoundFile, FoundFolder, find_folders
from retrieval.objects import place_of
from retrieval.progress import Progress
from retrieval.retriever.labels import Labels
from retrieval.retriever.seen_paths import SeenPaths
from retrieval.retriever.tasks import TaskFolder, Tasks

TOLD_EVERY = 100  # files


@dataclass
class Plan:
    """Files to read, rows to relabel, rows whose files are gone, and what needs nothing.

    keeps_set: whether labels that a user has set stay. unset: rows to relabel whose label is the
    same, but is not the user's any more.
    gone: path and row of what was not found below the given paths. searched: the given paths as
    they are stored, each with the number of files found below it.
    passed_over: files of formats that are not read, counted by their suffix.
    """

    tasks: Tasks = field(default_factory=Tasks)
    keeps_set: bool = True
    relabel: list[tuple[int, str | None]] = field(default_factory=list)
    unset: list[tuple[int, str | None]] = field(default_factory=list)
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


def make_plan(
    gallery: Gallery,
    rows: StoredRows,
    paths: Sequence[Path],
    labels: Labels,
    *,
    exclude: Sequence[str] = (),
    include_hidden: bool = False,
    checksum: bool = False,
    keeps_set: bool = True,
    progress: Progress | None = None,
) -> Plan:
    """Walk the paths once and sort what is found, by names, sizes and times alone.

    checksum: read also the files whose size and time are those stored. keeps_set: as in Plan.
    """
    check_paths(paths)
    join = _Join(
        gallery, rows, list(map(place_of, paths)), labels, progress, checksum=checksum,
        keeps_set=keeps_set,
    )  # fmt: skip
    folders = find_folders(
        list(join.roots),
        exclude=exclude,
        include_hidden=include_hidden,
        known=join.places_in,
        passed_over=partial(_count, join.plan.passed_over),
        as_stored=join.shard_as_stored,
    )
    for folder in folders:
        place = folder.path.absolute()
        if gallery.path not in (place, *place.parents):
            join.add(folder)
    join.end()
    return join.plan


def check_paths(paths: Sequence[Path]) -> None:
    """Raise DataError for the first path that does not exist, or may not be looked at."""
    for path in paths:
        try:
            found = is_there(path)
        except PermissionError as error:
            raise DataError(
                f"{path} cannot be looked at ({error.strerror}). Give folders that you may read."
            ) from error
        if not found:
            raise DataError(f"{path} does not exist. Give folders or image files that exist.")


class _Join:
    """Joins found folders with the stored rows of the same folders. plan: what comes of it."""

    def __init__(
        self,
        gallery: Gallery,
        rows: StoredRows,
        paths: Sequence[Path],
        labels: Labels,
        progress: Progress | None,
        *,
        checksum: bool,
        keeps_set: bool,
    ) -> None:
        self._gallery, self._rows, self._labels = gallery, rows, labels
        self._progress, self._checksum = progress, checksum
        self.roots = {path: storable(gallery.stored_root(path)) for path in paths}
        searched = dict.fromkeys(self.roots.values(), 0)
        self.plan = Plan(Tasks(rows), keeps_set=keeps_set, searched=searched)
        self._roots_above = gallery.roots_above(self.plan.searched)
        self._roots_in: dict[str, set[str]] = defaultdict(set)  # prefix -> names of given paths
        for root in self.plan.searched:
            outer, slash, name = root.rpartition("/")
            self._roots_in[outer + slash].add(name)
        self._seen = bytearray(len(rows))  # 1 at the place of each row that was found
        # paths that were found and have no row: a folder is walked once, but lists may repeat
        self._new = None if all(path.is_dir() for path in paths) else SeenPaths()
        self._unread: list[str] = []
        self._found = 0
        # Files that are given by name come one by one, mostly from the same folder.
        self.stored_folder = lru_cache(4)(lambda at: storable(gallery.stored_folder(at)))
        self.places_in = lru_cache(4)(lambda at: rows.places_in(prefix_of(self.stored_folder(at))))

    def shard_as_stored(self, path: Path, etag: str) -> list[FoundFolder]:
        """Return the folders of a shard as they are stored, if it is the one that was read."""
        if self._checksum:
            return []
        top = prefix_of(storable(self._gallery.stored_root(path)))
        return [
            FoundFolder(path / prefix[len(top) :].rstrip("/"), path, files)
            for prefix, files in self._rows.below(top, etag)
        ]

    def add(self, folder: FoundFolder) -> None:
        """Sort the files of a folder."""
        at, places = self.stored_folder(folder.path), self.places_in(folder.path)
        prefix, label_of = prefix_of(at), self._labels.in_folder(folder.path)
        given, below = self._roots_in.get(prefix, ()), 0
        read_in = TaskFolder(folder.path, folder.root, prefix, self.roots[folder.root])
        for file in folder.files:
            self._tell()
            name = file.name if file.error is None else storable(file.name)
            place, label = places.get(name), label_of(file.name)
            if file.label is not None and self._labels.by_folder:
                label = file.label or None
            if place is not None and self._is_kept(place):
                label = self._rows.label(place)
            path = prefix + name
            if not self._is_found(path, place) and (
                place is None or not self._needs_nothing(place, file, label)
            ):
                self._add_task(read_in, file, path, label, place)
            if file.error is None and name not in given:
                below += 1
            else:
                self._count(self._roots_above(path), 1)
        self._count(self._roots_above(at), below)

    def end(self) -> None:
        """Find the rows below the given paths that no folder had."""
        rows, seen, unread = self._rows, self._seen, self._gallery.roots_above(self._unread)
        for prefix in rows.folders_besides(seen):
            folder, given = folder_of(prefix), self._roots_in.get(prefix, ())
            below = self._roots_above(folder)
            if not (below or given) or unread(folder):
                continue
            for name, place in rows.places_in(prefix).items():
                if not seen[place] and (below or name in given):
                    self.plan.gone[prefix + name] = rows.row(place)

    def _is_found(self, path: str, place: int | None) -> bool:
        """Whether a path was found before in this run, as what two lists name may be."""
        if place is not None:
            return bool(self._seen[place])
        return self._new is not None and not self._new.add(path)

    def _needs_nothing(self, place: int, file: FoundFile, label: str | None) -> bool:
        """Whether a row is that of the file as it is; its label is all that may change then."""
        rows, plan = self._rows, self.plan
        self._seen[place] = 1
        if self._checksum or file.error or not rows.is_unchanged(place, file):
            return False
        if rows.is_usable(place):
            plan.unchanged += 1
        else:
            plan.failed += 1
        if rows.label(place) != label:
            plan.relabel.append((int(rows.ids[place]), label))
        elif rows.is_label_set(place) and not plan.keeps_set:
            plan.unset.append((int(rows.ids[place]), label))
        return True

    def _is_kept(self, place: int) -> bool:
        """Whether the label of a row stays, since a user has set it."""
        return self.plan.keeps_set and self._rows.is_label_set(place)

    def _add_task(
        self, folder: TaskFolder, file: FoundFile, path: str, label: str | None, place: int | None
    ) -> None:
        if file.error is not None:
            self._unread.append(path)
        kept = place is not None and self._is_kept(place)
        self.plan.tasks.add(folder, file, path, label, place, label_set=kept)

    def _count(self, roots: Sequence[str], files: int) -> None:
        for root in roots:
            self.plan.searched[root] += files

    def _tell(self) -> None:
        self._found += 1
        if self._progress and self._found % TOLD_EVERY == 0:
            self._progress("finding", self._found, None)


def _count(counts: Counter[str], suffix: str) -> None:
    """Count a suffix, written as it was seen first."""
    spelling = next((known for known in counts if known.lower() == suffix.lower()), suffix)
    counts[spelling] += 1

"""The rows of a table as columns, folder by folder, to be compared with what is found on the disk.

A row costs about 60 bytes and its file's name, and twice that while it is read. Only a row that is
asked for becomes an object.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from retrieval.gallery.filter import FAILED, UNSETTLED
from retrieval.gallery.reader import TableReader
from retrieval.gallery.rows import LABEL_SET
from retrieval.images import FoundFile

CLOCK_NS = 20_000_000  # the clock that stamps files runs behind ours by up to a tick or two
COARSE_NS = 2_000_000_000  # the tick of FAT; others, such as old network shares, have a second
ROWS_A_BATCH = 1 << 16
NUMBERS = ("id", "size", "mtime_ns", "stored_ns")


@dataclass(frozen=True, slots=True)
class StoredRow:
    """A row as it was when the run began, without its embedding.

    usable: has an embedding. stored_ns: when the file was last read and found to be what the row
    says. label_set: whether a user has set the label.
    """

    id: int
    root: str
    size: int
    mtime_ns: int
    label: str | None
    stored_ns: int
    usable: bool
    label_set: bool = False


def tells_changes_after(mtime_ns: int, read_ns: int) -> bool:
    """Tell whether a change of a file after it was read gives it a later time stamp.

    A stamp of whole seconds may be of a file system that knows no others.
    """
    tick = CLOCK_NS + (0 if mtime_ns % 10**9 else COARSE_NS)
    return mtime_ns < read_ns - tick


def prefix_of(folder: str) -> str:
    """Return what the stored paths of a stored folder's images begin with.

    >>> prefix_of("."), prefix_of("a/b"), prefix_of("/")
    ('', 'a/b/', '/')
    """
    return "" if folder == "." else f"{folder.rstrip('/')}/"


def folder_of(prefix: str) -> str:
    """Return the stored folder of what prefix_of() gave.

    >>> [folder_of(prefix) for prefix in ("", "a/b/", "/")]
    ['.', 'a/b', '/']
    """
    return prefix.rstrip("/") or prefix[:1] or "."


class StoredRows:
    """All rows of a table, each known by its place here: those of a folder follow each other."""

    def __init__(self, read: _Read) -> None:
        folder_codes = read.column("folder", np.int32)
        order = np.argsort(folder_codes, kind="stable")
        counts = np.bincount(folder_codes, minlength=len(read.folders))
        self._folders = read.folders
        self._prefixes = list(read.folders)
        self._starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        # One after the other, so that only one is held twice.
        self._names = read.texts("name").take(pa.array(order))
        self._etags = read.texts("etag").take(pa.array(order)) if read.has_etags else None
        self.ids = read.column("id", np.int64)[order]
        # A view of the data gives Python's numbers, and faster than an array gives its own.
        self._sizes = read.column("size", np.int64)[order].data
        self._mtimes = read.column("mtime_ns", np.int64)[order].data
        self._stored = read.column("stored_ns", np.int64)[order].data
        self._usable = read.column("usable", np.bool_)[order].data
        self._labels_set = read.column("label_set", np.bool_)[order].data
        self._settled = (~np.isin(self.ids, read.retried)).data
        self._roots = list(read.roots)
        self._root_codes = read.column("root", np.int32)[order].data
        self._labels = list(read.labels)
        self._label_codes = read.column("label", np.int32)[order].data

    @classmethod
    def read(cls, table: TableReader | None) -> StoredRows:
        """Read the rows of a table; None stands for one without rows. Raises GalleryError."""
        return cls(_Read(table))

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def prefixes(self) -> list[str]:
        """What prefix_of() gives of each folder that has rows."""
        return self._prefixes

    def places_in(self, prefix: str) -> dict[str, int]:
        """Return the names in a folder, given by prefix_of(), and their places.

        Of two rows of one path, which only a stranger's table has, the last counts.
        """
        number = self._folders.get(prefix)
        return {} if number is None else self._places_in(number)

    def is_unchanged(self, place: int, file: FoundFile) -> bool:
        """Tell whether size and time say that a file is still what was stored, and was readable.

        Of an object its size and etag say it.

        Not where it was written to no earlier than it was read: the time stamp may hide a later
        change then (git's "racily clean" entries). Nor where reading it may do better by now.
        """
        if file.size not in (-1, self._sizes[place]) or self._settled[place] != 1:
            return False
        if file.etag:
            return self._etags is not None and self._etags[place].as_py() == file.etag
        if self._mtimes[place] != file.mtime_ns:
            return False
        return tells_changes_after(file.mtime_ns, self._stored[place])

    def below(self, prefix: str, etag: str) -> list[tuple[str, list[FoundFile]]]:
        """Return what is stored below a prefix as files by folder, if all of it has one etag."""
        found = []
        for each in self._prefixes:
            if each.startswith(prefix):
                places = self.places_in(each)
                if self._etags is None or any(
                    self._etags[place].as_py() != etag for place in places.values()
                ):
                    return []
                files = [
                    FoundFile(name, self._sizes[place], 0, None, etag, self.label(place) or "")
                    for name, place in places.items()
                ]
                found.append((each, files))
        return found

    def is_usable(self, place: int) -> bool:
        """Tell whether a row has an embedding."""
        return bool(self._usable[place])

    def label(self, place: int) -> str | None:
        """Return the label of a row."""
        return self._labels[self._label_codes[place]]

    def is_label_set(self, place: int) -> bool:
        """Tell whether a user has set the label of a row."""
        return bool(self._labels_set[place])

    def path(self, place: int) -> str:
        """Return the stored path of a row."""
        number = int(np.searchsorted(self._starts, place, "right")) - 1
        return f"{self._prefixes[number]}{self._names[place].as_py()}"

    def row(self, place: int) -> StoredRow:
        """Return a row as an object."""
        return StoredRow(
            id=int(self.ids[place]),
            root=self._roots[self._root_codes[place]],
            size=self._sizes[place],
            mtime_ns=self._mtimes[place],
            label=self.label(place),
            stored_ns=self._stored[place],
            usable=self.is_usable(place),
            label_set=self.is_label_set(place),
        )

    def paths(self) -> Iterator[tuple[str, int]]:
        """Give all stored paths with their places."""
        return self.paths_besides(bytes(len(self)))

    def paths_besides(self, seen: bytes | bytearray) -> Iterator[tuple[str, int]]:
        """Give the stored paths, with their places, where seen has a zero at the place."""
        for prefix in self.folders_besides(seen):
            for name, place in self.places_in(prefix).items():
                if not seen[place]:
                    yield prefix + name, place

    def folders_besides(self, seen: bytes | bytearray) -> list[str]:
        """Return the prefixes of folders with rows at whose places seen has a zero."""
        places = np.flatnonzero(np.frombuffer(seen, np.uint8) == 0)
        numbers = np.unique(np.searchsorted(self._starts, places, "right") - 1)
        return [self._prefixes[number] for number in numbers]

    def among(self, paths: Iterable[str]) -> set[str]:
        """Return those of the paths that are stored."""
        names = defaultdict(set)
        for path in paths:
            folder, slash, name = path.rpartition("/")
            names[folder + slash].add(name)
        return {f"{f}{name}" for f, found in names.items() for name in found & {*self.places_in(f)}}

    def by_folder(self) -> Iterator[tuple[str, int]]:
        """Give the stored folders and how many rows each has."""
        for prefix, (start, end) in zip(self._prefixes, pairwise(self._starts), strict=True):
            yield folder_of(prefix), int(end - start)

    def by_root(self) -> Counter[str]:
        """Count the rows of each root."""
        counts = np.bincount(np.asarray(self._root_codes), minlength=len(self._roots))
        return Counter(dict(zip(self._roots, counts.tolist(), strict=True)))

    def _places_in(self, number: int) -> dict[str, int]:
        start, end = (int(self._starts[n]) for n in (number, number + 1))
        names = self._names.slice(start, end - start).to_pylist()
        return dict(zip(names, range(start, end), strict=True))


class _Read:
    """The columns of a table in the order in which it is stored; folders, roots, labels as codes.

    Each is given once and not held after. They are copies: a view of one column of what was read
    would hold the others.
    retried: ids of rows that could not be read, and may be another time.
    """

    def __init__(self, table: TableReader | None) -> None:
        self.folders: dict[str, int] = {}
        self.roots: dict[str, int] = {}
        self.labels: dict[str | None, int] = {}
        self.has_etags = False  # else they would cost memory for nothing
        self.retried = np.empty(0, np.int64)
        self._numbers: dict[str, bytearray] = defaultdict(bytearray)
        self._texts: dict[str, list[pa.Array]] = defaultdict(list)
        numbers, all_usable = self._numbers, True
        names = [*NUMBERS, "path", "root", "label", "error", "etag", LABEL_SET]
        for batch in table.batches(names, None, rows=ROWS_A_BATCH) if table else ():
            folders, files = _split(batch["path"])
            self._texts["name"].append(files)
            self._texts["etag"].append(_copied(batch["etag"]))
            self.has_etags |= batch["etag"].null_count < len(batch)
            numbers["folder"] += _codes(folders, self.folders).data
            numbers["root"] += _codes(batch["root"], self.roots).data
            numbers["label"] += _codes(batch["label"], self.labels).data
            numbers["usable"] += batch["error"].is_null().to_numpy(zero_copy_only=False).data
            all_usable &= batch["error"].null_count == len(batch)
            by_hand = batch[LABEL_SET].fill_null(False)  # noqa: FBT003  Arrow's
            numbers["label_set"] += by_hand.to_numpy(zero_copy_only=False).data
            for name in NUMBERS:
                numbers[name] += batch[name].to_numpy().data
        if table is not None and not all_usable:
            self.retried = table.columns(["id"], FAILED & UNSETTLED)["id"].to_numpy()

    def column(self, name: str, kind: type[np.generic]) -> np.ndarray:
        """Return a column of numbers, and hold it no more."""
        return np.frombuffer(self._numbers.pop(name, b""), kind)

    def texts(self, name: str) -> pa.Array:
        """Return a column of texts, and hold it no more."""
        parts = [pa.nulls(0), *self._texts.pop(name, ())]
        return pa.concat_arrays([part.cast(pa.large_string()) for part in parts])


def _split(paths: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Split paths at their last slash: folders with it, "" where there is none, and names."""
    parts = pc.split_pattern(paths, "/", max_splits=1, reverse=True)
    starts, ends = parts.offsets[:-1], parts.offsets[1:]
    first = pc.binary_join_element_wise(parts.values.take(starts), "", "/")
    folders = pc.if_else(pc.equal(pc.subtract(ends, starts), 2), first, "")
    return folders, parts.values.take(pc.subtract(ends, 1)).cast(pa.large_string())


def _codes(column: pa.Array, known: dict[Any, int]) -> np.ndarray:
    """The (n,) int32: the number of each value; values that are new are added to those known."""
    encoded = column.dictionary_encode(null_encoding="encode")
    numbers = [known.setdefault(value, len(known)) for value in encoded.dictionary.to_pylist()]
    return np.array(numbers, np.int32)[encoded.indices.to_numpy()]


def _copied(texts: pa.Array) -> pa.Array:
    """The texts alone; where there are none, without a buffer of their offsets."""
    if texts.null_count == len(texts):
        return pa.nulls(len(texts))
    return texts.take(pa.array(np.arange(len(texts))))

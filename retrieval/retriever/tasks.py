"""The files that a run of index has to read, in columns: an object for each would cost 600 bytes.

A file costs about 40 bytes, its name and, of an object, its etag. A folder costs about 30 bytes and
twice its path. Only a task that is asked for becomes an object.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar, overload

from retrieval.gallery.stored_rows import StoredRow, StoredRows
from retrieval.images import FoundFile, ImageFile

# What follows a name, each part behind _END, a byte that is in no UTF-8; and what takes a bit alone
_ETAG, _ERROR, _PATH, _LABEL_SET = 1, 2, 4, 8
_END = b"\xff"
_NEW, _GIVEN = -1, -2  # in place of the place of a row
FOLDERS_MADE = 8  # kept, since the files of a folder mostly follow each other


@dataclass(frozen=True, slots=True)
class Task:
    """One file that has to be read. label_set: whether a user has set its label."""

    file: ImageFile
    path: str
    root: str
    label: str | None
    stored: StoredRow | None
    label_set: bool = False


class TaskFolder(NamedTuple):
    """A folder of files to read, and the given path that led there.

    prefix: what the stored paths of the files begin with. stored_root: root as it is stored.
    """

    path: Path
    root: Path
    prefix: str
    stored_root: str


class Tasks(Sequence[Task]):
    """Tasks in the order in which they were added. rows: those that add() is told places of."""

    def __init__(self, rows: StoredRows | None = None) -> None:
        self._rows = rows
        self._folders = _Folders()
        self._labels = _Codes[str | None]()
        self._texts = _Texts()
        self._sizes, self._mtimes = array("q"), array("q")
        self._folder_codes, self._label_codes = array("i"), array("i")
        self._places, self._flags = array("i"), array("B")
        self._given: dict[int, StoredRow] = {}

    def __len__(self) -> int:
        return len(self._sizes)

    @overload
    def __getitem__(self, place: int) -> Task: ...

    @overload
    def __getitem__(self, place: slice) -> list[Task]: ...

    def __getitem__(self, place: int | slice) -> Task | list[Task]:
        if isinstance(place, slice):
            return [self._task(each) for each in range(len(self))[place]]
        return self._task(range(len(self))[place])

    def __iter__(self) -> Iterator[Task]:
        return map(self._task, range(len(self)))

    @property
    def new(self) -> int:
        """How many of the files have no row."""
        return self._places.count(_NEW)

    def new_sizes_among(self, sizes: Collection[int]) -> set[int]:
        """Return those of the sizes that a file without a row has."""
        if not sizes:
            return set()
        pairs = zip(self._sizes, self._places, strict=True)
        return {size for size, place in pairs if place == _NEW and size in sizes}

    def add(
        self,
        folder: TaskFolder,
        file: FoundFile,
        path: str,
        label: str | None,
        place: int | None,
        *,
        label_set: bool,
    ) -> None:
        """Add a file of a folder. path: as it is stored. place: of its row; None without one."""
        name, size, mtime_ns, error, etag, _ = file
        text, flags = _bytes(name), _LABEL_SET * label_set
        more = error, None if path == folder.prefix + name else path
        if etag is not None or more != (None, None):
            for value, flag in zip((etag, *more), (_ETAG, _ERROR, _PATH), strict=True):
                if value is not None:
                    text, flags = text + _END + _bytes(value), flags | flag
        self._texts.append(text)
        self._sizes.append(size)
        self._mtimes.append(mtime_ns)
        self._folder_codes.append(self._folders.add(folder))
        self._label_codes.append(self._labels.of(label))
        self._places.append(_NEW if place is None else place)
        self._flags.append(flags)

    def append(self, task: Task) -> None:
        """Add a task whose row is none of the known rows."""
        file, place = task.file, None
        if task.stored is not None:
            self._given[len(self)] = task.stored
            place = _GIVEN
        folder, slash, _ = task.path.rpartition("/")
        at = TaskFolder(file.path.parent, file.root, folder + slash, task.root)
        found = FoundFile(file.path.name, file.size, file.mtime_ns, file.error, file.etag)
        self.add(at, found, task.path, task.label, place, label_set=task.label_set)

    def _task(self, number: int) -> Task:
        folder = self._folders[self._folder_codes[number]]
        text, flags = self._texts[number], self._flags[number]
        etag = error = path = None
        if flags & (_ETAG | _ERROR | _PATH):
            text, *more = text.split(_END)
            left = map(_text, more)
            etag, error, path = (
                next(left) if flags & flag else None for flag in (_ETAG, _ERROR, _PATH)
            )
        name = _text(text)
        size, mtime_ns = self._sizes[number], self._mtimes[number]
        return Task(
            ImageFile(folder.path / name, folder.root, size, mtime_ns, error, etag),
            folder.prefix + name if path is None else path,
            folder.stored_root,
            self._labels.values[self._label_codes[number]],
            self._stored(number),
            bool(flags & _LABEL_SET),
        )

    def _stored(self, number: int) -> StoredRow | None:
        place = self._places[number]
        if place < 0 or self._rows is None:
            return self._given.get(number)
        return self._rows.row(place)


class _Folders:
    """Folders in columns: a run may find as many as files. One that follows itself is held once."""

    def __init__(self) -> None:
        self._texts = _Texts()  # path, _END, prefix
        self._root_codes = array("i")
        self._roots = _Codes[tuple[type[Path], type[Path], str, str]]()
        self._last: TaskFolder | None = None
        self._made: dict[int, TaskFolder] = {}

    def __getitem__(self, number: int) -> TaskFolder:
        made = self._made.get(number)
        if made is None:
            if len(self._made) >= FOLDERS_MADE:
                self._made.clear()
            made = self._made[number] = self._make(number)
        return made

    def add(self, folder: TaskFolder) -> int:
        """Take in a folder; return its number."""
        if folder is self._last:  # as for nearly every file
            return len(self._root_codes) - 1
        self._last = folder
        # in words: an address and a path may be equal as paths
        root = type(folder.path), type(folder.root), str(folder.root), folder.stored_root
        code, text = self._roots.of(root), _bytes(str(folder.path)) + _END + _bytes(folder.prefix)
        last = len(self._root_codes) - 1
        if last >= 0 and code == self._root_codes[last] and text == self._texts[last]:
            return last
        self._texts.append(text)
        self._root_codes.append(code)
        return last + 1

    def _make(self, number: int) -> TaskFolder:
        path, prefix = self._texts[number].split(_END)
        kind, root_kind, root, stored_root = self._roots.values[self._root_codes[number]]
        return TaskFolder(kind(_text(path)), root_kind(root), _text(prefix), stored_root)


class _Texts:
    """Texts one behind the other, and where each ends."""

    def __init__(self) -> None:
        self._all, self._ends = bytearray(), array("q", [0])

    def __getitem__(self, number: int) -> bytearray:
        return self._all[self._ends[number] : self._ends[number + 1]]

    def append(self, text: bytes) -> None:
        """Add a text behind the others."""
        self._all += text
        self._ends.append(len(self._all))


Value = TypeVar("Value")


class _Codes(Generic[Value]):
    """Values that many tasks have in common, each once."""

    def __init__(self) -> None:
        self.values: list[Value] = []
        self._numbers: dict[Value, int] = {}

    def of(self, value: Value) -> int:
        """Return the number of a value."""
        number = self._numbers.setdefault(value, len(self.values))
        if number == len(self.values):
            self.values.append(value)
        return number


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # as any name that Python may have comes back


def _text(data: bytearray) -> str:
    return data.decode("utf-8", "surrogatepass")

"""Which files below some paths are images, folder by folder, from one look at each name.

Here a file is its name, size and time: an object for each would cost more than the look.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import translate
from pathlib import Path
from typing import NamedTuple

from retrieval.errors import DataError, ImageError
from retrieval.files import modified_ns
from retrieval.images.entries import ObjectEntry, object_entries
from retrieval.images.formats import (
    has_image_suffix,
    os_reason,
    read_header,
    sniff,
    unread_content,
    unread_kind,
)
from retrieval.objects import ObjectPath
from retrieval.threads import map_ahead

ASKED_AT_ONCE, ASKED_AHEAD = 48, 1024  # objects, where a walk or a list does not tell enough
GALLERY_FOLDER = ".imgret"
# Folders in which machines keep what is theirs: NAS systems thumbnails, macOS what other file
# systems cannot store, Windows and NAS systems what was deleted and earlier states of the folder,
# ext4 what fsck found, Python what it compiled. "Recycled" may be a class of waste.
_BESIDE_PICTURES = {
    "@eadir", "@__thumb", ".@__thumb", "@tmp", ".appledouble", "__macosx", "#recycle", "@recycle",
    "$recycle.bin", "system volume information", "#snapshot", ".snapshot", "@recently-snapshot",
    "lost+found", "__pycache__", "~snapshot", "recycler", "msocache", "config.msi",
    "$windows.~bt", "network trash folder", "temporary items",
}  # fmt: skip
_FOUND_BY_CHKDSK = re.compile(r"found\.\d{3}")
_BAD_NAME = "its name is not valid UTF-8; rename it"


class FoundFile(NamedTuple):
    """A name in a folder: an image, or with an error what cannot be read; then the rest is 0.

    etag: of an object, or of the shard that an image lies in. size: -1 where only reading tells.
    label: what a shard or a list says, "" for none; None where neither says anything.
    """

    name: str
    size: int
    mtime_ns: int
    error: str | None = None
    etag: str | None = None
    label: str | None = None


@dataclass(frozen=True)
class FoundFolder:
    """A part of a folder's files. root: the given path that led here; path: as it was reached."""

    path: Path
    root: Path
    files: Iterable[FoundFile]


def find_folders(
    paths: Iterable[Path],
    *,
    exclude: Sequence[str] = (),
    include_hidden: bool = False,
    known: Callable[[Path], Collection[str]] | None = None,
    passed_over: Callable[[str], None] | None = None,
    as_stored: Callable[[Path, str], Sequence[FoundFolder]] = lambda _, __: (),
) -> Iterator[FoundFolder]:
    """Find the images of find_images(), which says what the arguments are, a folder at a time.

    as_stored: gives what is stored of a shard whose etag is the same, so that it is not read.

    The files are to be read before the next folder is asked for. One that was given by name, and a
    folder that cannot be listed, come alone, below the folder that holds them.
    """
    roots = [(path, _status(path)) for path in paths]
    wants = _Wants(known, passed_over or (lambda _: None), as_stored)
    return _find(roots, _skips(exclude, include_hidden=include_hidden), wants)


def subfolders(folder: Path) -> list[Path]:
    """List the folders in a folder that find_images enters, sorted by name. Raises DataError."""
    skips = _skips((), include_hidden=False)
    try:
        entries = _sorted_entries(folder)
    except OSError as error:
        raise DataError(f"{folder} cannot be listed ({os_reason(error)}). Check it.") from error
    return [folder / e.name for e in entries if _leads_to_folder(e) and not skips(e.name, "")]


_Folder = tuple[int | str, int]  # device and inode: the identity of a real folder
_Entry = os.DirEntry[str] | ObjectEntry
_HeaderOf = Callable[[_Entry], bytes]
_Skips = Callable[[str, str], bool]  # (name, folder's path below the root) -> leave it out?


@dataclass(frozen=True)
class _Wants:
    """Which files below a folder are images; see find_images."""

    known: Callable[[Path], Collection[str]] | None
    passed_over: Callable[[str], None]
    as_stored: Callable[[Path, str], Sequence[FoundFolder]]

    def by_name(self, entry: _Entry, folder: Path) -> bool | None:
        """Whether a name alone makes an image, or none; None where its content tells."""
        if has_image_suffix(entry.name):
            return True
        if unread_kind(entry.name) is not None:
            return False
        return True if self.known is not None and entry.name in self.known(folder) else None

    def __call__(self, entry: _Entry, folder: Path, header_of: _HeaderOf) -> bool:
        named = self.by_name(entry, folder)
        if named:
            return True
        kind = unread_kind(entry.name)
        if named is None:
            header = header_of(entry)
            if sniff(header) is not None and unread_content(header) is None:
                return True
            kind = unread_content(header)
        if kind is not None:
            self.passed_over(kind)
        return False


def _find(
    roots: list[tuple[Path, os.stat_result]], skips: _Skips, wants: _Wants
) -> Iterator[FoundFolder]:
    given = {_place(path) for path, status in roots if not stat.S_ISDIR(status.st_mode)}
    taken: dict[_Folder, set[str]] = defaultdict(set)
    for folder, name in given:
        taken[folder].add(name)
    walked: set[_Folder] = set()
    for root, status in roots:
        if not _is_utf8(str(root)):
            yield _alone(root, root, FoundFile(root.name, 0, 0, _BAD_NAME))
        elif stat.S_ISDIR(status.st_mode):
            yield from _walk(root, skips, wants, walked, taken)
        elif (place := _place(root)) in given:
            given.remove(place)
            if (folders := _inside(root, wants)) is not None:
                yield from folders
                continue
            etag = root.facts().etag if isinstance(root, ObjectPath) else None
            yield _alone(root, root, _described(root.name, status, etag))


def _inside(path: Path, wants: _Wants) -> Iterator[FoundFolder] | None:
    """The images of a shard or a list that was given by name; None where the file is neither."""
    from retrieval.images import shards  # which reads files as this does
    from retrieval.images.shards.lists import is_list, listed_folders

    try:
        if is_list(path):
            return listed_folders(path)
        if not shards.is_shard(path):
            return None
        stored = wants.as_stored(path, shards.shard_etag(path))
        return iter(stored or list(shards.shard_folders(path)))
    except (ImageError, OSError) as error:
        reason = str(error) if isinstance(error, ImageError) else os_reason(error)
        return iter([_alone(path, path, FoundFile(path.name, 0, 0, reason))])


def _walk(
    root: Path,
    skips: _Skips,
    wants: _Wants,
    walked: set[_Folder],
    taken: dict[_Folder, set[str]],
) -> Iterator[FoundFolder]:
    """Images below root, without the folders walked and the files taken elsewhere.

    Files come before subfolders, so that only one folder's entries are held at a time.
    """
    waiting = [(root, "")]
    while waiting:
        folder, below_root = waiting.pop()
        try:
            identity = _identity(folder)
            entries = [] if identity in walked else _sorted_entries(folder)
        except OSError as error:
            named = folder if folder.name not in ("", "..") else folder.resolve()
            reason = f"this folder cannot be listed: {os_reason(error)}"
            yield _alone(named, root, FoundFile(named.name, 0, 0, reason))
            continue
        walked.add(identity)
        files, below, elsewhere = [], [], taken.get(identity, ())
        for entry in entries:
            name = entry.name
            if skips(name, below_root):
                continue
            if _leads_to_folder(entry) and _is_utf8(name):
                below.append((folder / name, f"{below_root}{name}/"))
            elif name not in elsewhere:
                files.append(entry)
        if files:
            yield FoundFolder(folder, root, _look(files, folder, wants))
        waiting.extend(reversed(below))


def _alone(path: Path, root: Path, file: FoundFile) -> FoundFolder:
    return FoundFolder(path.parent, root, (file,))


def _look(entries: list[_Entry], folder: Path, wants: _Wants) -> Iterator[FoundFile]:
    """Look at the names in a folder that are no folders to enter."""
    with _headers(entries, folder, wants) as header_of:
        for entry in entries:
            name = entry.name
            if not _is_utf8(name):
                if _leads_to_folder(entry) or wants(entry, folder, header_of):
                    yield FoundFile(name, 0, 0, _BAD_NAME)
            elif wants(entry, folder, header_of):
                yield _described_entry(entry)


@contextlib.contextmanager
def _headers(entries: list[_Entry], folder: Path, wants: _Wants) -> Iterator[_HeaderOf]:
    """Give what reads the header of an entry; those of a store are read ahead, in this order."""
    asked = []
    if isinstance(folder, ObjectPath):
        asked = [entry for entry in entries if wants.by_name(entry, folder) is None]
    if len(asked) < 2:
        yield lambda entry: _header(entry, folder)
        return
    ahead = map_ahead(
        lambda entry: _header(entry, folder), asked, late=lambda _: b"",
        workers=min(len(asked), ASKED_AT_ONCE), ahead=ASKED_AHEAD, name="imgret-walk",
    )  # fmt: skip
    with contextlib.closing(ahead):
        yield lambda _: next(ahead)


def _described_entry(entry: _Entry) -> FoundFile:
    try:
        return _described(entry.name, entry.stat(), getattr(entry, "etag", None))
    except OSError as error:
        broken = isinstance(error, FileNotFoundError) and entry.is_symlink()
        reason = "a link to a file that does not exist" if broken else os_reason(error)
        return FoundFile(entry.name, 0, 0, reason)


def _described(name: str, status: os.stat_result, etag: str | None = None) -> FoundFile:
    if not stat.S_ISREG(status.st_mode):
        return FoundFile(name, 0, 0, "not a regular file")
    return FoundFile(name, status.st_size, modified_ns(status), etag=etag)


def _header(entry: _Entry, folder: Path) -> bytes:
    try:
        return read_header(folder / entry.name) if entry.is_file() else b""
    except OSError:
        return b""


def _skips(exclude: Sequence[str], *, include_hidden: bool) -> _Skips:
    patterns = re.compile("|".join(translate(glob.rstrip("/")) for glob in exclude))

    def skips(name: str, below_root: str) -> bool:
        lower = name.lower()
        hidden = name.startswith(".") or lower in _BESIDE_PICTURES
        hidden = hidden or _FOUND_BY_CHKDSK.fullmatch(lower) is not None
        if hidden and (not include_hidden or name == GALLERY_FOLDER):
            return True
        if not exclude:
            return False
        return bool(patterns.match(name) or patterns.match(below_root + name))

    return skips


def _status(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist. Check its spelling.") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({os_reason(error)}). Check it.") from error


def _place(path: Path) -> tuple[_Folder, str]:
    """Where a file's name stands: the same for every way to write its path."""
    return _identity(path.parent), path.name


def _identity(folder: Path) -> _Folder:
    if isinstance(folder, ObjectPath):
        return str(folder), 0
    status = folder.stat()
    return status.st_dev, status.st_ino


def _sorted_entries(folder: Path) -> list[_Entry]:
    if isinstance(folder, ObjectPath):
        return [*object_entries(folder)]
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _leads_to_folder(entry: _Entry) -> bool:
    """Tell whether an entry of a folder is a folder to enter; a link to one above it is none."""
    try:
        if not entry.is_dir():
            return False
        path = Path(entry.path)
        return not (entry.is_symlink() and path.parent.resolve().is_relative_to(path.resolve()))
    except OSError:  # a link that loops, or leads where we may not look
        return False


def _is_utf8(name: str) -> bool:
    if name.isascii():
        return True
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True

"""Which files are images: folders and files in, ImageFile out, one after the other.

A name with an image suffix is an image; any other is one if its first bytes say so. Pictures of
formats that are not read are passed over, and told of.
"""

import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import translate
from pathlib import Path

from retrieval.errors import DataError
from retrieval.files import modified_ns
from retrieval.images.formats import (
    has_image_suffix,
    os_reason,
    read_header,
    sniff,
    unread_content,
    unread_kind,
)

GALLERY_FOLDER = ".imgret"
# Folders in which NAS systems keep thumbnails, and macOS what other file systems cannot store.
_BESIDE_PICTURES = {"@eadir", "@__thumb", ".@__thumb", ".appledouble", "__macosx"}
_BAD_NAME = "its name is not valid UTF-8; rename it"


@dataclass(frozen=True)
class ImageFile:
    """A file that is to be indexed, or a name below a given path that cannot be read.

    path is as it was reached, not resolved; root is the path given by the user; size (bytes) and
    mtime_ns are 0 with an error, which says why the name cannot be read at all.
    """

    path: Path
    root: Path
    size: int
    mtime_ns: int
    error: str | None = None


def find_images(
    paths: Iterable[Path],
    *,
    exclude: Sequence[str] = (),
    include_hidden: bool = False,
    known: Callable[[Path], bool] | None = None,
    passed_over: Callable[[str], None] | None = None,
) -> Iterator[ImageFile]:
    """Find the images in folders, and take the files given by name as they are.

    A folder gives its files, sorted by name, then those of its subfolders. Links are followed, and
    each folder is entered once however many ways lead to it. Hidden names (leading dot) below a
    given path are passed over, and so are folders of thumbnails and resource forks (@eaDir,
    .AppleDouble, __MACOSX); galleries (.imgret) always.

    exclude: globs as fnmatch reads them (* crosses /), tried on a name and on its path below the
    given folder; an excluded folder is not entered. known: says of a file without an image suffix
    that it needs no look inside, because it is stored already. passed_over: told the suffix of
    each picture, video or document below a folder that is of a format which is not read.

    What cannot be read (a folder, a broken link with an image suffix) comes with an error. Raises
    DataError at once when a given path does not exist.
    """
    roots = [(path, _status(path)) for path in paths]
    wants = _Wants(known, passed_over or (lambda _: None))
    return _find(roots, _skips(exclude, include_hidden=include_hidden), wants)


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder that find_images enters, sorted by name. Raises DataError."""
    skips = _skips((), include_hidden=False)
    try:
        entries = _sorted_entries(folder)
    except OSError as error:
        raise DataError(f"{folder} cannot be listed ({os_reason(error)}). Check it.") from error
    return [folder / e.name for e in entries if _leads_to_folder(e) and not skips(e.name, e.name)]


_Folder = tuple[int, int]  # device and inode: the identity of a real folder
_Skips = Callable[[str, str], bool]  # (name, path below the root) -> leave it out?


@dataclass(frozen=True)
class _Wants:
    """Which files below a folder are images; see find_images."""

    known: Callable[[Path], bool] | None
    passed_over: Callable[[str], None]

    def __call__(self, entry: os.DirEntry[str], path: Path) -> bool:
        if has_image_suffix(path):
            return True
        kind = unread_kind(path)
        if kind is None:
            if self.known is not None and self.known(path):
                return True
            header = _header(entry, path)
            if sniff(header) is not None and unread_content(header) is None:
                return True
            kind = unread_content(header)
        if kind is not None:
            self.passed_over(kind)
        return False


def _find(
    roots: list[tuple[Path, os.stat_result]], skips: _Skips, wants: _Wants
) -> Iterator[ImageFile]:
    given = {_place(path): path for path, status in roots if not stat.S_ISDIR(status.st_mode)}
    walked: set[_Folder] = set()
    taken = set(given)
    for root, status in roots:
        if not _is_utf8(str(root)):
            yield ImageFile(root, root, 0, 0, _BAD_NAME)
        elif stat.S_ISDIR(status.st_mode):
            yield from _walk(root, skips, wants, walked, taken)
        elif given.pop(_place(root), None) is not None:
            yield _describe(root, root, status)


def _walk(
    root: Path,
    skips: _Skips,
    wants: _Wants,
    walked: set[_Folder],
    taken: set[tuple[_Folder, str]],
) -> Iterator[ImageFile]:
    """Images below root, without the folders walked and the files taken elsewhere.

    Files come before subfolders, so that only one folder's entries are held at a time.
    """
    waiting = [(root, "")]
    while waiting:
        folder, prefix = waiting.pop()
        try:
            identity = _identity(folder)
            entries = [] if identity in walked else _sorted_entries(folder)
        except OSError as error:
            yield ImageFile(folder, root, 0, 0, f"this folder cannot be listed: {os_reason(error)}")
            continue
        walked.add(identity)
        below = []
        for entry in entries:
            if skips(entry.name, prefix + entry.name):
                continue
            path = folder / entry.name
            if _leads_to_folder(entry):
                if _is_utf8(entry.name):
                    below.append((path, f"{prefix}{entry.name}/"))
                else:
                    yield ImageFile(path, root, 0, 0, _BAD_NAME)
            elif (identity, entry.name) not in taken and wants(entry, path):
                yield _look(entry, path, root)
        waiting.extend(reversed(below))


def _header(entry: os.DirEntry[str], path: Path) -> bytes:
    try:
        return read_header(path) if entry.is_file() else b""
    except OSError:
        return b""


def _look(entry: os.DirEntry[str], path: Path, root: Path) -> ImageFile:
    if not _is_utf8(entry.name):
        return ImageFile(path, root, 0, 0, _BAD_NAME)
    try:
        return _describe(path, root, entry.stat())
    except FileNotFoundError as error:
        broken = "a link to a file that does not exist"
        return ImageFile(path, root, 0, 0, broken if entry.is_symlink() else os_reason(error))
    except OSError as error:
        return ImageFile(path, root, 0, 0, os_reason(error))


def _describe(path: Path, root: Path, status: os.stat_result) -> ImageFile:
    if not stat.S_ISREG(status.st_mode):
        return ImageFile(path, root, 0, 0, "not a regular file")
    return ImageFile(path, root, status.st_size, modified_ns(status))


def _skips(exclude: Sequence[str], *, include_hidden: bool) -> _Skips:
    patterns = re.compile("|".join(translate(glob.rstrip("/")) for glob in exclude) or r"(?!)")

    def skips(name: str, below_root: str) -> bool:
        hidden = name.startswith(".") or name.lower() in _BESIDE_PICTURES
        if name == GALLERY_FOLDER or (hidden and not include_hidden):
            return True
        return bool(patterns.match(name) or patterns.match(below_root))

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
    status = folder.stat()
    return status.st_dev, status.st_ino


def _sorted_entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _leads_to_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that loops, or leads where we may not look
        return False


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True

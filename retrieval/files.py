"""Files and folders that are replaced whole or not at all, and are on the disk when that is said.

An object of a store is both by itself: the same functions write and read it.

A new file is made beside the old one under a name of ours, synced and renamed, and then its folder
is synced. A process that dies, or a machine that loses power, leaves the old one or the new one
(Pillai et al. 2014, "All file systems are not created equal"). While a file is being made its maker
holds a lock on it, so that what a killed process left is told from what is still being written.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from io import BufferedReader, BytesIO
from pathlib import Path

from retrieval.claims import PREFIX, is_abandoned, new_file, new_scratch
from retrieval.objects import ObjectChangedError, ObjectPath, place_of

try:
    import fcntl
except ImportError:  # Windows, which deletes and renames no file that is open
    fcntl = None  # type: ignore[assignment]

RENAMES_TRIED, PAUSE = (
    6,
    0.1,
)  # seconds in between; a scanner of viruses holds a new file about so long
NO_WAIT = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


@dataclass(frozen=True)
class IndexFiles:
    """Where the parts of a gallery's index lie: the large one, and what changed since."""

    main: Path
    added: Path
    removed: Path


def write_atomically(file: Path, content: bytes) -> None:
    """Replace a file's content so that any crash leaves the old or the new one."""
    if isinstance(file, ObjectPath):
        file.put(content)
        return
    with replaced(file) as made:
        made.write_bytes(content)


def write_new(file: Path, content: bytes) -> bool:
    """Write a file that is not there yet, durably, whole or not at all.

    Returns False, and changes nothing, where there is one. Raises OSError.
    """
    if isinstance(file, ObjectPath):
        with contextlib.suppress(ObjectChangedError):
            file.put(content, over="")
            return True
        return False
    made, handle = new_file(file.parent, file.suffix)
    try:
        with contextlib.closing(os.fdopen(handle, "wb", closefd=False)) as stream:
            stream.write(content)
        os.fsync(handle)
        try:
            file.hardlink_to(made)
        except FileExistsError:
            return False
    finally:
        os.close(handle)
        made.unlink(missing_ok=True)
    sync(file.parent)
    return True


@contextlib.contextmanager
def replaced(file: Path, *, durable: bool = True) -> Iterator[Path]:
    """Give a new file to write, of the same suffix; at the end it takes the place of `file`.

    After an exception the old file is as it was. durable: whether the new one is on the disk when
    this returns; what can be made again at no cost need not be. Raises OSError.
    """
    if isinstance(file, ObjectPath):
        with _sent(file) as made:
            yield made
        return
    folder = file.parent
    _sweep_once(folder)
    try:
        made, handle = new_file(folder, file.suffix)
    except OSError as error:
        error.filename = str(file)  # whoever reads of it knows that name
        raise
    with contextlib.ExitStack() as held:
        held.callback(os.close, handle)
        try:
            yield made
            mode = stat.S_IMODE(os.fstat(handle).st_mode)
            made.chmod(mode)  # a library may have put its own there
            if durable:
                sync(made)
            if not fcntl:
                held.close()
            put_in_place(made, file)
            if durable:
                sync(folder)
        except BaseException as error:
            if not fcntl:
                held.close()
            with contextlib.suppress(OSError):
                made.unlink(missing_ok=True)
            if isinstance(error, OSError) and error.filename in (None, str(made)):
                error.filename = str(file)
            raise


@contextlib.contextmanager
def _sent(file: ObjectPath) -> Iterator[Path]:
    """Give a file on this machine to write; at the end its content becomes that of an object."""
    with scratch_folder(Path(tempfile.gettempdir()), mode=0o700) as folder:
        made = folder / file.name
        made.touch()
        yield made
        file.send(made)


def put_in_place(made: Path, place: Path) -> None:
    """Rename a file or a folder; a file that is at the place is replaced.

    Windows refuses that while any program has either open: it is tried again for half a second.
    Raises OSError.
    """
    for tries_left in reversed(range(RENAMES_TRIED)):
        try:
            made.replace(place)
        except PermissionError as error:
            if fcntl or place.is_dir():
                raise
            if not tries_left:
                raise OSError(errno.EBUSY, "another program has it open", str(place)) from error
            time.sleep(PAUSE)
        else:
            return


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Give a new folder to fill; at the end it is renamed to `folder`, which must not be there.

    After an exception nothing is left. In a store it is filled in its place: Lance's tables are
    there once their last object is. Raises OSError.
    """
    if isinstance(folder, ObjectPath):
        yield folder
        return
    with scratch_folder(folder.parent) as made:
        yield made
        sync_tree(made)
        put_in_place(made, folder)
        sync(folder.parent)


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it, where they are not there. Raises OSError."""
    if isinstance(folder, ObjectPath):
        return
    folder = folder.absolute()
    missing = [above for above in (folder, *folder.parents) if not above.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for made in reversed(missing):
        sync(made.parent)


def check_folder(file: Path) -> None:
    """Raise OSError unless the folder of a file is there, and takes a name of its length."""
    if isinstance(file, ObjectPath):
        return
    if not stat.S_ISDIR(file.absolute().parent.stat().st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(file))
    with contextlib.suppress(FileNotFoundError):
        file.lstat()


def check_can_make(folder: Path) -> None:
    """Raise OSError unless a folder can be made, or be written to where it is there already."""
    if isinstance(folder, ObjectPath):
        folder.is_dir()
        return
    above = folder.absolute()
    while not is_there(above):
        above = above.parent
    with scratch_folder(above):
        pass


@contextlib.contextmanager
def scratch_folder(parent: Path, mode: int = 0o777) -> Iterator[Path]:
    """Give an empty folder in parent, and delete what is left of it at the end. Raises OSError."""
    _sweep_once(parent)
    made, handle = new_scratch(parent, mode)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)
        if handle is not None:
            os.close(handle)


def sync(path: Path) -> None:
    """Have the disk hold a file's content, or a folder's names. Raises OSError for a file."""
    if isinstance(path, ObjectPath):
        return
    if path.is_dir():
        with contextlib.suppress(OSError):  # Windows and some network shares know no such thing
            _sync(path, os.O_RDONLY)
    else:
        _sync(path, os.O_RDWR)


def sync_tree(folder: Path) -> None:
    """sync() of all files in a folder, and of every folder, the inner ones first."""
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            sync_tree(entry)
        elif entry.is_file():
            sync(entry)
    sync(folder)


def leftovers(folder: Path) -> list[Path]:
    """List what killed processes were making in a folder, not what is still being made."""
    if isinstance(folder, ObjectPath):
        return []
    try:
        names = [entry.name for entry in os.scandir(folder) if entry.name.startswith(PREFIX)]
    except OSError:
        return []
    return [folder / name for name in sorted(names) if is_abandoned(folder / name)]


def sweep(folder: Path) -> None:
    """Delete leftovers()."""
    for left in leftovers(folder):
        delete(left)


def delete(path: Path) -> None:
    """Delete a file or a folder and all in it, as far as that goes; a link, not what it names."""
    if isinstance(path, ObjectPath):
        with contextlib.suppress(OSError):
            path.delete_below()
        return
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


@contextlib.contextmanager
def opened(file: Path) -> Iterator[BufferedReader | BytesIO]:
    """Open a regular file, or what a link to one names, for reading.

    A pipe or a device is not waited for: it may come from a stranger, and never end. Raises
    OSError.
    """
    if isinstance(file, ObjectPath):
        with file.open("rb") as stream:
            yield stream
        return
    handle = os.open(file, os.O_RDONLY | NO_WAIT)
    with os.fdopen(handle, "rb") as stream:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", str(file))
        yield stream


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a regular file's content, hex. Raises OSError."""
    with opened(file) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_of_bytes(content: bytes) -> str:
    """Return the SHA-256 of some bytes, hex."""
    return hashlib.sha256(content).hexdigest()


def read_bounded(file: Path, most: int, *, is_named: bool = False) -> bytes:
    """Read a file of at most so many bytes.

    is_named: the user named this file or its folder, so that a link is followed and a pipe is read.
    Any other may come from a stranger, and never end: a link, a pipe or a device is not opened.
    Raises FileNotFoundError, other OSErrors, and ValueError with a reason.
    """
    if isinstance(file, ObjectPath):
        return file.read_with_facts(most)[0]
    if is_named:
        with file.open("rb") as stream:
            content = stream.read(most + 1)
    else:
        if file.is_symlink():
            raise ValueError("it is a link")
        handle = os.open(file, os.O_RDONLY | NO_WAIT | getattr(os, "O_NOFOLLOW", 0))
        with os.fdopen(handle, "rb") as stream:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise ValueError("it is not a regular file")
            content = stream.read(most + 1)
    if len(content) > most:
        raise ValueError(f"it is larger than {most:,} bytes")
    return content


def disk_use(path: Path) -> int:
    """Return the bytes of a file, or of all files below a folder."""
    if isinstance(path, ObjectPath):
        return sum(facts.size for _, facts in path.all_below())
    if path.is_dir() and not path.is_symlink():
        return sum(f.lstat().st_size for f in path.rglob("*") if not f.is_dir() or f.is_symlink())
    return path.lstat().st_size if is_there(path) else 0


def is_there(path: Path) -> bool:
    """Whether a name stands there, if only as a link to nothing."""
    return path.exists() or path.is_symlink()


def is_a_file(name: str | Path) -> bool:
    """Whether a file has this name; no for what can be no name."""
    try:
        return place_of(name).is_file()
    except (OSError, ValueError):  # longer than a name can be, or with NUL in it
        return False


def is_a_folder(name: str | Path) -> bool:
    """Whether a folder has this name; no for what can be no name."""
    try:
        return place_of(name).is_dir()
    except (OSError, ValueError):
        return False


def identity(path: Path) -> tuple[int, int] | None:
    """Return what tells a folder or file from all others; None where there is none.

    A folder of objects is a name alone, which nothing can take the place of.
    """
    if isinstance(path, ObjectPath):
        return None
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def modified_ns(status: os.stat_result) -> int:
    """Return when a file was written to, in nanoseconds since 1970.

    It is kept within what 64 bits hold: a broken clock may say the year 2446.
    """
    return min(max(status.st_mtime_ns, -(1 << 63)), (1 << 63) - 1)


def sweep_each(folder: Path) -> None:
    """Delete leftovers() of every folder in a folder, once a process."""
    with contextlib.suppress(OSError):
        for inner in folder.iterdir():
            _sweep_once(inner)


@lru_cache(maxsize=4096)
def _sweep_once(folder: Path) -> None:
    sweep(folder)


def _sync(path: Path, flags: int) -> None:
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        os.close(handle)

"""A Lance table's files: which versions there are, whether one is whole, and that it is durable.

Lance never syncs what it writes, so a cut of the power right after a commit leaves files that are
empty or too short. The manifest of a version names its data files with their sizes, and each file
ends in a magic number: so a version that is not whole is known without reading it. An object of a
store is whole and durable once it is there: of those nothing is looked at.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from retrieval.files import identity, opened, sha256_of, sync
from retrieval.objects import ObjectPath, place_of

FOLDERS = ("data", "_deletions", "_transactions", "_versions")  # a manifest after what it names
MAGIC = b"LANC"
ARROW_MAGIC = b"ARROW1"
UNFINISHED = ".tmp"  # begins the name of a file that Lance is writing, until it is whole
UNORDERED = "--x-s3"  # ends the names of S3's directory buckets, which list in no order
LAST_VERSION = (1 << 64) - 1


def path_of_dataset(dataset: Any) -> Path:
    """Return the folder of Lance's dataset, in a store or on this machine."""
    return place_of(str(dataset.uri))


def place_of_table(dataset: Any) -> object:
    """Return what tells a table from another in its place, which may reuse its inode."""
    path = path_of_dataset(dataset)
    if isinstance(path, ObjectPath):
        return None
    with contextlib.suppress(OSError):
        status = manifest_of(path, int(dataset.version)).stat()
        return identity(path), status.st_ino, status.st_mtime_ns, status.st_size
    return None


def versions_of(table: Path) -> list[int]:
    """List the versions that have a manifest, the newest first. Raises OSError."""
    return sorted(map(version_of, (table / "_versions").glob("*.manifest")), reverse=True)


def newest_in_store(table: ObjectPath) -> int:
    """Return the newest version of a table in a store, by one request.

    Lance would ask for it six times over where the store does not answer. Raises OSError, and
    ValueError where there is none.
    """
    folder = table / "_versions"
    if table.bucket.endswith(UNORDERED):
        found = versions_of(table)
    else:
        named = (version_of(path) for path, _ in folder.all_below())
        found = [next((version for version in named if version >= 0), -1)]
    if not found or found[0] < 0:
        raise ValueError("it has no version")
    return found[0]


def version_of(manifest: Path) -> int:
    """Return the version that a manifest's name gives, -1 where it is no number.

    Lance counts down in these names, so that the newest is listed first; in older tables, up.
    """
    name = manifest.stem
    if not (name.isascii() and name.isdecimal() and len(name) <= 20):
        return -1
    return max(-1, LAST_VERSION - int(name)) if len(name) == 20 else int(name)


def manifest_of(table: Path, version: int) -> Path:
    """Return the path of the manifest of a version."""
    named = table / "_versions" / f"{LAST_VERSION - version:020}.manifest"
    if isinstance(table, ObjectPath):  # of today's Lance, which names none otherwise
        return named
    return named if named.exists() else table / "_versions" / f"{version}.manifest"


def check_folders(table: Path) -> None:
    """Raise ValueError where the table or a folder in it is a link: what is written, or cleaned
    up, would be another one's."""
    for folder in (table, *(table / name for name in FOLDERS)):
        if folder.is_symlink():
            raise ValueError(f"{folder.name} is a link")


def check_manifest(table: Path, version: int) -> None:
    """Raise ValueError unless the manifest of a version ends as one does, and OSError."""
    if isinstance(table, ObjectPath):
        return
    if not ends_in(manifest_of(table, version), MAGIC):
        raise ValueError(f"the manifest of version {version} is not whole")


def check_version_files(table: Path, dataset: Any) -> None:
    """Raise ValueError unless all files that a version names are there, whole by size and end."""
    for fragment in dataset.get_fragments():
        check_piece_files(table, fragment)


def check_piece_files(table: Path, fragment: Any) -> None:
    """Raise ValueError unless all files of one piece are there, whole by size and end."""
    if isinstance(table, ObjectPath):
        return
    facts = fragment.metadata
    for data in facts.files:
        file = table / "data" / data.path
        size = _size_of(file)
        if data.file_size_bytes and size != data.file_size_bytes:
            raise ValueError(f"{file.name} is not whole")
        if not ends_in(file, MAGIC):
            raise ValueError(f"{file.name} is not whole")
    if facts.deletion_file is not None:
        _check_deletions(table / facts.deletion_file.path(fragment.fragment_id))


def is_superseded(table: Path, dataset: Any) -> bool:
    """Tell whether files of a version are gone while there is a newer one: a writer deleted them.

    What is gone from the newest version is damage.
    """
    version = int(dataset.version)
    try:
        if versions_of(table)[:1] <= [version]:
            return False
        needed = [manifest_of(table, version)]
        if not isinstance(table, ObjectPath):  # there a manifest goes before what it names
            needed += files_of(table, dataset)
        return not all(file.exists() for file in needed)
    except OSError:
        return False


def files_of(table: Path, dataset: Any) -> list[Path]:
    """List the data and deletion files that a version names."""
    files = []
    for fragment in dataset.get_fragments():
        facts = fragment.metadata
        files += data_files_of(table, fragment)
        if facts.deletion_file is not None:
            files.append(table / facts.deletion_file.path(fragment.fragment_id))
    return files


def data_files_of(table: Path, fragment: Any) -> list[Path]:
    """List the files that hold the rows of one piece."""
    return [table / "data" / data.path for data in fragment.metadata.files]


def damaged_file(files: Iterable[Path], sums: Mapping[str, str]) -> Path | None:
    """Return the first data file that is not what was published; None where all others are.

    sums: SHA-256 by path below the gallery; a file that is not there was written since.
    """
    for file in files:
        known = sums.get("/".join(file.parts[-3:]))  # images.lance/data/name
        if file.suffix == ".lance" and known is not None and sha256_of(file) != known:
            return file
    return None


def ends_in(file: Path, magic: bytes) -> bool:
    """Tell whether a file ends in these bytes. Raises OSError."""
    with opened(file) as stream:
        stream.seek(max(0, os.fstat(stream.fileno()).st_size - len(magic)))
        return stream.read(len(magic)) == magic


class Durability:
    """Has the disk hold what was committed to a table; each file once, since none is changed."""

    def __init__(self, table: Path) -> None:
        self._table = table
        self._synced: set[Path] = set()

    def sync(self) -> None:
        """Sync all files that are new, in the order in which one needs the other. Raises OSError.

        The first time these are all there are: a process that died may have left them unsynced.
        What a worker is writing meanwhile is left to it.
        """
        if isinstance(self._table, ObjectPath):
            return
        for name in FOLDERS:
            folder = self._table / name
            found = folder.iterdir() if folder.is_dir() else ()
            new = {f for f in found if not f.name.startswith(UNFINISHED)} - self._synced
            for file in sorted(new):
                if file.is_file() and not file.is_symlink():
                    sync(file)
            if new:
                sync(folder)
            self._synced |= {file for file in new if file.suffix != ".json"}  # a hint is rewritten
        sync(self._table)


def _size_of(file: Path) -> int:
    """Raises ValueError only where the file is surely gone, and OSError where one cannot tell."""
    try:
        return file.stat().st_size
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ValueError(f"{file.name} is gone") from error


def _check_deletions(file: Path) -> None:
    if _size_of(file) == 0:
        raise ValueError(f"{file.name} is empty")
    if file.suffix == ".arrow" and not ends_in(file, ARROW_MAGIC):
        raise ValueError(f"{file.name} is not whole")

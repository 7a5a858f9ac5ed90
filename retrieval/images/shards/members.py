"""Images inside of shards as if these were folders: shard.tar/a.jpg, a.parquet/000000001.jpg."""

from __future__ import annotations

import errno
from collections import defaultdict
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from retrieval.errors import ImageError
from retrieval.images.folders import FoundFile, FoundFolder
from retrieval.images.formats import (
    MAX_FILE_BYTES,
    SUFFIXES_OF_SHARDS,
    NotInsideError,
    has_image_suffix,
    may_be_inside,
)
from retrieval.images.shards.table import ShardTable
from retrieval.objects import ObjectPath
from retrieval.text import NOT_THERE

TABLES_KEPT = 64


def is_shard(path: Path) -> bool:
    """Tell whether a file is one whose images are indexed, by its name."""
    return path.suffix.lower() in SUFFIXES_OF_SHARDS


def shard_etag(path: Path) -> str:
    """Return what tells the content of a shard from others. Raises OSError."""
    if isinstance(path, ObjectPath):
        return path.facts().etag
    status = path.stat()
    return f"{status.st_size}-{status.st_mtime_ns}"


def shard_folders(path: Path) -> Iterator[FoundFolder]:
    """Give the images of a shard, those of each folder inside together.

    Raises ImageError for what is no shard, and OSError.
    """
    etag = shard_etag(path)
    table = _table(path, etag)
    folders: dict[str, list[FoundFile]] = defaultdict(list)
    is_dataset = path.suffix.lower() == ".parquet"
    for name, place in table.places.items():
        folder, _, last = name.rpartition("/")
        if is_dataset or has_image_suffix(last):
            label = table.labels.get(name) or ("" if not folder else None)
            folders[folder].append(FoundFile(last, place.size, 0, None, etag, label))
    for folder, files in sorted(folders.items()):
        yield FoundFolder(path / folder if folder else path, path, files)


def member_of(path: Path) -> tuple[Path, str] | None:
    """Return the shard that a path leads into, and the name inside; None where there is none."""
    for above in path.parents if may_be_inside(path) else ():
        if is_shard(above) and above.is_file():
            return above, _inside(path, above)
    return None


def _inside(path: Path, shard: Path) -> str:
    return "/".join(path.parts[len(shard.parts) :])


def holds_member(path: Path) -> bool:
    """Tell whether a path leads to an image in a shard. Raises OSError."""
    found = member_of(path)
    if found is None:
        return False
    try:
        return found[1] in _table(found[0], shard_etag(found[0])).places
    except ImageError:
        return False


def size_of_member(path: Path) -> int:
    """Return the bytes of an image in a shard, -1 where only reading it tells.

    Raises FileNotFoundError where it is not there, and OSError.
    """
    found = member_of(path)
    try:
        place = found and _table(found[0], shard_etag(found[0])).places.get(found[1])
    except ImageError as error:
        raise OSError(errno.EINVAL, str(error), str(path)) from error
    if not place:
        raise FileNotFoundError(errno.ENOENT, NOT_THERE, str(path))
    return place.size


def read_member(path: Path, etag: str | None = None) -> tuple[bytes, str]:
    """Read an image in a shard; return it with the shard's etag, which is asked for if not known.

    Raises ImageError, OSError, and NotInsideError for a path that leads into no shard.
    """
    if etag is None:
        found = member_of(path)
    else:
        shards = [above for above in path.parents if is_shard(above)]
        one = (shards[0], _inside(path, shards[0])) if len(shards) == 1 else None
        found = one or member_of(path)  # which asks the disk
    if found is None:
        raise NotInsideError
    shard, name = found
    etag = etag or shard_etag(shard)
    place = _table(shard, etag).places.get(name)
    if place is None:
        raise ImageError(NOT_THERE)
    if place.size > MAX_FILE_BYTES:
        raise ImageError(f"{place.size:,} bytes, more than {MAX_FILE_BYTES:,}")
    if shard.suffix.lower() == ".parquet":
        from retrieval.images.shards.parquet import read_row

        return read_row(shard, etag, place.start), etag
    from retrieval.images.shards.tar import read_range

    return read_range(shard, place), etag


@lru_cache(maxsize=TABLES_KEPT)
def _table(path: Path, _: str) -> ShardTable:
    """What is in a shard, read once while it is what it is."""
    if path.suffix.lower() == ".parquet":
        from retrieval.images.shards.parquet import read_dataset_table

        return read_dataset_table(path)
    from retrieval.images.shards.tar import read_tar_table

    return read_tar_table(path)

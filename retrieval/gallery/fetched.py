"""Index files of a gallery in an object store, on this machine: FAISS maps files, not objects.

They are kept by their numbers, which stand for versions, so that each is fetched once.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from retrieval.errors import GalleryError
from retrieval.files import delete, make_folder, replaced, sha256_of, sweep_each
from retrieval.objects import ObjectPath

KEPT_FOR = 24 * 3600  # seconds that a file of an older version stays after it was last opened


class IndexNotFetchedError(GalleryError):
    """An index file of a store is there, and cannot be brought to this machine."""


def fetched(file: ObjectPath, table: str, facts: Mapping[str, object]) -> Path:
    """Return the file on this machine that holds an object of a table's index; fetch it once.

    facts: what was published of it, its "bytes" and the SHA-256 of all of it. Raises GalleryError
    where the object is gone, or is another one, and IndexNotFetchedError, as without a network.
    """
    folder = _folder_of(file.parent, table)
    sweep_each(folder.parent)
    local = folder / file.name
    if not (local.is_file() and local.stat().st_size == facts.get("bytes", local.stat().st_size)):
        try:
            make_folder(folder)
            with replaced(local, durable=False) as made:
                file.fetch(made)
                _check(file, made, facts)
        except FileNotFoundError as error:
            raise GalleryError(
                f"{file} is not there. Run `imgret verify --repair`, which builds it again."
            ) from error
        except OSError as error:
            raise IndexNotFetchedError(
                f"{file} cannot be fetched to {folder} ({error.strerror or error}). Check the "
                "network, and the space on this disk."
            ) from error
    os.utime(local)
    return local


def forget_fetched(folder: ObjectPath, table: str, kept: Sequence[str]) -> None:
    """Delete the files of other versions that nobody has opened for a day."""
    place = _folder_of(folder, table)
    for file in place.iterdir() if place.is_dir() else ():
        if file.name not in kept and time.time() - file.stat().st_mtime > KEPT_FOR:
            delete(file)


def _check(file: ObjectPath, made: Path, facts: Mapping[str, object]) -> None:
    whole = facts.get("sha256_of_all") or facts.get("sha256")
    if whole is not None and sha256_of(made) != whole:
        raise GalleryError(
            f"{file} is not what was published. Run `imgret verify --repair`, which builds it "
            "again without reading an image."
        )


def _folder_of(gallery: ObjectPath, table: str) -> Path:
    from retrieval.encoder import cache_folder  # a gallery in a folder needs none

    name = hashlib.sha256(f"{gallery}\n{table}".encode()).hexdigest()[:32]
    return cache_folder() / "fetched" / name

"""Open what a gallery has published, to search it."""

from __future__ import annotations

import contextlib
import time
from functools import lru_cache

from retrieval.errors import GalleryError
from retrieval.gallery import Gallery, IndexState, Settings
from retrieval.gallery.filter import INDEXED
from retrieval.gallery.settings import read_text
from retrieval.objects import ObjectPath
from retrieval.retriever.candidate import build_index
from retrieval.retriever.publish import (
    bring_up_index,
    load_index,
    open_to_write,
)
from retrieval.retriever.snapshot import Snapshot

ASKED_AGAIN = 2.0  # seconds


def stamp(gallery: Gallery) -> tuple[int, ...]:
    """Return a stamp that changes whenever something is published.

    A store is asked once in ASKED_AGAIN seconds, since that takes longer than a search.
    """
    if isinstance(gallery.settings_path, ObjectPath):
        return _stamp_in_store(str(gallery.settings_path), int(time.monotonic() // ASKED_AGAIN))
    try:
        stat = gallery.settings_path.stat()
    except NotADirectoryError:
        gallery.check_exists()  # raises
        return ()
    except FileNotFoundError:
        return ()
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


@lru_cache(maxsize=64)
def _stamp_in_store(address: str, _: int) -> tuple[int, ...]:
    try:
        stat = ObjectPath(address).stat()
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise GalleryError(
            f"{address} cannot be reached ({error.strerror or error}). Check the address, the "
            "network and the credentials."
        ) from error
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


def open_snapshot(gallery: Gallery) -> Snapshot:
    """Open what can be searched now; build a missing or damaged index again.

    Raises GalleryError when there is nothing to search yet.
    """
    while True:
        seen = stamp(gallery)
        settings, table = gallery.settings(), gallery.open_table()
        state = gallery.index_state(settings, table)
        if state is not None:
            with contextlib.suppress(GalleryError):
                return open_published(gallery, state, settings)
        if stamp(gallery) == seen:  # else a writer has published anew, and taken away what we read
            break
    usable = table.count(INDEXED)
    if usable == 0:
        raise _nothing_in(gallery)
    try:
        if table.stepped_back is not None:
            raise GalleryError(table.stepped_back)  # who only reads gives no version up
        with gallery.lock(wait=0):
            settings, table = open_to_write(gallery)
            if gallery.index_state(settings, table) is None:  # raises, saying why there is none
                settings = bring_up_index(gallery, table, settings.without_derived())
    except GalleryError:  # another process writes, or nobody may: then for this search alone
        index, _ = build_index(table, settings, usable)
        return Snapshot(gallery, table, index, settings)
    if settings.index is None:
        raise _nothing_in(gallery)
    return open_published(gallery, settings.index, settings)


def _nothing_in(gallery: Gallery) -> GalleryError:
    return GalleryError(
        f"{gallery.path} holds no embedded image. Run `imgret index FOLDER`, or `imgret info "
        "--failed` to see why images failed."
    )


def open_published(gallery: Gallery, state: IndexState, settings: Settings) -> Snapshot:
    """Open the published rows and index. Raises GalleryError if they are damaged."""
    table = gallery.open_table(state.version)
    if (
        table.is_ours
        and read_text(table.settings, gallery.table_path) != settings.without_derived()
    ):
        table.is_ours = gallery.open_table().is_ours  # it is the newest that has these settings
    return Snapshot(gallery, table, load_index(gallery, state), settings)

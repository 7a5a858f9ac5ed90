"""Open what a gallery has published, to search it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Protocol

from retrieval.errors import GalleryEmptyError, GalleryError
from retrieval.gallery import Gallery, ImageTable, IndexState, Settings
from retrieval.gallery.dataset import unreached
from retrieval.gallery.fetched import IndexNotFetchedError
from retrieval.gallery.filter import INDEXED
from retrieval.gallery.settings import read_text
from retrieval.index import GrowingIndex
from retrieval.objects import ObjectPath
from retrieval.retriever.candidate import build_index
from retrieval.retriever.file_neighbours import FileNeighbours
from retrieval.retriever.publish import (
    bring_up_index,
    load_index,
    open_to_write,
)
from retrieval.retriever.row_vectors import RowVectors
from retrieval.retriever.snapshot import Snapshot

ASKED_AGAIN = 2.0  # seconds


class SearchedState(Protocol):
    """What is searched: something that is published, and changes."""

    def stamp(self) -> object:
        """Return a stamp that changes whenever something is published."""

    def open(self) -> Snapshot:
        """Open what is published now. Raises GalleryError."""


class StoredState:
    """What a gallery's folder has published."""

    def __init__(self, gallery: Gallery) -> None:
        self.gallery = gallery

    def stamp(self) -> object:
        """Return a stamp that changes whenever something is published."""
        return stamp(self.gallery)

    def open(self) -> Snapshot:
        """Open what is published now. Raises GalleryError."""
        return open_snapshot(self.gallery)


class OpenedState:
    """What is published, opened once, and again when something else is. Threads may share one."""

    def __init__(self, state: SearchedState) -> None:
        self._state = state
        self._opened: tuple[object, Snapshot] | None = None
        self._opening = threading.RLock()

    def get(self, check: Callable[[Settings], object]) -> Snapshot:
        """Return it. check: raises where its settings are not those asked for."""
        with self._opening:
            now = self._state.stamp()
            if self._opened is None or self._opened[0] != now:
                snapshot = self._state.open()
                check(snapshot.settings)
                self._opened = now, snapshot
            return self._opened[1]

    def is_current(self) -> bool:
        """Tell whether what is published now is open already."""
        opened = self._opened
        return opened is not None and opened[0] == self._state.stamp()

    def forget(self) -> None:
        """Open it anew the next time."""
        self._opened = None


def stamp(gallery: Gallery) -> tuple[int, ...]:
    """Return a stamp that changes whenever something is published.

    A store is asked once in ASKED_AGAIN seconds, since that takes longer than a search, and after
    each time that this process has published.
    """
    if isinstance(gallery.settings_path, ObjectPath):
        now = int(time.monotonic() // ASKED_AGAIN), gallery.published_here
        return _stamp_in_store(str(gallery.settings_path), now)
    try:
        stat = gallery.settings_path.stat()
    except NotADirectoryError:
        gallery.check_exists()  # raises
        return ()
    except FileNotFoundError:
        return ()
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


@lru_cache(maxsize=64)
def _stamp_in_store(address: str, _: tuple[int, int]) -> tuple[int, ...]:
    try:
        stat = ObjectPath(address).stat()
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise unreached(address, error.strerror or str(error)) from error
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


def open_snapshot(gallery: Gallery) -> Snapshot:
    """Open what can be searched now, as open_indexed() does."""
    table, faiss, settings = open_indexed(gallery)
    augmented = (settings.index or settings).augment != "none"  # then it has other vectors
    row_vectors = RowVectors(gallery.path, table, faiss.transform)
    neighbours = FileNeighbours(faiss, table, row_vectors, augmented=augmented)
    return Snapshot(gallery, table, neighbours, settings, row_vectors)


def open_indexed(gallery: Gallery) -> tuple[ImageTable, GrowingIndex, Settings]:
    """Open the rows and the index that can be searched now; build one that is missing or damaged.

    Raises GalleryEmptyError when there is nothing to search yet, and GalleryError.
    """
    while True:
        seen = stamp(gallery)
        settings, table = gallery.settings(), gallery.open_table()
        if (found := _open_sound(gallery, settings, table)) is not None:
            return found
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
        return table, index, settings
    if settings.index is None:
        raise _nothing_in(gallery)
    return open_published(gallery, settings.index, settings)


def _open_sound(
    gallery: Gallery, settings: Settings, table: ImageTable
) -> tuple[ImageTable, GrowingIndex, Settings] | None:
    """Open what is published; None where that is nothing, or is damaged."""
    state = gallery.index_state(settings, table)
    if state is None:
        return None
    try:
        return open_published(gallery, state, settings)
    except IndexNotFetchedError:  # it is sound, and to read all rows instead would be more to fetch
        raise
    except GalleryError:
        return None


def _nothing_in(gallery: Gallery) -> GalleryEmptyError:
    return GalleryEmptyError(
        f"{gallery.path} holds no embedded image. Run `imgret index FOLDER`, or `imgret info "
        "--failed` to see why images failed."
    )


def open_published(
    gallery: Gallery, state: IndexState, settings: Settings
) -> tuple[ImageTable, GrowingIndex, Settings]:
    """Open the published rows and index. Raises GalleryError if they are damaged."""
    table = gallery.open_table(state.version)
    if (
        table.is_ours
        and read_text(table.settings, gallery.table_path) != settings.without_derived()
    ):
        table.is_ours = gallery.open_table().is_ours  # it is the newest that has these settings
    index = load_index(gallery, state)
    if index.d_in != table.dim:
        raise GalleryError(
            f"The index of {gallery.path} does not fit its rows. Run `imgret verify --repair`."
        )
    return table, index, settings

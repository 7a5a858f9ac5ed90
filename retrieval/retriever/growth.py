"""The published index in step with rows that have changed since: beside it, or merged with it."""

from __future__ import annotations

import logging

import numpy as np

from retrieval.errors import GalleryError
from retrieval.gallery import Gallery, ImageTable, IndexState
from retrieval.gallery.filter import INDEXED
from retrieval.index import GrowingIndex, Index
from retrieval.progress import Progress
from retrieval.sorted_ids import ids_without
from retrieval.text import one_sentence

DAMAGED = (
    "%s: its index is not what was written, so it is built again from the stored embeddings. Check "
    "the disk, and run `imgret verify`."
)
PUT_OFF = (
    "%s: its index is not merged now (%s). Searches find all the same. Free some space and run "
    "`imgret index --compact`."
)

_log = logging.getLogger("imgret")


def grow_beside(
    gallery: Gallery,
    table: ImageTable,
    state: IndexState,
    index: GrowingIndex,
    progress: Progress | None,
) -> GrowingIndex | None:
    """Bring the loaded index of a state in step with the table, beside its large file.

    Returns None where it cannot be: its ids are not those of the rows, or it is damaged.
    """
    gone, new = _changed_ids(gallery, table, state, index)
    if len(gone):
        index.remove(gone)
    done = 0
    for ids, embeddings in table.embeddings(new) if len(new) else ():
        index.add(ids, embeddings)
        done += len(ids)
        if progress:
            progress("indexing", done, len(new))
    if index.ntotal != table.count(INDEXED):
        return None
    if index.changed:  # then what lay beside is copied, and damage in it would get a fresh SHA-256
        try:
            index.check_beside(gallery.local_index_files_of(state))
        except GalleryError:
            _log.warning(DAMAGED, gallery.path)
            return None
    return index


def is_due(index: GrowingIndex, *, compact: bool) -> bool:
    """Tell whether a grown index should become one file: merged, or built anew."""
    crowded = index.is_crowded or (compact and index.has_delta)
    return crowded or not index.main.suits(index.ntotal)


def rows_changed(gallery: Gallery, table: ImageTable, state: IndexState) -> bool:
    """Tell whether usable rows came or went since an index was published."""
    try:
        known = gallery.open_table(state.version).ids_passing(INDEXED)
    except GalleryError:
        return True
    return not np.array_equal(np.sort(known), np.sort(table.ids_passing(INDEXED)))


def put_off(gallery: Gallery, why: str | BaseException) -> None:
    """Tell that an index was not merged, and why."""
    cause = why if isinstance(why, str) else one_sentence(why.__cause__ or why)
    _log.warning(PUT_OFF, gallery.path, cause)


def merge_parts(gallery: Gallery, state: IndexState, index: GrowingIndex) -> GrowingIndex | None:
    """Make one index of a grown one; None where it should rather be built anew.

    All that is copied is read and compared first: it gets a new SHA-256, which would hide damage.
    """
    files = gallery.local_index_files_of(state)
    if not index.main.suits(index.ntotal):
        return None
    try:
        in_memory = Index.load(files.main, state.settings, mmap=False)
        index.check_content(files)
    except GalleryError:
        _log.warning(DAMAGED, gallery.path)
        return None
    return index.merged(in_memory)


def _changed_ids(
    gallery: Gallery, table: ImageTable, state: IndexState, index: GrowingIndex
) -> tuple[np.ndarray, np.ndarray]:
    """The ids that are gone and those that are new, (n,) int64 each, since an index was published.

    By the rows that it was published with: its own ids lie scattered in its file.
    """
    if table.version == state.version:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    try:
        known = gallery.open_table(state.version).ids_passing(INDEXED)
    except GalleryError:
        known = index.ids
    stored = table.ids_passing(INDEXED)
    return ids_without(known, stored), ids_without(stored, known)

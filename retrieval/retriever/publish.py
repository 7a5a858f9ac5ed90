"""Keep the index in step with the table, and publish the pair."""

from __future__ import annotations

import contextlib
import logging

import numpy as np

from retrieval import transform as transforms
from retrieval.draw import evenly_drawn
from retrieval.errors import GalleryError, ImgretError
from retrieval.files import sync
from retrieval.gallery import Gallery, ImageTable, IndexState, Settings
from retrieval.gallery.block import Column
from retrieval.gallery.filter import INDEXED
from retrieval.gallery.settings import write_text
from retrieval.index import GrowingIndex, Index
from retrieval.progress import Progress
from retrieval.sorted_ids import ids_without

DAMAGED = (
    "%s: its index is not what was written, so it is built again from the stored embeddings. Check "
    "the disk, and run `imgret verify`."
)

_log = logging.getLogger("imgret")


def open_to_write(
    gallery: Gallery, progress: Progress | None = None
) -> tuple[Settings, ImageTable]:
    """Open settings and table for the one writer, and complete what was interrupted.

    What killed processes left is deleted. Versions that cannot be read are given up, and rows of
    the same id or path become one. Then the published index is brought in step with the table.
    Raises GalleryError.
    """
    gallery.sweep()
    table = gallery.open_table()
    if table.stepped_back is not None and gallery.restore_copies():
        table = gallery.open_table()
    give_up_damaged_versions(gallery, table)
    if not table.is_ours:  # ours has no such rows, and looking costs two columns
        table.make_distinct()
    settings = gallery.settings()
    state = gallery.index_state(settings, table)
    if state is not None and state.version != table.version:
        _log.warning(
            "%s: An earlier command was interrupted after it had stored rows. The index is updated "
            "first.", gallery.path,
        )  # fmt: skip
    if state is None or state.version != table.version or not _is_whole(gallery, state):
        with contextlib.suppress(ImgretError):  # such as a transform that these rows cannot have
            settings = bring_up_index(gallery, table, settings, progress=progress)
    else:
        sync(gallery.settings_path)  # who published it may have been killed before that
        sync(gallery.path)
        drop_superseded(gallery, table, settings)
    return settings, table


def give_up_damaged_versions(gallery: Gallery, table: ImageTable) -> None:
    """Make the opened version the newest if a newer one cannot be read.

    The number of that one is used again, so that no index may be published under it.
    """
    if table.stepped_back is not None:
        gallery.publish(gallery.settings().without_derived())
        table.drop_damaged_versions()


def drop_superseded(gallery: Gallery, table: ImageTable, settings: Settings) -> None:
    """Delete what only earlier versions need, if the published version is the newest.

    Who published it may have been killed before; rows that were removed would stay on the disk.
    """
    gallery.drop_other_indexes(settings)
    gallery.published.keep_copies(settings.files)
    gallery.published.drop_copies(settings.files)
    table.drop_old_versions()


def _is_whole(gallery: Gallery, state: IndexState) -> bool:
    try:
        load_index(gallery, state)
    except GalleryError:
        return False
    return True


def bring_up_index(
    gallery: Gallery,
    table: ImageTable,
    settings: Settings,
    *,
    refit: bool = False,
    compact: bool = False,
    progress: Progress | None = None,
) -> Settings:
    """Make the index of the table's newest version, as cheaply as it can be, and publish it.

    The transform is fitted anew with refit, when another one was asked for, and when the gallery
    has doubled since. Otherwise vectors that are gone are left out, and new ones lie beside the
    index until they are many or compact merges them. Where that fails, the index is updated with
    the transform that it has. If that fails too, an index with removed rows is not published any
    more.
    """
    try:
        return _bring_up_index(
            gallery, table, settings, refit=refit, compact=compact, progress=progress
        )
    except ImgretError:
        with contextlib.suppress(ImgretError, OSError):
            _forget_removed(gallery, table, progress)
        raise


def _forget_removed(gallery: Gallery, table: ImageTable, progress: Progress | None) -> None:
    """See that the published index finds no row that was removed."""
    before = gallery.settings()
    state = gallery.index_state(before, table)
    if state is None or state.version == table.version:
        return
    try:
        _bring_up_index(gallery, table, before, refit=False, compact=False, progress=progress)
    except ImgretError:
        if not np.isin(load_index(gallery, state).ids, table.ids()).all():
            gallery.publish(before.without_index())


def _bring_up_index(
    gallery: Gallery,
    table: ImageTable,
    settings: Settings,
    *,
    refit: bool,
    compact: bool,
    progress: Progress | None,
) -> Settings:
    n = table.count(INDEXED)
    state = gallery.index_state(settings, table)
    if n == 0:
        table.write_settings(without_index(settings))
        sums = gallery.published.checksums(table, settings.files, same_version=_is_of(state, table))
        settings = settings.without_index().model_copy(update={"files": sums})
        gallery.published.keep_copies(settings.files)
        gallery.publish(settings)
        drop_superseded(gallery, table, settings)
        return settings
    index = transform = None
    fitted_on = n
    if state is not None and not refit and not _needs_fit(state, settings, table, n):
        index = _updated(gallery, table, state, n, progress, compact=compact)
        transform, fitted_on = state.transform, state.fitted_on
    if index is None or transform is None:
        index, transform = build_index(table, settings, n, progress)
        fitted_on = n
        settings = settings.model_copy(update={"calibration": None})
    table.write_settings(without_index(settings))  # now that they are known to work
    built, changed = _save(gallery, table, state, index)
    main, added, removed = index.facts
    settings = settings.model_copy(
        update={
            "index": IndexState(
                table=table.name,
                version=table.version,
                built=built,
                changed=changed,
                asked=settings.transform,
                transform=transform,
                fitted_on=fitted_on,
                augment=settings.augment,
                settings=main,
                added=added,
                removed=removed,
            ),
            "files": gallery.published.checksums(
                table, settings.files, same_version=_is_of(state, table)
            ),
        }
    )
    gallery.published.keep_copies(settings.files)
    gallery.publish(settings)
    drop_superseded(gallery, table, settings)  # until now readers use what was published before
    return settings


def _is_of(state: IndexState | None, table: ImageTable) -> bool:
    """Whether what was published is of the very version that the table is at."""
    return state is not None and state.version == table.version


def without_index(settings: Settings) -> str:
    """Return the settings as the table stores them."""
    return write_text(settings.without_derived())


def build_index(
    table: ImageTable, settings: Settings, n: int, progress: Progress | None = None
) -> tuple[GrowingIndex, str]:
    """Fit the requested transform to a table's n usable rows, index and augment them.

    Gives the index and the transform as it was fitted.
    """
    if progress:
        progress("fitting", 0, None)
    table.check_finite()
    wanted = transforms.resolve_spec(settings.transform, n, table.dim)
    fitted = transforms.fit(wanted, *_sample(table, n, labels=transforms.sees_labels(wanted)))
    index = Index.build(fitted, table.embeddings, n, progress=progress)
    augment = settings.refinement.augment
    if augment:
        if progress:
            progress("augmenting", 0, None)
        index.augment(augment)
    return GrowingIndex(index), fitted.spec


def fitted_anew(before: IndexState | None, now: IndexState | None) -> str | None:
    """Say that a transform was fitted anew; None if it is the one there was."""
    if now is None or now.transform == "none":
        return None
    if before is not None and (before.transform, before.fitted_on) == (
        now.transform,
        now.fitted_on,
    ):
        return None
    labels = transforms.sees_labels(now.transform)
    if before is None and not labels:  # nothing that was there before, nor anything of the user's
        return None
    text = f"The transform {now.transform} was fitted to {now.fitted_on:,} images"
    text += " and their labels" * labels
    if before is not None:
        text += f" (before: {before.transform}), so scores have another scale than before"
    text += ". Give --transform rca to leave labels out." if labels and now.asked == "auto" else "."
    return text


def _needs_fit(state: IndexState, settings: Settings, table: ImageTable, n: int) -> bool:
    asked = settings.transform
    if state.asked != asked or state.augment != settings.augment:
        return True
    if state.augment != "none" and state.version != table.version:  # new rows change old vectors
        return True
    if state.transform == "none":
        return transforms.resolve_spec(asked, n, table.dim) != "none"
    return n >= 2 * state.fitted_on


def load_index(gallery: Gallery, state: IndexState) -> GrowingIndex:
    """Load the published index. Raises GalleryError if a file of it is damaged."""
    files = gallery.index_files_of(state)
    return GrowingIndex.load(files, state.settings, state.added, state.removed)


def _updated(
    gallery: Gallery,
    table: ImageTable,
    state: IndexState,
    n: int,
    progress: Progress | None,
    *,
    compact: bool = False,
) -> GrowingIndex | None:
    """The old index with what changed since; None where building anew is right."""
    try:
        index = load_index(gallery, state)
    except GalleryError:
        return None
    if not index.main.suits(n):
        return None
    gone, new = _changed_ids(gallery, table, state, index)
    if len(gone):
        index.remove(gone)
    done = 0
    for ids, embeddings in table.embeddings(new) if len(new) else ():
        index.add(ids, embeddings)
        done += len(ids)
        if progress:
            progress("indexing", done, len(new))
    if index.ntotal != n:
        return None
    files, merges = gallery.index_files_of(state), index.is_crowded or (compact and index.has_delta)
    try:  # what is copied gets a new SHA-256, which would hide damage for good
        if merges:
            in_memory = Index.load(files.main, state.settings, mmap=False)
            index.check_content(files)
            return index.merged(in_memory)
        if index.changed:
            index.check_beside(files)
    except GalleryError:
        _log.warning(DAMAGED, gallery.path)
        return None
    return index


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


def _save(
    gallery: Gallery, table: ImageTable, state: IndexState | None, index: GrowingIndex
) -> tuple[int, int]:
    """Write what changed; return the versions that both parts of the index are written for."""
    gallery.check_place()
    table.check_place()
    built, changed = (state.built, state.changed) if state else (table.version, table.version)
    if index.main.changed:
        built = table.version
        index.main.save(gallery.index_files(built, changed).main)
    if index.changed:
        changed = table.version
        index.save_delta(gallery.index_files(built, changed))
    return built, changed


def _sample(
    table: ImageTable, n: int, *, labels: bool
) -> tuple[np.ndarray, list[str | None] | None]:
    """At most FIT_ROWS embeddings, evenly drawn, and their labels where they are wanted."""
    chosen = evenly_drawn(n, transforms.FIT_ROWS)
    embeddings = np.empty((len(chosen), table.dim), np.float32)
    names: list[str | None] = []
    columns: tuple[Column, ...] = ("embedding", "label") if labels else ("embedding",)
    for place, part, block in table.blocks_of(chosen, *columns):
        embeddings[place] = block.embeddings[part]
        if labels:
            column = block.labels
            names += [column[i] for i in part]
    return embeddings, names if labels else None

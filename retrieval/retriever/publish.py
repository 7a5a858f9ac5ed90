"""Keep the index in step with the table, and publish the pair."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from dataclasses import astuple, replace

import numpy as np

from retrieval import transform as transforms
from retrieval.errors import GalleryError, GalleryWriteError, ImgretError
from retrieval.files import is_there, sync
from retrieval.gallery import Gallery, ImageTable, IndexState, Settings, make_distinct
from retrieval.gallery.filter import INDEXED, ids_below
from retrieval.gallery.settings import write_text
from retrieval.index import GrowingIndex
from retrieval.progress import Progress
from retrieval.retriever.candidate import Candidate, Room, built_anew, size_of_built
from retrieval.retriever.growth import (
    grow_beside,
    is_due,
    merge_parts,
    put_off,
    rows_changed,
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
        make_distinct(table)
    settings = gallery.settings()
    table.sums = settings.files
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
    tidy: bool = False,
    progress: Progress | None = None,
) -> Settings:
    """Make the index of the table's newest version, as cheaply as it can be, and publish it.

    The transform is fitted anew with refit, when another one was asked for, and when the gallery
    has doubled since. Otherwise vectors that are gone are left out, and new ones lie beside the
    index until they are many or compact merges them. tidy: merge pieces of the rows, too, where
    they are many; compact merges all. Where that fails or lacks room, what is published keeps its
    settings, and is brought in step with the rows. If that fails too, an index with removed rows
    is not published any more.
    """
    before = gallery.settings()
    try:
        return _bring_up_index(
            gallery, table, settings, refit=refit, compact=compact, tidy=tidy, progress=progress
        )
    except (ImgretError, OSError):
        with contextlib.suppress(ImgretError, OSError):
            _step_back(gallery, table, before, progress)
        raise


def _step_back(
    gallery: Gallery, table: ImageTable, before: Settings, progress: Progress | None
) -> None:
    """Keep published what was, in step with the rows, so that no row is found that was removed.

    What was written of another index goes first, which makes room. The index is given up only
    where not even a list of the ids of removed rows can be written beside it.
    """
    gallery.drop_other_indexes(before)
    state = gallery.index_state(before, table)
    try:
        table.write_settings(without_index(before))
        if state is not None and state.version != table.version:
            _bring_up_index(gallery, table, before, only_beside=True, progress=progress)
    except (ImgretError, OSError):
        if state is None or np.isin(load_index(gallery, state).ids, table.ids()).all():
            return
        try:
            gallery.publish(before.without_index())
        except OSError:  # deleting takes no room, and who finds no index builds one of the rows
            gallery.drop_other_indexes(before.without_index())


def _bring_up_index(
    gallery: Gallery,
    table: ImageTable,
    settings: Settings,
    *,
    refit: bool = False,
    compact: bool = False,
    tidy: bool = False,
    only_beside: bool = False,
    progress: Progress | None,
) -> Settings:
    """Do what bring_up_index() says, once. only_beside: leave the large file as it is.

    Nothing is changed before the index is made in memory and has room.
    """
    state = gallery.index_state(settings, table)
    whole, beside = _candidates(
        gallery, table, state, settings, refit=refit, compact=compact, only_beside=only_beside,
        progress=progress,
    )  # fmt: skip
    made = whole or beside
    if compact or tidy:
        size = made.index.size_to_save if made else 0
        table.compact(everything=compact, beside=lambda: size)
    if made is None:
        table.write_settings(without_index(settings))
        return _published(gallery, table, state, settings.without_index(), settings.files)
    made, built, changed = _save_one_of(gallery, table, state, whole, beside, must=compact)
    table.write_settings(without_index(settings))  # now that there is an index for them
    now = _state_of(table, settings, made, built, changed)
    settings = replace(settings, index=now)
    settings = settings.without_calibration() if made.anew else _with_left(table, settings)
    return _published(gallery, table, state, settings, settings.files)


def _with_left(table: ImageTable, settings: Settings) -> Settings:
    known = settings.calibration
    if known is None:
        return settings
    return settings.with_left(table.count(INDEXED & ids_below(known.next_id)))


def _candidates(
    gallery: Gallery,
    table: ImageTable,
    state: IndexState | None,
    settings: Settings,
    *,
    refit: bool,
    compact: bool,
    only_beside: bool,
    progress: Progress | None,
) -> tuple[Candidate | None, Candidate | None]:
    """Make the index whole where that is due and has room, and the one that grew beside its file.

    Neither is made of no row. Raises GalleryWriteError where the whole one is needed and does not
    fit.
    """
    n, whole, beside = table.count(INDEXED), None, None
    if n == 0:
        return None, None
    if (
        state is not None
        and not refit
        and not _needs_fit(gallery, state, settings, table, n, only_beside=only_beside)
    ):
        beside = _grown(gallery, table, state, progress)
    room = Room(gallery, table, merges=compact, must=compact or beside is None)
    if state is None or beside is None:
        whole = built_anew(table, settings, n, room, progress)
    elif not only_beside and is_due(beside.index, compact=compact):
        whole = _as_one(state, settings, beside, room, progress)
    if whole is not None and not room.holds(whole.index.size_to_save):
        whole = None
    return whole, beside


def _state_of(
    table: ImageTable, settings: Settings, made: Candidate, built: int, changed: int
) -> IndexState:
    main, added, removed = made.index.facts
    return IndexState(
        table=table.name,
        version=table.version,
        built=built,
        changed=changed,
        asked=settings.transform,
        transform=made.transform,
        fitted_on=made.fitted_on,
        augment=settings.augment,
        settings=main,
        added=added,
        removed=removed,
    )


def _published(
    gallery: Gallery,
    table: ImageTable,
    before: IndexState | None,
    settings: Settings,
    known: Mapping[str, str],
) -> Settings:
    """Publish settings with the checksums of the table's version; until then readers use before.

    known: the checksums that were published with before.
    """
    same = before is not None and before.version == table.version
    sums = gallery.published.checksums(table, known, same_version=same)
    settings = replace(settings, files=sums)
    gallery.published.keep_copies(settings.files)
    gallery.publish(settings)
    drop_superseded(gallery, table, settings)
    return settings


def without_index(settings: Settings) -> str:
    """Return the settings as the table stores them."""
    return write_text(settings.without_derived())


def fitted_anew(
    before: IndexState | None, now: IndexState | None, *, refit: bool = False
) -> str | None:
    """Say that a transform was fitted anew; None if it is the one there was.

    refit: whether it was fitted whatever it was.
    """
    if now is None or now.transform == "none":
        return None
    fits = [(state.transform, state.fitted_on) for state in (before, now) if state]
    if before is not None and fits[0] == fits[1] and not refit:
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


def _needs_fit(
    gallery: Gallery,
    state: IndexState,
    settings: Settings,
    table: ImageTable,
    n: int,
    *,
    only_beside: bool,
) -> bool:
    asked = settings.transform
    if state.asked != asked or state.augment != settings.augment:
        return True
    if state.augment != "none" and rows_changed(gallery, table, state):
        return True  # new rows change old vectors
    if only_beside:
        return False
    if state.transform == "none":
        return transforms.resolve_spec(asked, n, table.dim) != "none"
    return n >= 2 * state.fitted_on


def load_index(gallery: Gallery, state: IndexState) -> GrowingIndex:
    """Load the published index. Raises GalleryError if a file of it is damaged."""
    files = gallery.local_index_files_of(state)
    return GrowingIndex.load(files, state.settings, state.added, state.removed)


def _grown(
    gallery: Gallery, table: ImageTable, state: IndexState, progress: Progress | None
) -> Candidate | None:
    """The published index with what changed since beside it; None where it cannot be used."""
    try:
        loaded = load_index(gallery, state)
    except GalleryError:
        return None
    index = grow_beside(gallery, table, state, loaded, progress)
    return Candidate(index, state.transform, state.fitted_on, anew=False) if index else None


def _as_one(
    state: IndexState,
    settings: Settings,
    beside: Candidate,
    room: Room,
    progress: Progress | None,
) -> Candidate | None:
    """Make one index of a grown one, merged or built anew; None where it has to wait for room."""
    table, n = room.table, beside.index.ntotal
    if not beside.index.main.suits(n):
        if not room.holds(size_of_built(table, settings, n)):
            return None
    elif not room.holds(beside.index.size_as_one(n)):
        return None
    one = merge_parts(room.gallery, state, beside.index)
    return replace(beside, index=one) if one else built_anew(table, settings, n, room, progress)


def _save_one_of(
    gallery: Gallery,
    table: ImageTable,
    state: IndexState | None,
    whole: Candidate | None,
    beside: Candidate | None,
    *,
    must: bool,
) -> tuple[Candidate, int, int]:
    """Write one index: whole, or what lies beside the large file where that cannot be written.

    must: raise there. Gives it, and the numbers of both its parts.
    """
    if whole is not None:
        try:
            return whole, *_save(gallery, table, state, whole.index)
        except GalleryWriteError as error:
            if must or beside is None:
                raise
            put_off(gallery, error)
    if beside is None:
        raise ValueError("there is no index to write")
    return beside, *_save(gallery, table, state, beside.index)


def _save(
    gallery: Gallery, table: ImageTable, state: IndexState | None, index: GrowingIndex
) -> tuple[int, int]:
    """Write what changed; return the numbers of both parts of the index."""
    gallery.check_place()
    table.check_place()
    number = _free_number(gallery, table)
    built, changed = (state.built, state.changed) if state else (number, number)
    if index.main.changed:
        built = number
        index.main.save(gallery.index_files(built, changed).main)
    if index.changed:
        changed = number
        index.save_delta(gallery.index_files(built, changed))
    return built, changed


def _free_number(gallery: Gallery, table: ImageTable) -> int:
    """The number of a new index: the published files stay until it is published in their place."""
    number = table.version
    while any(map(is_there, astuple(gallery.index_files(number, number)))):
        number += 1
    return number

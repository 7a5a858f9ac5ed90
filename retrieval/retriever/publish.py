"""Keep the index in step with the table, and publish the pair."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from retrieval import transform as transforms
from retrieval.draw import evenly_drawn
from retrieval.errors import GalleryError, GalleryWriteError, ImgretError
from retrieval.files import sync
from retrieval.gallery import Gallery, ImageTable, IndexState, Settings, make_distinct
from retrieval.gallery.block import Column
from retrieval.gallery.filter import INDEXED
from retrieval.gallery.settings import write_text
from retrieval.index import GrowingIndex, Index, choose_kind
from retrieval.progress import Progress
from retrieval.retriever.growth import (
    Candidate,
    fits_merged,
    grow_beside,
    is_due,
    merge_parts,
    put_off,
)

USUAL_WIDTH = 512  # of a transformed embedding, at most

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
    except (ImgretError, OSError):
        with contextlib.suppress(ImgretError, OSError):
            _forget_removed(gallery, table, progress)
        raise


def _forget_removed(gallery: Gallery, table: ImageTable, progress: Progress | None) -> None:
    """See that the published index finds no row that was removed.

    It is given up only where not even a list of their ids can be written beside it.
    """
    before = gallery.settings()
    state = gallery.index_state(before, table)
    if state is None or state.version == table.version:
        return
    try:
        _bring_up_index(gallery, table, before, only_beside=True, progress=progress)
    except (ImgretError, OSError):
        if np.isin(load_index(gallery, state).ids, table.ids()).all():
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
    only_beside: bool = False,
    progress: Progress | None,
) -> Settings:
    """Do what bring_up_index() says, once. only_beside: leave the large file as it is."""
    n = table.count(INDEXED)
    state = gallery.index_state(settings, table)
    if n == 0:
        table.write_settings(without_index(settings))
        return _published(gallery, table, state, settings.without_index(), settings.files)
    beside = whole = None
    if (
        state is not None
        and not refit
        and not _needs_fit(state, settings, table, n, only_beside=only_beside)
    ):
        beside = _grown(gallery, table, state, progress)
    if state is None or beside is None:
        whole = _built(table, settings, n, progress)
    elif (
        not only_beside
        and is_due(beside.index, compact=compact)
        and fits_merged(gallery, beside.index, must=compact)
    ):
        one = merge_parts(gallery, state, beside.index)
        whole = replace(beside, index=one) if one else _built(table, settings, n, progress)
    table.write_settings(without_index(settings))  # now that they are known to work
    made, built, changed = _save_one_of(gallery, table, state, whole, beside, must=compact)
    main, added, removed = made.index.facts
    now = IndexState(
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
    update = {"index": now} | ({"calibration": None} if made.anew else {})
    return _published(gallery, table, state, settings.model_copy(update=update), settings.files)


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
    settings = settings.model_copy(update={"files": sums})
    gallery.published.keep_copies(settings.files)
    gallery.publish(settings)
    drop_superseded(gallery, table, settings)
    return settings


def without_index(settings: Settings) -> str:
    """Return the settings as the table stores them."""
    return write_text(settings.without_derived())


def build_index(
    table: ImageTable, settings: Settings, n: int, progress: Progress | None = None
) -> tuple[GrowingIndex, str]:
    """Fit the requested transform to a table's n usable rows, index and augment them.

    Its kind stays what the index before had, where n is near the limit. Gives the index and the
    transform as it was fitted.
    """
    if progress:
        progress("fitting", 0, None)
    table.check_finite()
    wanted = transforms.resolve_spec(settings.transform, n, table.dim)
    fitted = transforms.fit(wanted, *_sample(table, n, labels=transforms.sees_labels(wanted)))
    present = str(settings.index.settings.get("kind")) if settings.index else None
    kind = choose_kind(n, present)
    index = Index.build(fitted, table.embeddings, n, kind=kind, progress=progress)
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


def _needs_fit(
    state: IndexState, settings: Settings, table: ImageTable, n: int, *, only_beside: bool
) -> bool:
    asked = settings.transform
    if state.asked != asked or state.augment != settings.augment:
        return True
    if state.augment != "none" and state.version != table.version:  # new rows change old vectors
        return True
    if only_beside:
        return False
    if state.transform == "none":
        return transforms.resolve_spec(asked, n, table.dim) != "none"
    return n >= 2 * state.fitted_on


def load_index(gallery: Gallery, state: IndexState) -> GrowingIndex:
    """Load the published index. Raises GalleryError if a file of it is damaged."""
    files = gallery.index_files_of(state)
    return GrowingIndex.load(files, state.settings, state.added, state.removed)


def index_need(
    gallery: Gallery, table: ImageTable, settings: Settings, *, anew: bool = False
) -> int:
    """Estimate the bytes of the index file that compacting writes beside the one that is there.

    anew: whether a transform is fitted anew, too.
    """
    n, state = table.count(INDEXED), gallery.index_state(settings, table)
    index = None
    with contextlib.suppress(GalleryError):
        index = load_index(gallery, state) if state else None
    if index is None or state is None:
        return n * (4 * min(table.dim, USUAL_WIDTH) + 8)
    if state.version == table.version and not index.has_delta and not anew:
        return 0
    return index.size_as_one(n)


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


def _built(table: ImageTable, settings: Settings, n: int, progress: Progress | None) -> Candidate:
    index, transform = build_index(table, settings, n, progress)
    return Candidate(index, transform, n, anew=True)


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

    must: raise there. Gives it, and the versions that both parts of it are written for.
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

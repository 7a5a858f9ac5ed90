"""Rows that are dropped by path, from the index first and then from the files."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from retrieval.errors import GalleryError, GalleryWriteError
from retrieval.gallery import Gallery, ImageTable, Settings, storable
from retrieval.gallery.filter import INDEXED
from retrieval.gallery.paths import is_from_root
from retrieval.objects import place_of
from retrieval.progress import Progress
from retrieval.retriever.publish import bring_up_index, open_to_write
from retrieval.retriever.reembed import forget_staged

KEPT_IN_FILES = (
    "%s: what was removed is found no more, but its embeddings stay in large files until you run "
    "`imgret index --compact`."
)
KEPT_FOR_READERS = (
    "%s: another command still reads the rows as they were, so these stay on the disk until the "
    "next command that writes, such as `imgret index --compact`."
)
CALIBRATION_ENDED = (
    "The calibration was learnt from other images, labels or scores, so matches have no "
    "probability. Run `imgret calibrate` again."
)
NOT_ERASED = (
    "%s: what was removed is found no more, but its embeddings stay in files that cannot be "
    "rewritten now. Free some space and run `imgret index --compact`."
)

_log = logging.getLogger("imgret")


def remove_rows(
    gallery: Gallery, paths: Sequence[Path], progress: Progress | None
) -> dict[int, str]:
    """Drop the rows of files and of all files below folders; give their ids and stored paths.

    The index finds them no more before any file is written anew, which needs room on the disk.
    """
    before = published_rows(gallery, paths)
    settings, table = open_to_write(gallery, progress)
    was_calibrated = is_calibrated(settings, table)
    gone = rows_below(gallery, table, paths)
    version = table.version
    table.remove(list(gone))
    if table.version != version:
        settings = bring_up_index(gallery, table, settings, progress=progress)
    forget_staged(gallery, table)
    try:
        settings = _erased(gallery, table, settings, progress)
    except (GalleryWriteError, OSError):
        _log.warning(NOT_ERASED, gallery.path)
    else:
        if gone:
            tell_if_kept(gallery, table, settings)
    if was_calibrated and not is_calibrated(settings, table):
        _log.warning("%s: %s", gallery.path, CALIBRATION_ENDED)
    return before | gone


def is_calibrated(settings: Settings, table: ImageTable) -> bool:
    """Tell whether there is a calibration that fits the images, the labels and the search."""
    if settings.calibration is None:
        return False
    return settings.calibration_of(table.count(INDEXED)) is not None


def _erased(
    gallery: Gallery, table: ImageTable, settings: Settings, progress: Progress | None
) -> Settings:
    """The settings after removed rows are erased from small files, also of an interrupted call."""
    version = table.version
    try:
        table.forget_removed()
    except (GalleryWriteError, OSError):
        if settings.index and settings.index.version == version == table.version:
            table.drop_old_versions()  # and what the rewrite has left
        raise
    if table.version == version:
        return settings
    return bring_up_index(gallery, table, settings, progress=progress)


def rows_below(gallery: Gallery, table: ImageTable, paths: Sequence[Path]) -> dict[int, str]:
    """Return ids and stored paths of the rows of files and of all files below folders.

    Neither has to exist.
    """
    return table.paths_below([root for path in paths for root in _roots(gallery, path)])


def published_rows(gallery: Gallery, paths: Sequence[Path]) -> dict[int, str]:
    """Return rows_below() of the published rows; none if these cannot be read."""
    try:
        state = gallery.settings().index
        table = gallery.open_table(state.version) if state else None
        return rows_below(gallery, table, paths) if table else {}
    except GalleryError:
        return {}


def without_rows(gallery: Gallery, paths: Sequence[Path], found: Iterable[str]) -> list[Path]:
    """Return those of paths that are none of the found rows' and have none of them below."""
    above: set[str] = set()
    for stored in found:
        if not is_from_root(stored):
            above.add(".")
        while stored and stored not in above:
            above.add(stored)
            stored, slash, _ = stored.rpartition("/")
            if slash:
                above.add(f"{stored}/")  # as the root of a disk is written
    return [path for path in paths if above.isdisjoint(_roots(gallery, path))]


def _roots(gallery: Gallery, path: Path) -> list[str]:
    """Return a path as it is stored, with "." where it is above all relative ones."""
    stored = storable(gallery.stored_root(path))
    above_all = is_from_root(stored) and gallery.base.is_relative_to(place_of(stored))
    return [stored, "."] if above_all else [stored]


def tell_if_kept(gallery: Gallery, table: ImageTable, settings: Settings) -> None:
    """Tell in the log where files still hold rows that were removed."""
    if table.holds_removed or (settings.index and settings.index.removed):
        _log.warning(KEPT_IN_FILES, gallery.path)
    tell_if_read(gallery, table)


def tell_if_read(gallery: Gallery, table: ImageTable) -> None:
    """Tell in the log where files of older versions stay for those who read them."""
    if table.is_read:
        _log.warning(KEPT_FOR_READERS, gallery.path)

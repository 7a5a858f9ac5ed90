"""Rows that are to be dropped by path."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from retrieval.errors import GalleryError
from retrieval.gallery import Gallery, ImageTable, Settings, storable


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
        if not Path(stored).is_absolute():
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
    above_all = Path(stored).is_absolute() and gallery.base.is_relative_to(stored)
    return [stored, "."] if above_all else [stored]


def is_kept_in_files(table: ImageTable, settings: Settings) -> bool:
    """Tell whether files still hold rows that were removed."""
    return table.holds_removed or bool(settings.index and settings.index.removed)

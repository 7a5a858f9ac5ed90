"""Rows that are to be dropped by path."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from retrieval.errors import GalleryError
from retrieval.gallery import Gallery, ImageTable, Settings, storable


def rows_below(gallery: Gallery, table: ImageTable, paths: Sequence[Path]) -> list[int]:
    """Return ids of the rows of files and of all files below folders, existing or not."""
    folders = []
    for path in paths:
        stored = storable(gallery.stored_root(path))
        folders.append(stored)
        if Path(stored).is_absolute() and gallery.base.is_relative_to(stored):
            folders.append(".")
    ids: list[int] = table.ids_below(folders).tolist()
    return ids


def published_rows(gallery: Gallery, paths: Sequence[Path]) -> list[int]:
    """Return the published rows of files and folders; none if that cannot be read."""
    try:
        state = gallery.settings().index
        table = gallery.open_table(state.version) if state else None
        return rows_below(gallery, table, paths) if table else []
    except GalleryError:
        return []


def is_kept_in_files(table: ImageTable, settings: Settings) -> bool:
    """Tell whether files still hold rows that were removed."""
    return table.holds_removed or bool(settings.index and settings.index.removed)

"""What is left of a table of which files were cut short or are gone."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from retrieval.gallery.dataset import LANCE_ERRORS, damage_as_gallery_errors, open_dataset
from retrieval.gallery.table import ImageTable
from retrieval.gallery.versions import check_folders, check_piece_files, versions_of
from retrieval.text import one_sentence


def open_without_damaged(path: Path) -> tuple[ImageTable, int]:
    """Open the newest version that has a manifest, without the pieces whose files are not whole.

    Commits that, and returns how many rows those pieces had. Raises GalleryError where no manifest
    can be read.
    """
    with damage_as_gallery_errors(path):
        check_folders(path)
        dataset, reason = _newest(path)
        damaged = [piece for piece in dataset.get_fragments() if not _is_whole(path, piece)]
        table = ImageTable.of(dataset, reason)
    for piece in damaged:
        table.drop_piece(piece.fragment_id)
    return table, sum(int(piece.metadata.physical_rows) for piece in damaged)


def _newest(path: Path) -> tuple[Any, str | None]:
    """Lance's dataset at the newest version that has a manifest, and why not at a newer one."""
    reason = None
    for version in versions_of(path):
        try:
            return open_dataset(path, version, whole=False), reason
        except LANCE_ERRORS as error:
            reason = reason or one_sentence(error)
    raise ValueError(reason or "it has no version")


def _is_whole(table: Path, piece: Any) -> bool:
    with contextlib.suppress(ValueError):  # not OSError: who cannot look knows nothing
        check_piece_files(table, piece)
        return True
    return False

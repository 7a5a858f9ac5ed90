"""Rows whose files are gone: when that is believed, and when the disk is rather not there."""

from __future__ import annotations

from collections.abc import Iterator

from retrieval.errors import ImgretError
from retrieval.gallery import Gallery
from retrieval.retriever.planning import Plan, Stored, is_below

MANY = 20


def check_missing(
    gallery: Gallery, plan: Plan, rows: dict[str, Stored], gone: dict[str, Stored]
) -> None:
    """Raise ImgretError where so many files are gone that a drive may not be mounted.

    That is where a path that held rows yields no file at all any more, where a folder that held
    many is there and empty, and where more than half of a path's rows, at least MANY, are gone.
    gone: those of plan that have not been found elsewhere. The paths are those given now and those
    given before that lie below them.
    """
    if not gone:
        return
    for root, found in _roots(gallery, plan, rows):
        held = sum(is_below(path, root) for path in rows)
        lost = sum(is_below(path, root) for path in gone)
        if lost and (found == 0 or (lost >= MANY and 2 * lost > held)):
            raise ImgretError(
                f"{gallery.full(root)} held {held:,} stored images, and {lost:,} of them are gone"
                f"{'' if found else ', as if its drive were not mounted'}. Their rows stay. Bring "
                "them back, or drop their rows with --drop-missing."
            )


def _roots(gallery: Gallery, plan: Plan, rows: dict[str, Stored]) -> Iterator[tuple[str, int]]:
    """Stored paths of folders and files, each with the number of files that are there now."""
    yield from plan.searched.items()
    roots = {row.root for row in rows.values()} - set(plan.searched)
    below = {r for r in roots if any(is_below(r, searched) for searched in plan.searched)}
    for root in sorted(below):
        there = sum(is_below(path, root) and path not in plan.gone for path in rows)
        deleted = root in rows or not gallery.full(root).exists()  # a file, or a folder on purpose
        yield root, max(there, deleted)
    for folder in sorted(_emptied(gallery, plan)):
        yield folder, 0


def _emptied(gallery: Gallery, plan: Plan) -> set[str]:
    """Folders that held many rows and are there with nothing in them, as mount points are."""
    counts: dict[str, int] = {}
    for path in plan.gone:
        parts = path.split("/")
        for end in range(1, len(parts)):
            folder = "/".join(parts[:end]) or "/"
            counts[folder] = counts.get(folder, 0) + 1
    return {f for f, n in counts.items() if n >= MANY and gallery.is_empty_folder(f)}

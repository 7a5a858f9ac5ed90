"""Rows whose files are gone: when to believe that, and when a disk may be missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from retrieval.errors import DataError
from retrieval.gallery import Gallery
from retrieval.gallery.stored_rows import StoredRow, StoredRows
from retrieval.retriever.plan import Plan

MANY_GONE = 20


def check_missing(
    gallery: Gallery, plan: Plan, rows: StoredRows, gone: dict[str, StoredRow]
) -> None:
    """Raise DataError if so many files are gone that a drive may not be mounted.

    That is so in three cases: a path that held rows yields no file at all any more, a folder that
    held many is there and empty, or more than half of a path's rows, at least MANY_GONE, are gone.
    gone: those of plan that are surely not found elsewhere. The paths are those given now and those
    given before that lie below them.
    """
    lost_now = [path for path in gone if gallery.is_gone(path)]  # others are excluded by now
    if not lost_now:
        return
    there = _there(gallery, plan, rows)
    all_held, all_lost = _held(gallery, there, rows), _counts(gallery, there, lost_now)
    for root, found in there.items():
        held, lost = all_held[root], all_lost[root]
        if lost and (found == 0 or (lost >= MANY_GONE and 2 * lost > held)):
            least = "at least " if len(gone) < len(plan.gone) else ""
            raise DataError(
                f"{gallery.full(root)} held {held:,} stored images, and {least}{lost:,} of them "
                f"are gone{'' if found else ', as if its drive were not mounted'}. Their rows "
                "stay. Put the files back, or drop their rows with --drop-missing."
            )


def find_gone(gallery: Gallery, rows: StoredRows) -> dict[str, StoredRow]:
    """Find the rows whose files are not there, by their paths."""
    return {path: rows.row(at) for path, at in rows.paths() if gallery.is_gone(path)}


def check_all_there(
    gallery: Gallery,
    rows: StoredRows,
    gone: dict[str, StoredRow],
    sound: dict[str, StoredRow] | None = None,
) -> None:
    """Check all rows for missing files, by the paths that they were indexed by.

    sound: those of gone whose paths can be believed; by default all.
    """
    asked = gone if sound is None else sound
    counts = rows.by_root()
    there = {root: counts[root] for root in counts.keys() - rows.among(counts)}
    for row in gone.values():
        if row.root in there:
            there[row.root] -= 1
    check_missing(gallery, Plan(gone=asked, searched=there), rows, asked)


def _there(gallery: Gallery, plan: Plan, rows: StoredRows) -> dict[str, int]:
    """Stored paths of folders and files, each with the number of files that are there now."""
    searched = gallery.roots_above(plan.searched)
    below = [root for root in sorted(rows.by_root().keys() - plan.searched) if searched(root)]
    files = rows.among(below)
    counts = _held(gallery, below, rows) - _counts(gallery, below, plan.gone)
    there = dict(plan.searched)
    for root in below:
        deleted = root in files or not gallery.full(root).exists()  # a file, or on purpose
        there[root] = max(counts[root], deleted)
    return there | dict.fromkeys(sorted(_emptied(gallery, plan)), 0)


def _held(gallery: Gallery, roots: Iterable[str], rows: StoredRows) -> Counter[str]:
    """How many of the rows are each of the roots, or lie in it."""
    roots_above, counts = gallery.roots_above(roots), Counter(rows.among(roots))
    for folder, held in rows.by_folder():
        counts.update(dict.fromkeys(roots_above(folder), held))
    return counts


def _counts(gallery: Gallery, roots: Iterable[str], paths: Iterable[str]) -> Counter[str]:
    """How many of the stored paths are each of the roots, or lie in it."""
    roots_above, counts = gallery.roots_above(roots), Counter[str]()
    for path in paths:
        counts.update(roots_above(path))
    return counts


def _emptied(gallery: Gallery, plan: Plan) -> set[str]:
    """Folders that held many rows and are there with nothing in them, as mount points are."""
    counts: dict[str, int] = {}
    for path in plan.gone:
        parts = path.split("/")
        for end in range(1, len(parts)):
            folder = "/".join(parts[:end]) or "/"
            counts[folder] = counts.get(folder, 0) + 1
    return {f for f, n in counts.items() if n >= MANY_GONE and gallery.is_empty_folder(f)}

"""Embed all stored images again with another backbone, beside the old rows until all is done."""

from __future__ import annotations

import contextlib
from dataclasses import replace

from retrieval.encoder import Encoder
from retrieval.errors import GalleryError, GalleryWriteError
from retrieval.gallery import Gallery, ImageTable, Settings
from retrieval.gallery.contents import Contents
from retrieval.gallery.stored_rows import StoredRow, StoredRows
from retrieval.images import ImageFile
from retrieval.images.formats import file_facts
from retrieval.retriever.gone import check_all_there, find_gone
from retrieval.retriever.plan import Plan
from retrieval.retriever.tasks import Task, Tasks
from retrieval.retriever.writer import Reading, TaskRunner, Writer, run_tasks
from retrieval.words import Engine


def reembed_rows(
    gallery: Gallery,
    settings: Settings,
    table: ImageTable,
    encoder: Encoder,
    reading: Reading,
    *,
    drop_missing: bool = False,
    run: TaskRunner = run_tasks,
) -> Engine | None:
    """Fill a table beside the old one, then put it in the old one's place in one commit.

    Rows whose files are gone cannot be embedded and are dropped. An interrupted run continues
    where it stopped. Raises GalleryError when a folder that was indexed is not there at all, and
    DataError when so many files are gone that a drive may not be mounted, unless drop_missing.
    """
    if not drop_missing:
        _check_files(gallery, table)
    staging = gallery.staging()
    new = _interrupted(staging, settings)
    if new is None:
        staging.delete()
        new = staging.create(settings)
    done = _still_there(gallery, table, new)
    plan = Plan(tasks=_tasks(gallery, table, done))
    engine = run(plan, Writer.begin(new, Contents.read(new, done)), encoder, reading)
    gallery.check_place()
    table.become(new)
    gallery.publish(replace(settings, engine=engine or settings.engine))
    staging.delete()
    return engine


def _interrupted(staging: Gallery, settings: Settings) -> ImageTable | None:
    """What an interrupted run has embedded with the same backbone, without damaged rows.

    Nothing else compares them with their checksums before they are copied.
    """
    if not staging.exists() or staging.settings().backbone != settings.backbone:
        return None
    new = staging.open_table()
    with contextlib.suppress(GalleryError):
        blocks = (block for piece in new.pieces() for block in new.blocks_of_piece(piece))
        new.remove([row for block in blocks for row in block.ids[block.damaged].tolist()])
        return new
    return None


def _still_there(gallery: Gallery, table: ImageTable, new: ImageTable) -> StoredRows:
    """The staged rows, without those whose image is not stored any more, or is another one now."""
    rows, staged = StoredRows.read(table), StoredRows.read(new)
    sums, staged_sums = (Contents.read(*of).by_place() for of in ((table, rows), (new, staged)))
    old, now = [], []
    for prefix in staged.prefixes:
        stored = rows.places_in(prefix)
        for name, place in staged.places_in(prefix).items():
            at, row = stored.get(name), staged.row(place)
            same = at is not None and sums[at] == staged_sums[place]
            if at is None or not same or _changed(gallery, prefix + name, row):
                old.append(row.id)
                continue
            wanted = rows.row(at)
            if _told(wanted) != _told(row):
                now.append((row.id, *_told(wanted)))
    new.remove(old)
    if now:
        ids, roots, labels, by_hand = zip(*now, strict=True)
        new.update(
            {
                "id": list(ids),
                "root": list(roots),
                "label": list(labels),
                "label_set": list(by_hand),
            }
        )
    return StoredRows.read(new)


def _told(row: StoredRow) -> tuple[str, str | None, bool]:
    """What a row says that its file does not."""
    return row.root, row.label, row.label_set


def forget_staged(gallery: Gallery, table: ImageTable) -> None:
    """Drop what an interrupted run has embedded of images that are not stored any more."""
    staging = gallery.staging()
    if not staging.exists():
        return
    try:
        stored, staged = set(table.paths()), staging.open_table()
        rows = staged.block("id", "path")
        pairs = zip(rows.ids.tolist(), rows.paths, strict=True)
        staged.remove([row for row, path in pairs if path not in stored])
        with contextlib.suppress(GalleryWriteError):  # without room they stay in files for now
            staged.forget_removed()
        staged.drop_old_versions()
    except GalleryError:  # it cannot be used anyway
        staging.delete()


def _changed(gallery: Gallery, path: str, row: StoredRow) -> bool:
    try:
        facts = file_facts(gallery.full(path))
    except OSError:
        return True
    return not facts.are_of(row.size, row.mtime_ns)


def _check_files(gallery: Gallery, table: ImageTable) -> None:
    rows = StoredRows.read(table)
    roots = rows.by_root()
    for root in sorted(roots.keys() - rows.among(roots)):
        if not gallery.full(root).exists():
            raise GalleryError(
                f"{gallery.full(root)} does not exist, so its images cannot be embedded again. "
                "Put it back, or drop them with --drop-missing or `imgret remove` first."
            )
    check_all_there(gallery, rows, find_gone(gallery, rows))


def _tasks(gallery: Gallery, table: ImageTable, staged: StoredRows) -> Tasks:
    tasks = Tasks()
    for rows in table.blocks("path", "root", "label", "label_set", where=None):
        done = staged.among(rows.paths)
        columns = rows.paths, rows.roots, rows.labels, rows.labels_set.tolist()
        for path, root, label, by_hand in zip(*columns, strict=True):
            file = gallery.full(path)
            if path in done:
                continue
            try:
                size, mtime_ns, _ = file_facts(file)
            except OSError:
                continue
            image = ImageFile(file, gallery.full(root), max(0, size), mtime_ns)
            tasks.append(Task(image, path, root, label, None, by_hand))
    return tasks

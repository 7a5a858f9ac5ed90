"""Embed all stored images again with another backbone, beside the old rows until all is done."""

from __future__ import annotations

from retrieval.encoder import Encoder
from retrieval.errors import GalleryError
from retrieval.gallery import Gallery, ImageTable, Settings
from retrieval.images import ImageFile
from retrieval.retriever.indexing import Reading, Writer, run_tasks
from retrieval.retriever.planning import Plan, Stored, Task, read_rows


def reembed_rows(
    gallery: Gallery, settings: Settings, table: ImageTable, encoder: Encoder, reading: Reading
) -> None:
    """Fill a table beside the old one, then put it in the old one's place in one commit.

    Rows whose files are gone cannot be embedded and are dropped. An interrupted run goes on
    where it stopped. Raises GalleryError when a folder that was indexed is not there at all.
    """
    _check_roots(gallery, table)
    staging = gallery.staging()
    if staging.exists() and staging.settings().backbone == settings.backbone:
        new = staging.open_table()
    else:
        staging.delete()
        new = staging.create(settings)
    done = read_rows(new)
    plan = Plan(tasks=_tasks(gallery, table, done))
    run_tasks(plan, Writer(new, done), encoder, reading)
    table.become(new)
    gallery.publish(settings)
    staging.delete()


def _check_roots(gallery: Gallery, table: ImageTable) -> None:
    for root in table.columns(["root"])["root"].unique().to_pylist():
        if not gallery.full(root).exists():
            raise GalleryError(
                f"{gallery.full(root)} is not there, so its images cannot be embedded again. "
                "Bring it back, or drop them with `imgret remove` first."
            )


def _tasks(gallery: Gallery, table: ImageTable, done: dict[str, Stored]) -> list[Task]:
    tasks = []
    for batch in table.batches(["path", "root", "label"], where=None):
        for row in batch.to_pylist():
            path = row["path"]
            file = gallery.full(path)
            if path in done or not file.exists():
                continue
            stat = file.stat()
            image = ImageFile(file, gallery.full(row["root"]), stat.st_size, stat.st_mtime_ns)
            tasks.append(Task(image, path, row["root"], row["label"], None))
    return tasks

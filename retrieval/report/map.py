"""The map of a gallery as one self-contained HTML page."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

from retrieval.progress import Progress
from retrieval.report.cards import address, folded
from retrieval.report.pages import embedded_thumbnail, render_page, write_page
from retrieval.retriever.map import GalleryMap, Point
from retrieval.text import counted, visible
from retrieval.threads import default_workers, map_ahead

MAP_SIDE, MAP_QUALITY = 96, 70  # of a thumbnail: pixels, JPEG


def map_page(
    drawn: GalleryMap, progress: Progress | None = None, beside: Path | None = None
) -> str:
    """Make a self-contained page to zoom, hover, search and pick labels.

    beside: the folder of the page, for its links.
    """
    thumbnails: list[str] = []
    paths = [point.path for point in drawn.points]
    workers = default_workers()
    with closing(map_ahead(_thumbnail, paths, late=lambda _: "", workers=workers)) as pictures:
        for done, made in enumerate(pictures, start=1):
            thumbnails.append(made)
            if progress and (done % 50 == 0 or done == len(paths)):
                progress("drawing", done, len(paths))
    folders: dict[Path, int] = {}
    labels = [label for label, _ in Counter(p.label for p in drawn.points).most_common()]
    code = {label: n for n, label in enumerate(labels)}
    data = {
        "labels": [visible(label or "") for label in labels],
        "points": [_point(p, code, folders, beside) for p in drawn.points],
        "folders": [folded(folder) for folder in folders],
        "thumbnails": thumbnails,
    }
    shown, total = len(drawn.points), drawn.total
    return render_page(
        "map.html.jinja",
        gallery=visible(drawn.gallery.name),
        folder=visible(drawn.gallery),
        method={"umap": "UMAP", "tsne": "t-SNE"}[drawn.method],
        images=f"{shown:,} of " * (shown < total) + counted(total, "image"),
        data=data,
    )


def write_map(file: Path, drawn: GalleryMap, progress: Progress | None = None) -> None:
    """Write map_page() to a file, atomically. Raises WriteError when that fails."""
    write_page(file, map_page(drawn, progress, file.parent))


def _thumbnail(path: Path) -> str:
    """A small one, as there are many; "" where the file is gone."""
    return embedded_thumbnail(path, MAP_SIDE, MAP_QUALITY) or ""


def _point(
    point: Point, code: dict[str, int], folders: dict[Path, int], beside: Path | None
) -> list[Any]:
    """Place, label, name, folder and address of a point; folders: numbered as they come."""
    return [
        round(point.x, 4),
        round(point.y, 4),
        code[point.label],
        visible(point.path.name),
        folders.setdefault(point.path.absolute().parent, len(folders)),
        address(point.path, beside),
    ]

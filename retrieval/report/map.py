"""The map of a gallery as one self-contained HTML page."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from pathlib import Path

from retrieval.progress import Progress
from retrieval.report.pages import embedded_thumbnail, render_page, write_page
from retrieval.retriever.map import GalleryMap
from retrieval.text import counted, visible
from retrieval.threads import default_workers, map_ahead

MAP_SIDE, MAP_QUALITY = 96, 70  # of a thumbnail: pixels, JPEG


def map_page(drawn: GalleryMap, progress: Progress | None = None) -> str:
    """Make a self-contained page to zoom, hover, search and pick labels."""
    thumbnails: list[str] = []
    paths = [point.path for point in drawn.points]
    workers = default_workers()
    with closing(map_ahead(_thumbnail, paths, late=lambda _: "", workers=workers)) as pictures:
        for done, made in enumerate(pictures, start=1):
            thumbnails.append(made)
            if progress and (done % 50 == 0 or done == len(paths)):
                progress("drawing", done, len(paths))
    labels = [label for label, _ in Counter(p.label for p in drawn.points).most_common()]
    code = {label: n for n, label in enumerate(labels)}
    data = {
        "labels": [label and visible(label) for label in labels],
        "points": [
            [round(p.x, 4), round(p.y, 4), code[p.label], _shown(p.path)] for p in drawn.points
        ],
        "thumbnails": thumbnails,
    }
    shown, total = len(drawn.points), drawn.total
    return render_page(
        "map.html.jinja",
        gallery=_shown(drawn.gallery),
        method={"umap": "UMAP", "tsne": "t-SNE"}[drawn.method],
        images=f"{shown:,} of " * (shown < total) + counted(total, "image"),
        data=data,
    )


def write_map(file: Path, drawn: GalleryMap, progress: Progress | None = None) -> None:
    """Write map_page() to a file, atomically. Raises WriteError when that fails."""
    write_page(file, map_page(drawn, progress))


def _thumbnail(path: Path) -> str:
    """A small one, as there are many; "" where the file is gone."""
    return embedded_thumbnail(path, MAP_SIDE, MAP_QUALITY) or ""


def _shown(path: Path) -> str:
    return visible(path)

"""Figures that are grids of pictures: samples, what was misclassified, what models look at."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import ceil
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import ImageOps

from classify.evaluation import ClassifierReport, Mistake, Sample
from classify.explain import Explained, Explanation, draw_grid
from retrieval.errors import ImageError
from retrieval.images import thumbnail
from retrieval.report.style import SOFT, STYLE, WIDTH, one_line, short, told_apart
from retrieval.threads import default_workers, map_ahead

PICTURE_SIDE = 128  # of a picture, pixels
MISTAKES, MISTAKES_ACROSS = 24, 6
PICTURE_CELL = 2 * WIDTH / 9  # inches, with the name beside eight pictures

LINE, LINES_WITH_ROOM = 0.11, 2  # of titles: inches, and how many draw_grid() has room for

Thumbnails = dict[Path, np.ndarray | None]


def picture_figures(evaluation: ClassifierReport) -> dict[str, Figure]:
    """Draw some images of each class, and misclassified ones, the surest first."""
    shown = evaluation.mistakes[:MISTAKES]
    pictures = _read([*(p for s in evaluation.samples for p in s.paths), *(m.path for m in shown)])
    with mpl.rc_context(STYLE):
        figures = {"samples": _samples(evaluation.samples, pictures)}
        if shown:
            figures["mistakes"] = _mistakes(shown, pictures)
    return figures


def explained_figure(explanations: Sequence[Explanation]) -> Figure:
    """Draw a grid with short names and room for titles of several lines."""
    figure = draw_grid(
        [replace(e, models=tuple(_shortened(m) for m in e.models)) for e in explanations]
    )
    columns = 1 + len(explanations[0].models)
    lines = [1 + axes.get_title().count("\n") for axes in figure.axes]
    rows = [max(lines[n : n + columns]) for n in range(0, len(lines), columns)]
    more = LINE * sum(max(0, most - LINES_WITH_ROOM) for most in rows)
    figure.set_size_inches(figure.get_figwidth(), figure.get_figheight() + more)
    figure.set_layout_engine("compressed")
    return figure


def _shortened(model: Explained) -> Explained:
    explained = model.explained
    if explained != model.predicted:
        explained = one_line(explained, 18)
    return replace(model, model=one_line(model.model, 18), explained=explained)


def _samples(samples: Sequence[Sample], pictures: Thumbnails) -> Figure:
    """A row a class."""
    columns = max(len(sample.paths) for sample in samples)
    figure = Figure(
        figsize=(PICTURE_CELL * (columns + 1), PICTURE_CELL * len(samples) + 0.1),
        layout="constrained",
    )
    grid = figure.subplots(len(samples), columns, squeeze=False)
    for row, sample in zip(grid, samples, strict=True):
        for axes, path in zip(row, sample.paths, strict=False):
            _picture(axes, pictures[path])
        for axes in row[len(sample.paths) :]:
            axes.set_visible(False)
        row[0].set_ylabel(short(sample.label, 16), rotation=0, ha="right", va="center", fontsize=7)
    return figure


def _mistakes(mistakes: Sequence[Mistake], pictures: Thumbnails) -> Figure:
    rows, columns = ceil(len(mistakes) / MISTAKES_ACROSS), min(len(mistakes), MISTAKES_ACROSS)
    cell = 2 * WIDTH / MISTAKES_ACROSS
    figure = Figure(figsize=(max(WIDTH, cell * columns), (cell + 0.3) * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, mistake in zip(grid.flat, mistakes, strict=False):
        _picture(axes, pictures[mistake.path])
        predicted, true = told_apart(mistake.predicted, mistake.label, 17)
        said = f"✗ {predicted} {mistake.probability:.2f}\ntrue: {true}"
        axes.set_title(said, fontsize=5.5)
    for axes in grid.flat[len(mistakes) :]:
        axes.set_visible(False)
    return figure


def _picture(axes: Axes, pixels: np.ndarray | None) -> None:
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(True)
    axes.spines[:].set_linewidth(0.4)
    if pixels is None:
        axes.set_box_aspect(1)
        axes.text(0.5, 0.5, "file is\ngone", ha="center", va="center", fontsize=6, color=SOFT,
                  transform=axes.transAxes)  # fmt: skip
    else:
        axes.imshow(pixels, interpolation="bilinear")


def _read(paths: Iterable[Path]) -> Thumbnails:
    wanted = list(dict.fromkeys(paths))
    made = map_ahead(_thumbnail, wanted, late=lambda _: None, workers=default_workers())
    return dict(zip(wanted, made, strict=True))


def _thumbnail(path: Path) -> np.ndarray | None:
    try:
        picture = thumbnail(path, PICTURE_SIDE)
    except ImageError:
        return None
    side = max(picture.size)
    return np.asarray(ImageOps.pad(picture, (side, side), color="white"))

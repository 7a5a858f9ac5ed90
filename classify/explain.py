"""What a classifier looks at: Grad-CAM, and grids of it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from classify.augmentation import Augmenter
from classify.data import (
    find_labelled,
)
from classify.evaluation import softmax
from classify.heat import grad_cam
from classify.predictor import Predictor
from classify.recipe import Augmentation
from retrieval.errors import ArgumentError
from retrieval.images import ImageFile, find_images
from retrieval.loader import load_images
from retrieval.plain import Plain
from retrieval.progress import Progress
from retrieval.report.style import INK, STYLE, short
from retrieval.suggestion import did_you_mean
from retrieval.text import composed

Show = Literal["all", "correct", "misclassified"]
HEAT_CELL, HEAT_DPI, OPACITY = 1.6, 150, 0.45  # inches a picture; of the heat
RIGHT, WRONG = "#009E73", "#D55E00"  # Okabe and Ito 2008
HEAT = "inferno"


@dataclass(frozen=True)
class Explained(Plain):
    """What one model sees in one image.

    heat: (size, size) float32 in [0, 1], how much a place speaks for the class `explained`.
    probability: of the predicted class.
    """

    model: str
    predicted: str
    probability: float
    explained: str
    pixels: np.ndarray
    heat: np.ndarray


@dataclass(frozen=True)
class Explanation(Plain):
    """One image under each model. label: its true class, or None if unknown."""

    path: Path
    label: str | None
    models: tuple[Explained, ...]


def explain(
    predictors: Sequence[Predictor],
    files: Sequence[ImageFile],
    *,
    labels: Sequence[str] | None = None,
    of_class: str | None = None,
    show: Show = "all",
    limit: int = 16,
    progress: Progress | None = None,
) -> tuple[list[Explanation], list[tuple[Path, str]]]:
    """Explain up to `limit` images under each model, and name those that cannot be used.

    labels: of each file. of_class: what is explained, by default the class that is predicted.
    show: only images that the first model has right, or wrong. Raises ArgumentError for a class
    that a model does not know.
    """
    of_class = of_class and composed(of_class)
    for predictor in predictors:
        if of_class is not None and of_class not in predictor.classes:
            raise ArgumentError(
                f"{predictor.name} has no class {of_class!r}, only "
                f"{', '.join(predictor.classes[:10])}. "
                f"{did_you_mean(of_class, predictor.classes)}Name one of these."
            )
    made: list[Explanation] = []
    failed: list[tuple[Path, str]] = []
    with ExitStack() as stack:
        loading = [
            stack.enter_context(closing(load_images(files, predictor.preprocessing)))
            for predictor in predictors
        ]
        for place, loaded in enumerate(zip(*loading, strict=True)):
            label = labels[place] if labels is not None else None
            pixels = [image.pixels for image in loaded if image.pixels is not None]
            if len(pixels) < len(loaded):
                reasons = [image.error for image in loaded if image.error is not None]
                failed.append((loaded[0].file.path, reasons[0] if reasons else "it cannot be used"))
                continue
            path = loaded[0].file.path
            explanation = _explanation(predictors, path, pixels, label, of_class, show)
            if explanation is not None:
                made.append(explanation)
            if progress:
                progress("explaining", len(made), min(limit, len(files)))
            if len(made) == limit:
                break
    return made, failed


def find_files(
    paths: Sequence[Path], classes: Sequence[str]
) -> tuple[list[ImageFile], list[str] | None]:
    """Find the images of files and folders; for one folder with class folders, their labels.

    A folder has class folders when one of them is named as one of `classes`. Its images then come
    in turn, one of each class, so that the first few show all. Raises DataError when a path does
    not exist.
    """
    found = list(find_images(paths))
    folders = [folder for path in paths if path.is_dir() for folder in path.iterdir()]
    if len(paths) != 1 or not any(composed(f.name) in classes and f.is_dir() for f in folders):
        return found, None
    images = find_labelled(paths[0], "folder")
    order = np.argsort(_rank_within_class(images.labels), kind="stable")
    return [images.files[n] for n in order], [images.classes[images.labels[n]] for n in order]


def draw_grid(explanations: Sequence[Explanation]) -> Figure:
    """Draw one row per image: the picture and what each model sees, framed by right or wrong."""
    columns = 1 + len(explanations[0].models)
    with mpl.rc_context(STYLE):
        figure = Figure(
            figsize=(HEAT_CELL * columns, (HEAT_CELL + 0.42) * len(explanations)),
            layout="constrained",
        )
        grid = figure.subplots(len(explanations), columns, squeeze=False)
        for row, explanation in zip(grid, explanations, strict=True):
            _picture(row[0], explanation.models[0].pixels, INK)
            row[0].set_title(short(explanation.label or explanation.path.name, 18), fontsize=7)
            for axes, model in zip(row[1:], explanation.models, strict=True):
                colour = INK
                if explanation.label is not None:
                    colour = RIGHT if model.predicted == explanation.label else WRONG
                _picture(axes, overlaid(model), colour)
                axes.set_title(_caption(explanation, model), fontsize=7, color=colour)
        if columns > 2:
            for axes, model in zip(grid[0][1:], explanations[0].models, strict=True):
                axes.set_title(f"{short(model.model, 18)}\n{axes.get_title()}", fontsize=7)
    return figure


def _explanation(
    predictors: Sequence[Predictor],
    path: Path,
    pictures: Sequence[np.ndarray],
    label: str | None,
    of_class: str | None,
    show: Show,
) -> Explanation | None:
    """Explain one image; None if it is not among those to show."""
    models: list[Explained] = []
    for predictor, pixels in zip(predictors, pictures, strict=True):
        probabilities = softmax(predictor.scores(pixels[None]))[0]
        predicted = predictor.classes[int(probabilities.argmax())]
        if not models and show != "all" and (predicted == label) != (show == "correct"):
            return None
        models.append(_explained(predictor, pixels, probabilities, of_class))
    return Explanation(path, label, tuple(models))


def explain_picture(predictor: Predictor, pixels: np.ndarray) -> Explained:
    """Explain the class that is predicted of one decoded picture, (size, size, 3) uint8."""
    return _explained(predictor, pixels, softmax(predictor.scores(pixels[None]))[0], None)


def overlaid(model: Explained) -> np.ndarray:
    """Return the picture with its heat over it: (size, size, 3) float in [0, 1]."""
    coloured = mpl.colormaps[HEAT](model.heat)[:, :, :3]
    return np.asarray((1 - OPACITY) * model.pixels / 255 + OPACITY * coloured)


def _explained(
    predictor: Predictor, pixels: np.ndarray, probabilities: np.ndarray, of_class: str | None
) -> Explained:
    best = int(probabilities.argmax())
    target = best if of_class is None else predictor.classes.index(of_class)
    augmenter = Augmenter(Augmentation(), predictor.preprocessing)
    x = augmenter.plain(pixels[None], predictor.device)
    return Explained(
        model=predictor.name,
        predicted=predictor.classes[best],
        probability=float(probabilities[best]),
        explained=predictor.classes[target],
        pixels=pixels,
        heat=grad_cam(predictor.network, x, target),
    )


def _rank_within_class(labels: np.ndarray) -> np.ndarray:
    ranks = np.zeros(len(labels), np.int64)
    for label in np.unique(labels):
        places = np.flatnonzero(labels == label)
        ranks[places] = np.arange(len(places))
    return ranks


def _picture(axes: mpl.axes.Axes, pixels: np.ndarray, colour: str) -> None:
    axes.imshow(pixels, interpolation="bilinear")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(True)
    axes.spines[:].set_color(colour)
    axes.spines[:].set_linewidth(1.5 if colour != INK else 0.6)


def _caption(explanation: Explanation, model: Explained) -> str:
    mark = ""
    if explanation.label is not None:
        mark = "✓ " if model.predicted == explanation.label else "✗ "
    text = f"{mark}{short(model.predicted, 18)} {model.probability:.2f}"
    return text if model.explained == model.predicted else f"{text}\nfor {model.explained}"

"""What a classifier looks at: Grad-CAM, and grids of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Literal

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import nn

from classify.augmentation import Augmenter
from classify.data import Labelled, Progress
from classify.evaluation import softmax
from classify.predicting import Predictor
from classify.recipe import Augmentation
from retrieval.errors import ImgretError
from retrieval.gallery.folder import write_atomically
from retrieval.images import ImageFile
from retrieval.loader import Loaded, load_images
from retrieval.report.style import INK, STYLE, short

Show = Literal["all", "correct", "misclassified"]
CELL, DPI, OPACITY = 1.6, 150, 0.45  # inches a picture; of the heat
RIGHT, WRONG = "#009E73", "#D55E00"  # Okabe and Ito 2008
HEAT = "inferno"


@dataclass(frozen=True)
class Explained:
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
class Explanation:
    """One image under each model. label: its true class, or None where that is not known."""

    path: Path
    label: str | None
    models: tuple[Explained, ...]


def grad_cam(network: nn.Module, x: torch.Tensor, target: int) -> np.ndarray:
    """How much each place of a picture speaks for a class: (size, size) float32 in [0, 1].

    x: (1, 3, size, size) float32, normalised. The last map of the network is explained. Source:
    Selvaraju et al. 2017, "Grad-CAM", by the grad-cam package. Raises ImgretError for a network
    without a map.
    """
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    layer = _last_map(network, x)
    with GradCAM(model=network, target_layers=[layer]) as cam:
        # frozen weights pass no gradient on, so the picture has to ask for one
        heat = cam(x.detach().requires_grad_(), targets=[ClassifierOutputTarget(target)])
    return np.asarray(heat[0], np.float32)


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
    show: only images that the first model has right, or wrong. Raises ImgretError for a class that
    a model does not know.
    """
    for predictor in predictors:
        if of_class is not None and of_class not in predictor.classes:
            raise ImgretError(
                f"{predictor.name} knows no class {of_class!r}, only "
                f"{', '.join(predictor.classes[:10])}. Name one of these."
            )
    made: list[Explanation] = []
    failed: list[tuple[Path, str]] = []
    loading = [load_images(files, predictor.preprocessing) for predictor in predictors]
    for place, loaded in enumerate(zip(*loading, strict=True)):
        label = labels[place] if labels is not None else None
        if loaded[0].pixels is None:
            failed.append((loaded[0].file.path, loaded[0].error or "it cannot be used"))
            continue
        explained = _shown(predictors, loaded, label, of_class, show)
        if explained is not None:
            made.append(explained)
        if progress:
            progress("explaining", len(made), limit)
        if len(made) == limit:
            break
    for loader in loading:
        loader.close()
    return made, failed


def files_of(images: Labelled) -> tuple[list[ImageFile], list[str]]:
    """Files and the label of each, the classes by turns."""
    order = np.argsort(_rank_within_class(images.labels), kind="stable")
    return (
        [images.files[n] for n in order],
        [images.classes[images.labels[n]] for n in order],
    )


def draw_grid(explanations: Sequence[Explanation]) -> Figure:
    """A row an image: the picture, then what each model looks at, framed by right or wrong."""
    columns = 1 + len(explanations[0].models)
    with mpl.rc_context(STYLE):
        figure = Figure(
            figsize=(CELL * columns, (CELL + 0.42) * len(explanations)), layout="constrained"
        )
        grid = figure.subplots(len(explanations), columns, squeeze=False)
        for row, explanation in zip(grid, explanations, strict=True):
            _picture(row[0], explanation.models[0].pixels, INK)
            row[0].set_title(short(explanation.label or explanation.path.name, 18), fontsize=7)
            for axes, model in zip(row[1:], explanation.models, strict=True):
                colour = INK
                if explanation.label is not None:
                    colour = RIGHT if model.predicted == explanation.label else WRONG
                _picture(axes, _overlaid(model), colour)
                axes.set_title(_caption(explanation, model), fontsize=7, color=colour)
        if columns > 2:
            for axes, model in zip(grid[0][1:], explanations[0].models, strict=True):
                axes.set_title(f"{short(model.model, 18)}\n{axes.get_title()}", fontsize=7)
    return figure


def write_grid(file: Path, explanations: Sequence[Explanation]) -> None:
    """Write draw_grid() as a PNG, atomically. Raises ImgretError when that fails."""
    figure, stream = draw_grid(explanations), BytesIO()
    with mpl.rc_context(STYLE):
        FigureCanvasAgg(figure)
        figure.savefig(stream, format="png", dpi=DPI)
    try:
        write_atomically(file, stream.getvalue())
    except OSError as error:
        raise ImgretError(f"{file} cannot be written ({error.strerror}).") from error


def _shown(
    predictors: Sequence[Predictor],
    loaded: Sequence[Loaded],
    label: str | None,
    of_class: str | None,
    show: Show,
) -> Explanation | None:
    """The explanation of one image, or None where it is not among those to show."""
    models: list[Explained] = []
    for predictor, image in zip(predictors, loaded, strict=True):
        if image.pixels is None:
            return None
        probabilities = softmax(predictor.scores(image.pixels[None]))[0]
        best = int(probabilities.argmax())
        predicted = predictor.classes[best]
        if not models and show != "all" and (predicted == label) != (show == "correct"):
            return None
        target = best if of_class is None else predictor.classes.index(of_class)
        augmenter = Augmenter(Augmentation(), predictor.preprocessing)
        x = augmenter.plain(image.pixels[None], predictor.device)
        models.append(
            Explained(
                model=predictor.name,
                predicted=predicted,
                probability=float(probabilities[best]),
                explained=predictor.classes[target],
                pixels=image.pixels,
                heat=grad_cam(predictor.network, x, target),
            )
        )
    return Explanation(loaded[0].file.path, label, tuple(models))


def _last_map(network: nn.Module, x: torch.Tensor) -> nn.Module:
    """The last module whose output is (n, c, h, w) with several places."""
    found: list[nn.Module] = []

    def note(module: nn.Module, _inputs: object, output: object) -> None:
        if isinstance(output, torch.Tensor) and output.ndim == 4 and output[0, 0].numel() > 1:
            found.append(module)

    hooks = [module.register_forward_hook(note) for module in network.modules()]
    with torch.inference_mode():
        network(x)
    for hook in hooks:
        hook.remove()
    if not found:
        raise ImgretError(
            "This network makes no map of the picture, so Grad-CAM cannot explain it. Explain a "
            "convolutional one."
        )
    return found[-1]


def _rank_within_class(labels: np.ndarray) -> np.ndarray:
    ranks = np.zeros(len(labels), np.int64)
    for label in np.unique(labels):
        places = np.flatnonzero(labels == label)
        ranks[places] = np.arange(len(places))
    return ranks


def _overlaid(model: Explained) -> np.ndarray:
    coloured = mpl.colormaps[HEAT](model.heat)[:, :, :3]
    return np.asarray((1 - OPACITY) * model.pixels / 255 + OPACITY * coloured)


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

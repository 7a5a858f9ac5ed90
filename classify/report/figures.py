"""Figures of one run and of one evaluation, in the style of retrieval's."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import ceil

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from classify.evaluation import ClassifierReport, ClassReport
from classify.recipe import Recipe
from classify.run import Epoch
from retrieval.report.style import (
    COLOURS,
    INK,
    MARKERS,
    ON_LIGHT,
    SOFT,
    STYLE,
    WIDTH,
    draw_reliability,
    grouped_bars,
    new_figure,
    one_line,
    short,
    styled,
)

NAMED_UP_TO = 20  # classes whose names a matrix shows
BEST_CLASSES = 20
LISTED_UP_TO = 400  # classes with a row each, in up to LISTS columns
LISTS, LEAST_ROWS = 3, 34
CURVES = ("training, augmented", "validation")


def run_figures(history: Sequence[Epoch], recipe: Recipe) -> dict[str, Figure]:
    """Draw loss, accuracy and learning rate by epoch; training against validation."""
    kinds = (recipe.training_loss, recipe.validation_loss)
    with mpl.rc_context(STYLE):
        return {
            "loss": _curve(history, "loss", *_loss_labels(kinds)),
            "accuracy": _curve(history, "accuracy", "accuracy", CURVES),
            "learning-rate": _rates(history),
        }


def report_figures(evaluation: ClassifierReport) -> dict[str, Figure]:
    """Confusion matrix, most confused pairs where there are any, F1 of the best classes,
    precision, recall, F1 and support of each, reliability."""
    with mpl.rc_context(STYLE):
        figures = {"confusion": _confusion(evaluation)}
        if evaluation.confused:
            figures["confused"] = _confused(evaluation)
        return figures | {
            "classes": _classes(evaluation),
            "per-class": _per_class(evaluation),
            "reliability": _reliability(evaluation),
        }


def _loss_labels(kinds: tuple[str, str]) -> tuple[str, tuple[str, str]]:
    """Name the axis of losses, and the curves by what each measures where that is not the same."""
    if kinds[0] == kinds[1]:
        return f"loss ({kinds[0]}, nats)", CURVES
    return "loss", (f"{CURVES[0]}: {kinds[0]}", f"{CURVES[1]}: {kinds[1]}")


def _curve(history: Sequence[Epoch], name: str, title: str, labels: tuple[str, str]) -> Figure:
    figure, axes = new_figure()
    epochs = [epoch.epoch for epoch in history]
    for place, (key, label) in enumerate(zip((name, f"validation_{name}"), labels, strict=True)):
        values = [getattr(epoch, key) for epoch in history]
        if any(value is not None for value in values):
            looks = styled(place) | {"marker": "o" if len(epochs) == 1 else "none"}
            axes.plot(epochs, values, label=label, linewidth=1.2, **looks)
    _mark_phases(axes, history)
    best = next((epoch for epoch in reversed(history) if epoch.is_best), None)
    if best is not None:
        axes.axvline(best.epoch, color=SOFT, linewidth=0.8, linestyle=":")
        axes.annotate(
            f"kept: epoch {best.epoch}",
            (best.epoch, 1),
            xycoords=("data", "axes fraction"),
            ha="right" if best.epoch > len(epochs) / 2 else "left",
            va="bottom",
            fontsize=7,
        )
    whole_epochs(axes, [epoch.epoch for epoch in history])
    axes.set(xlabel="epoch", ylabel=title)
    if name == "accuracy":
        axes.set_ylim(0, 1)
    else:
        axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    return figure


def whole_epochs(axes: Axes, epochs: Sequence[int], most: int = 9) -> None:
    """Mark whole epochs alone, most at a time: of one epoch matplotlib would mark hundredths."""
    if len(set(epochs)) == 1:
        axes.set_xticks([epochs[0]])
    else:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=most, integer=True))


def _mark_phases(axes: Axes, history: Sequence[Epoch]) -> None:
    for before, after in pairwise(history):
        if before.phase != after.phase:
            axes.axvspan(after.epoch - 0.5, after.epoch - 0.45, color=SOFT, linewidth=0)
            axes.text(after.epoch - 0.4, axes.get_ylim()[0], f" phase {after.phase}", fontsize=6,
                      color=SOFT, va="bottom")  # fmt: skip


def _rates(history: Sequence[Epoch]) -> Figure:
    figure, axes = new_figure()
    looks = styled(0) | {"marker": "o" if len(history) == 1 else "none"}
    axes.plot([e.epoch for e in history], [e.lr for e in history], linewidth=1.2, **looks)
    whole_epochs(axes, [epoch.epoch for epoch in history])
    axes.set(xlabel="epoch", ylabel="learning rate at the end")
    axes.set_ylim(bottom=0)
    return figure


def _confusion(evaluation: ClassifierReport) -> Figure:
    """Row shares; numbers and names where there are few classes."""
    counts = np.array(evaluation.confusion)
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    few = len(counts) <= NAMED_UP_TO
    side = max(WIDTH, 0.42 * len(counts) + 1.2) if few else 5.0
    figure, axes = new_figure(height=side, width=side)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    axes.spines[:].set_visible(False)
    if few:
        names = [short(c.label, 16) for c in evaluation.classes]
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
        axes.set_yticks(range(len(names)), names)
        for (i, j), count in np.ndenumerate(counts):
            if count:
                ink = "white" if shares[i, j] > 0.5 else ON_LIGHT
                axes.text(j, i, f"{count:,}", ha="center", va="center", fontsize=6.5, color=ink)
    axes.set(xlabel="predicted", ylabel="true")
    return figure


def _confused(evaluation: ClassifierReport) -> Figure:
    """The class pairs that are taken for one another most often, with counts."""
    pairs = evaluation.confused
    figure, axes = new_figure(height=0.9 + 0.32 * len(pairs))
    places = np.arange(len(pairs))
    axes.barh(places, [pair.count for pair in pairs], height=0.62, color=COLOURS[1], edgecolor=INK,
              linewidth=0.5)  # fmt: skip
    for place, pair in enumerate(pairs):
        axes.annotate(f"{pair.count:,} of {pair.support:,}", (pair.count, place), (2, 0),
                      textcoords="offset points", va="center", fontsize=6,
                      annotation_clip=False)  # fmt: skip
    names = [f"{one_line(p.label, 32)}\n→ {one_line(p.predicted, 30)}" for p in pairs]
    axes.set_yticks(places, names, fontsize=6)
    axes.set_ylim(len(pairs) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axes.set_xlabel("images of the first class\nthat are taken for the second")
    return figure


def _per_class(evaluation: ClassifierReport) -> Figure:
    """Precision, recall, F1 and support, the best F1 first."""
    ranked = sorted(_seen(evaluation), key=lambda c: (-c.f1, c.label))
    if len(ranked) <= NAMED_UP_TO:
        return _class_bars(ranked)
    half = LISTED_UP_TO // 2
    shown = ranked if len(ranked) <= LISTED_UP_TO else ranked[:half] + ranked[-half:]
    columns = min(LISTS, ceil(len(shown) / LEAST_ROWS))
    rows = ceil(len(shown) / columns)
    figure = Figure(figsize=(WIDTH * columns, 0.9 + 0.115 * rows), layout="constrained")
    grid = figure.subplots(1, columns, squeeze=False)[0]
    for n, axes in enumerate(grid):
        _class_list(axes, shown[n * rows : (n + 1) * rows], rows)
    if len(shown) < len(ranked):
        grid[0].set_title(f"the {half} best and the {half} worst of {len(ranked):,}", loc="left")
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside upper right", ncols=3,
                  frameon=False)  # fmt: skip
    return figure


def _class_bars(classes: Sequence[ClassReport]) -> Figure:
    figure, axes = new_figure(height=1.0 + 0.42 * len(classes))
    grouped_bars(axes, {
        "precision": [c.precision for c in classes],
        "recall": [c.recall for c in classes],
        "F1": [c.f1 for c in classes],
    }, digits=2)  # fmt: skip
    axes.set_yticks(
        range(len(classes)), [f"{short(c.label)}\n(n = {c.support:,})" for c in classes]
    )
    axes.set(xlim=(0, 1), xlabel="n: images of the class")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper right", ncols=3,
                  frameon=False)  # fmt: skip
    return figure


def _class_list(axes: Axes, classes: Sequence[ClassReport], rows: int) -> None:
    """A line a class from its precision to its recall, its F1 between them, its support beside."""
    places = np.arange(len(classes))
    precision, recall = [c.precision for c in classes], [c.recall for c in classes]
    axes.hlines(places, 0, 1, color="#e8e8e8", linewidth=0.4, zorder=0)
    axes.hlines(places, precision, recall, color=SOFT, linewidth=0.8, zorder=1)
    for n, (name, values, size) in enumerate(
        [("precision", precision, 4.2), ("recall", recall, 3.2), ("F1", [c.f1 for c in classes], 2)]
    ):
        axes.plot(values, places, color=COLOURS[n], marker=MARKERS[n], markersize=size,
                  linestyle="none", markerfacecolor="none" if n < 2 else COLOURS[n],
                  markeredgewidth=0.8, clip_on=False, label=name)  # fmt: skip
    for place, of_class in zip(places, classes, strict=True):
        axes.annotate(f"{of_class.support:,}", (1, place), (6, 0), textcoords="offset points",
                      va="center", fontsize=5, annotation_clip=False)  # fmt: skip
    axes.set_yticks(places, [one_line(c.label, 42) for c in classes], fontsize=5)
    axes.tick_params(axis="y", length=0)
    axes.set(xlim=(0, 1), ylim=(rows - 0.4, -0.6), xlabel="right of it: images of the class")


def _classes(evaluation: ClassifierReport) -> Figure:
    seen = _seen(evaluation)
    best = sorted(seen, key=lambda c: (-c.f1, c.label))[:BEST_CLASSES]
    figure, axes = new_figure(height=0.9 + 0.2 * len(best))
    places = np.arange(len(best))
    axes.barh(places, [c.f1 for c in best], color=COLOURS[0], edgecolor=INK, linewidth=0.5)
    axes.set_yticks(places, [short(c.label, 34) for c in best])
    axes.set_ylim(len(best) - 0.4, -0.6)
    axes.set_xlim(0, 1)
    axes.tick_params(axis="y", length=0)
    unseen = len(evaluation.classes) - len(seen)
    said = "F1" if len(best) == len(seen) else f"F1, {len(best)} best classes"
    axes.set_xlabel(f"{said}; without the {unseen} of no image" if unseen else said)
    return figure


def _seen(evaluation: ClassifierReport) -> list[ClassReport]:
    """Return the classes that have images: of others there are no figures."""
    return [c for c in evaluation.classes if c.support]


def _reliability(evaluation: ClassifierReport) -> Figure:
    figure, axes = new_figure(height=2.8)
    draw_reliability(axes, evaluation.reliability, "this model")
    axes.set_xlabel("predicted probability")
    axes.set_title(f"expected calibration error {evaluation.calibration_error:.3f}", loc="left")
    return figure

"""Figures of runs and evaluations, in the style of retrieval's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from classify.evaluation import Evaluation
from classify.run import Epoch
from retrieval.report.style import COLOURS, INK, SOFT, STYLE, WIDTH, new_figure, short, styled

NAMED_UP_TO = 20  # classes whose names a matrix shows
BEST_CLASSES = 20


def run_figures(history: Sequence[Epoch]) -> dict[str, Figure]:
    """Loss, accuracy and learning rate by epoch; training against validation."""
    with mpl.rc_context(STYLE):
        return {
            "loss": _curve(history, "loss", "loss (cross-entropy, nats)"),
            "accuracy": _curve(history, "accuracy", "accuracy"),
            "learning-rate": _rates(history),
        }


def evaluation_figures(evaluation: Evaluation) -> dict[str, Figure]:
    """Confusion matrix, F1 of the best classes, reliability."""
    with mpl.rc_context(STYLE):
        return {
            "confusion": _confusion(evaluation),
            "classes": _classes(evaluation),
            "reliability": _reliability(evaluation),
        }


def leaderboard_figures(histories: Mapping[str, Sequence[Epoch]]) -> dict[str, Figure]:
    """Validation loss and accuracy of several runs by epoch."""
    with mpl.rc_context(STYLE):
        return {
            "validation-loss": _compared(histories, "validation_loss", "validation loss (nats)"),
            "validation-accuracy": _compared(
                histories, "validation_accuracy", "validation accuracy"
            ),
        }


def _curve(history: Sequence[Epoch], name: str, title: str) -> Figure:
    figure, axes = new_figure()
    epochs = [epoch.epoch for epoch in history]
    for place, (key, label) in enumerate(
        [(name, "training, augmented"), (f"validation_{name}", "validation")]
    ):
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
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="epoch", ylabel=title)
    if name == "accuracy":
        axes.set_ylim(0, 1)
    else:
        axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    return figure


def _mark_phases(axes: mpl.axes.Axes, history: Sequence[Epoch]) -> None:
    for before, after in pairwise(history):
        if before.phase != after.phase:
            axes.axvspan(after.epoch - 0.5, after.epoch - 0.45, color=SOFT, linewidth=0)
            axes.text(after.epoch - 0.4, axes.get_ylim()[0], f" phase {after.phase}", fontsize=6,
                      color=SOFT, va="bottom")  # fmt: skip


def _rates(history: Sequence[Epoch]) -> Figure:
    figure, axes = new_figure()
    looks = styled(0) | {"marker": "o" if len(history) == 1 else "none"}
    axes.plot([e.epoch for e in history], [e.lr for e in history], linewidth=1.2, **looks)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="epoch", ylabel="learning rate at the end")
    axes.set_ylim(bottom=0)
    return figure


def _compared(histories: Mapping[str, Sequence[Epoch]], key: str, title: str) -> Figure:
    figure, axes = new_figure(height=2.4 + 0.13 * len(histories))
    for place, (name, history) in enumerate(histories.items()):
        points = [(e.epoch, getattr(e, key)) for e in history if getattr(e, key) is not None]
        if points:
            looks = styled(place) | {"markevery": max(1, len(points) // 8), "markersize": 3}
            axes.plot(*zip(*points, strict=True), label=short(name), linewidth=1.1, **looks)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="epoch", ylabel=title)
    if histories:
        handles = axes.get_legend_handles_labels()
        figure.legend(*handles, loc="outside lower center", ncols=2, frameon=False)
    return figure


def _confusion(evaluation: Evaluation) -> Figure:
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
                ink = "white" if shares[i, j] > 0.5 else INK
                axes.text(j, i, f"{count:,}", ha="center", va="center", fontsize=6.5, color=ink)
    axes.set(xlabel="predicted", ylabel="true")
    return figure


def _classes(evaluation: Evaluation) -> Figure:
    best = sorted(evaluation.classes, key=lambda c: (-c.f1, c.label))[:BEST_CLASSES]
    figure, axes = new_figure(height=0.9 + 0.2 * len(best))
    places = np.arange(len(best))
    axes.barh(places, [c.f1 for c in best], color=COLOURS[0], edgecolor=INK, linewidth=0.5)
    axes.set_yticks(places, [short(c.label, 34) for c in best])
    axes.set_ylim(len(best) - 0.4, -0.6)
    axes.set_xlim(0, 1)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(
        "F1" if len(best) == len(evaluation.classes) else f"F1, {len(best)} best classes"
    )
    return figure


def _reliability(evaluation: Evaluation) -> Figure:
    figure, axes = new_figure(height=2.8)
    axes.plot([0, 1], [0, 1], color=SOFT, linestyle="--", linewidth=0.8, label="perfect")
    bins = evaluation.reliability
    found = [b.predicted for b in bins], [b.observed for b in bins]
    axes.plot(*found, color=COLOURS[0], marker="o", markersize=4, linewidth=1.2, clip_on=False,
              label="this model")  # fmt: skip
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="predicted probability", ylabel="share that is right")
    axes.set_title(f"expected calibration error {evaluation.calibration_error:.3f}", loc="left")
    axes.legend(frameon=False, loc="upper left")
    return figure

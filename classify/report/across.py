"""Figures of several runs side by side, in the style of retrieval's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import ceil
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, StrMethodFormatter

from classify.explain import Explained, Explanation, explain
from classify.leaderboard import Entry, KeptTest
from classify.predictor import Predictor
from classify.report.figures import BEST_CLASSES, whole_epochs
from classify.report.pictures import explained_figure
from classify.run import Epoch
from retrieval.errors import ImgretError
from retrieval.images import find_images
from retrieval.report.style import (
    COLOURS,
    INK,
    LINES,
    SOFT,
    STYLE,
    WIDTH,
    grouped_bars,
    new_figure,
    one_line,
    short,
    styled,
)

SHOWN_RUNS = 24  # no two of 24 look alike
ACROSS = 4  # pairs of curves
PANELS_ACROSS = 8  # of classes
FAR_APART = 10  # losses that one linear axis cannot show together

Tests = Sequence[tuple[str, KeptTest]]


def leaderboard_figures(
    entries: Sequence[Entry], explanation: Explanation | None = None
) -> dict[str, Figure]:
    """Draw the figures of up to SHOWN_RUNS runs, by name.

    Those of test images are there where a run was tested, "best-classes" where tested runs know the
    same classes, "grad-cam" with an explanation of one image under each run.
    """
    shown = entries[:SHOWN_RUNS]
    tested = [(entry.name, entry.tested) for entry in shown if entry.tested]
    figures = {}
    with mpl.rc_context(STYLE):
        if tested:
            figures["scores"] = _scores(tested)
            figures["averages"] = _averages(tested)
        if best := best_classes([test for _, test in tested]):
            figures["best-classes"] = _best_classes(tested, best)
        figures["curves"] = _curves(shown)
        for key in ("validation_loss", "validation_accuracy"):
            figures[key.replace("_", "-")] = _compared(shown, key)
    if explanation is not None:
        figures["grad-cam"] = explained_figure([explanation])
    return figures


def explain_across(entries: Sequence[Entry], image: Path) -> tuple[Explanation | None, list[str]]:
    """Explain one image under each of up to SHOWN_RUNS runs, and say which are left out.

    Raises DataError when the image does not exist.
    """
    files = list(find_images([image]))[:1]
    seen: list[Explained] = []
    left_out = []
    for entry in entries[:SHOWN_RUNS]:
        try:
            made, failed = explain([Predictor.load(entry.run.folder)], files)
        except ImgretError as error:
            left_out.append(f"{entry.name} explains nothing: {error}")
            continue
        seen += [replace(explained, model=entry.name) for e in made for explained in e.models]
        left_out += [f"{path}: {reason}" for path, reason in failed]
    explanation = Explanation(files[0].path, None, tuple(seen)) if seen else None
    return explanation, list(dict.fromkeys(left_out))


def best_classes(tests: Sequence[KeptTest]) -> list[str]:
    """Return the classes of the highest mean F1 over tests, of those that are in all tests."""
    if not tests:
        return []
    scores = [{c.label: c.f1 for c in test.classes if c.support} for test in tests]
    common = set.intersection(*(set(of) for of in scores))
    means = {label: float(np.mean([of[label] for of in scores])) for label in common}
    return sorted(common, key=lambda label: (-means[label], label))[:BEST_CLASSES]


def no_best_classes(entries: Sequence[Entry]) -> list[str]:
    """Say that no class is in the tests of all runs, if that is so."""
    tests = [entry.tested for entry in entries[:SHOWN_RUNS] if entry.tested]
    if len(tests) < 2 or best_classes(tests):
        return []
    return ["The best classes are not compared: no class was in the test images of all runs."]


def _scores(tested: Tests) -> Figure:
    """Draw top-1 and top-5 on the left, the loss on the right, one row per run."""
    figure = Figure(figsize=(2 * WIDTH, 1.0 + 0.36 * len(tested)), layout="constrained")
    shares, losses = figure.subplots(1, 2, sharey=True, width_ratios=[3, 2])
    grouped_bars(shares, {
        "top-1": [test.top1 for _, test in tested],
        "top-5": [test.top5 for _, test in tested],
    })  # fmt: skip
    grouped_bars(losses, {"loss": [test.loss for _, test in tested]}, first=2)
    shares.set_yticks(range(len(tested)), [short(name) for name, _ in tested])
    top5 = [test.top5 for _, test in tested]
    shares.set(xlim=(0, _share_limit(top5)), xlabel="share of test images")
    losses.set_xlabel("test loss (cross-entropy, nats)")
    handles, names = shares.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper left", ncols=2, frameon=False)
    return figure


def _averages(tested: Tests) -> Figure:
    figure, axes = new_figure(height=1.0 + 0.5 * len(tested))
    grouped_bars(axes, {
        "precision": [test.precision for _, test in tested],
        "recall": [test.recall for _, test in tested],
        "F1": [test.f1 for _, test in tested],
    })  # fmt: skip
    axes.set_yticks(range(len(tested)), [short(name) for name, _ in tested])
    most = [max(test.precision, test.recall, test.f1) for _, test in tested]
    axes.set(xlim=(0, _share_limit(most)), xlabel="macro average on test images")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper right", ncols=3,
                  frameon=False)  # fmt: skip
    return figure


def _best_classes(tested: Tests, best: Sequence[str]) -> Figure:
    """Draw one panel per run, one row per class; rows are the same in all panels."""
    columns = min(len(tested), PANELS_ACROSS)
    bands = ceil(len(tested) / columns)
    height = 0.95 + 0.15 * len(best)
    figure = Figure(
        figsize=(max(WIDTH, 1.9 + 0.85 * columns), height * bands), layout="constrained"
    )
    grid = figure.subplots(bands, columns, sharex=True, sharey=True, squeeze=False)
    for axes, (name, test) in zip(grid.flat, tested, strict=False):
        f1 = {c.label: c.f1 for c in test.classes}
        grouped_bars(axes, {"F1": [f1[label] for label in best]}, digits=2)
        axes.set_title(short(name, 14), fontsize=7)
        axes.set(xlim=(0, 1), xticks=[0, 0.5, 1], xlabel="F1")
        axes.xaxis.set_tick_params(labelbottom=True)
    for axes in grid[:, 0]:
        axes.set_yticks(range(len(best)), [one_line(label, 32) for label in best])
    _hide_the_rest(grid, len(tested))
    return figure


def _curves(entries: Sequence[Entry]) -> Figure:
    """Draw one column for each run: loss above accuracy, training against validation."""
    columns = min(len(entries), ACROSS)
    bands = ceil(len(entries) / columns)
    figure = Figure(
        figsize=(max(WIDTH, 0.5 + 1.65 * columns), 2.6 * bands + 0.3), layout="constrained"
    )
    grid = figure.subplots(2 * bands, columns, squeeze=False)
    losses, accuracies = grid[0::2].ravel(), grid[1::2].ravel()
    scale = _loss_scale(entries)
    alike = all({e.row.loss_name, e.validation_loss} == {"cross-entropy"} for e in entries)
    keys = ("accuracy", "validation_accuracy")
    accuracy = [v for e in entries for key in keys for _, v in _points(e.history, key)]
    for place, entry in enumerate(entries):
        above, below = losses[place], accuracies[place]
        _course(above, entry.history, "loss")
        _course(below, entry.history, "accuracy")
        kinds = "" if alike else f"\n{entry.row.loss_name} /\n{entry.validation_loss}"
        above.set_title(short(entry.name, 22) + kinds, fontsize=7 if alike else 6)
        above.set(**scale)
        if "yscale" in scale:
            above.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            above.yaxis.set_minor_formatter(NullFormatter())
        if not entry.history:
            above.text(0.5, 0.5, "no epoch is kept", ha="center", transform=above.transAxes,
                       color=INK, fontsize=7)  # fmt: skip
        below.set(ylim=(0, _share_limit(accuracy)), xlabel="epoch")
        above.tick_params(labelbottom=False)
        if place % columns == 0:
            above.set_ylabel("loss (nats)" if alike else "loss")
            below.set_ylabel("accuracy")
        else:
            above.tick_params(labelleft=False)
            below.tick_params(labelleft=False)
    _hide_the_rest(losses, len(entries))
    _hide_the_rest(accuracies, len(entries))
    known: dict[str, Artist] = {}
    for axes in losses[: len(entries)]:
        known |= {line.get_label(): line for line in axes.get_lines()}
    figure.legend(list(known.values()), list(known), loc="outside lower center", ncols=3,
                  frameon=False)  # fmt: skip
    return figure


def _course(axes: Axes, history: Sequence[Epoch], name: str) -> None:
    """One figure of one run by epoch; a dotted line at the epoch whose weights are kept."""
    for place, (key, label) in enumerate(
        [(name, "training, augmented"), (f"validation_{name}", "validation")]
    ):
        points = _points(history, key)
        if points:
            marker = "o" if len(points) == 1 else "none"
            axes.plot(*zip(*points, strict=True), color=COLOURS[place], linestyle=LINES[place],
                      marker=marker, markersize=3, linewidth=1.1, label=label)  # fmt: skip
    best = next((epoch for epoch in reversed(history) if epoch.is_best), None)
    if best is not None:
        axes.axvline(best.epoch, color=SOFT, linewidth=0.8, linestyle=":", label="kept epoch")
    whole_epochs(axes, [epoch.epoch for epoch in history], most=4)


def _loss_scale(entries: Sequence[Entry]) -> dict[str, object]:
    """One scale for the losses of all runs; logarithmic where they are far apart."""
    of_runs = [
        [value for key in ("loss", "validation_loss") for _, value in _points(entry.history, key)]
        for entry in entries
    ]
    most = [max(values) for values in of_runs if values]
    if not most or max(most) <= 0:
        return {}
    least = min(value for values in of_runs for value in values if value > 0)
    if max(most) <= FAR_APART * min(most):
        bottom = 0 if least < max(most) / 2 else least - (max(most) - least) / 10
        return {"ylim": (bottom, max(most) + (max(most) - bottom) / 10)}
    return {"yscale": "log", "ylim": (least / 1.2, 1.2 * max(most))}


def _share_limit(shares: Sequence[float]) -> float:
    """Where an axis of shares ends: at 1, or sooner where all shares are small."""
    most = max(shares, default=1.0)
    return 1.0 if most > 0.5 or not most else 1.1 * most


def _points(history: Sequence[Epoch], key: str) -> list[tuple[int, float]]:
    found = [(epoch.epoch, getattr(epoch, key)) for epoch in history]
    return [(epoch, value) for epoch, value in found if value is not None and np.isfinite(value)]


def _compared(entries: Sequence[Entry], key: str) -> Figure:
    figure, axes = new_figure(height=2.4 + 0.13 * len(entries))
    loss, drawn = key.endswith("loss"), [_points(entry.history, key) for entry in entries]
    kinds = {e.validation_loss for e, points in zip(entries, drawn, strict=True) if points}
    for place, (entry, points) in enumerate(zip(entries, drawn, strict=True)):
        if points:
            looks = styled(place) | {"markevery": max(1, len(points) // 8), "markersize": 3}
            label = one_line(entry.name, 26)
            label += f" ({entry.validation_loss})" * (loss and len(kinds) > 1)
            axes.plot(*zip(*points, strict=True), label=label, linewidth=1.1, **looks)
    whole_epochs(axes, [epoch for points in drawn for epoch, _ in points])
    kind = ", of several kinds" if len(kinds) > 1 else "".join(f" ({one})" for one in kinds)
    axes.set(xlabel="epoch", ylabel=f"validation loss{kind}" if loss else "validation accuracy")
    handles, names = axes.get_legend_handles_labels()
    if handles:
        figure.legend(handles, names, loc="outside lower center", ncols=2, frameon=False)
    else:
        axes.text(0.5, 0.5, "no validation images", ha="center", transform=axes.transAxes,
                  color=INK)  # fmt: skip
    return figure


def _hide_the_rest(grid: np.ndarray, used: int) -> None:
    for axes in grid.flat[used:]:
        axes.set_visible(False)

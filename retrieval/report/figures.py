"""Figures of evaluations and comparisons."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter, StrMethodFormatter

from retrieval.comparison import Comparison, ExperimentResult
from retrieval.evaluation import Calibration, ClassScore, Evaluation, PerQuery
from retrieval.report.style import (
    COLOURS,
    INK,
    ON_LIGHT,
    SOFT,
    STYLE,
    WIDTH,
    draw_reliability,
    grouped_bars,
    new_figure,
    short,
    styled,
)

ROW = 0.34  # inches a bar
LEGEND_UP_TO = 12
CLASSES_SHOWN = 20

Results = Sequence[ExperimentResult]


def comparison_figures(comparison: Comparison) -> dict[str, Figure]:
    """Draw the figures of a comparison, by name; "cost" only where times were measured."""
    results = comparison.experiments
    k = results[0].evaluation.k
    draw: dict[str, Callable[[Results], Figure | None]] = {
        "precision": lambda r: _precision(r, k),
        "distance": lambda r: _distance(r, k),
        "precision-distribution": lambda r: _precision_distribution(r, k),
        "distance-distribution": lambda r: _distance_distribution(r, k),
        "distance-by-rank": _distance_by_rank,
        "vote": _vote,
        "cost": lambda r: _cost(r, k),
    }
    with mpl.rc_context(STYLE):
        made = {name: function(results) for name, function in draw.items()}
    return {name: figure for name, figure in made.items() if figure is not None}


def evaluation_figures(evaluation: Evaluation) -> dict[str, Figure]:
    """Draw the figures of one evaluation, by name; "reliability" where there is a calibration.

    The others only where there are queries."""
    with mpl.rc_context(STYLE):
        figures = {}
        if evaluation.calibration is not None:
            figures["reliability"] = _reliability(evaluation.calibration)
        if not evaluation.queries:
            return figures
        figures["precision-distribution"] = _one_precision_distribution(evaluation)
        figures["distance-by-rank"] = _one_distance_by_rank(evaluation.per_query)
        figures["classes"] = _classes(evaluation)
    return figures


def _bars(results: Results) -> tuple[Figure, Axes, np.ndarray]:
    """Axes with a row for each experiment, the first at the top."""
    figure, axes = new_figure(height=0.9 + ROW * len(results))
    places = np.arange(len(results))
    axes.set_yticks(places, [_named(r) for r in results])
    axes.set_ylim(len(results) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    return figure, axes, places


def _named(result: ExperimentResult) -> str:
    name = short(result.name)
    return f"{name}\n(random weights)" if result.is_random else name


def _looks(results: Results) -> dict[str, Any]:
    """Choose how bars look: grey and hatched for random weights."""
    return {
        "color": ["#a9a9a9" if r.is_random else COLOURS[0] for r in results],
        "hatch": ["////" if r.is_random else "" for r in results],
    }


def _interval_bars(axes: Axes, results: Results, name: str, digits: int) -> None:
    metrics = [r.evaluation.metric(name) for r in results]
    values = np.array([m.value for m in metrics])
    low = np.nan_to_num(np.maximum(values - [m.low for m in metrics], 0))
    high = np.nan_to_num(np.maximum([m.high for m in metrics] - values, 0))
    places = np.arange(len(results))
    axes.barh(places, np.nan_to_num(values), height=0.62, edgecolor=INK, linewidth=0.5,
              xerr=[low, high], error_kw={"elinewidth": 0.8, "capsize": 2},
              **_looks(results))  # fmt: skip
    most = float(np.nanmax(values + high, initial=0)) or 1.0
    for place, (value, up) in enumerate(zip(values, high, strict=True)):
        axes.text(value + up + 0.015 * most, place, f"{value:.{digits}f}", va="center", fontsize=7)
    axes.set_xlim(0, 1.16 * most)


def _precision(results: Results, k: int) -> Figure:
    figure, axes, places = _bars(results)
    _interval_bars(axes, results, f"precision@{k}", 3)
    references = [(p, r.reference) for p, r in zip(places, results, strict=True) if r.reference]
    for place, reference in references:
        axes.plot([reference] * 2, [place - 0.42, place + 0.42], color="#D55E00", linewidth=1.8)
    if references:
        axes.set_xlim(right=max(axes.get_xlim()[1], 1.1 * max(r for _, r in references)))
        axes.plot([], [], color="#D55E00", linewidth=1.8, label="figure to beat")
        axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), borderpad=0)
    axes.set_xlabel(f"mean precision@{k}, 95 % interval")
    return figure


def _distance(results: Results, k: int) -> Figure:
    figure, axes, _ = _bars(results)
    _interval_bars(axes, results, f"distance@{k}", 3)
    axes.set_xlabel(f"mean distance to the {k} nearest\n(1 - cosine), 95 % interval")
    return figure


def _precision_distribution(results: Results, k: int) -> Figure:
    """Shares of queries by the number of right matches, one row an experiment."""
    figure, axes, places = _bars(results)
    axes.set_ylim(len(results) - 0.4, -0.6)
    left = np.zeros(len(results))
    shades = mpl.colormaps["viridis"](np.linspace(0.05, 0.95, k + 1))
    for right in range(k + 1):
        share = np.array(
            [
                float((np.rint(r.evaluation.per_query.precision * k) == right).mean())
                if len(r.evaluation.per_query.precision)
                else 0.0
                for r in results
            ]
        )
        axes.barh(places, share, left=left, height=0.62, color=shades[right], edgecolor="white",
                  linewidth=0.4, label=str(right))  # fmt: skip
        for place in np.flatnonzero(share > 0.07).tolist():
            dark = right < 0.6 * k
            axes.text(left[place] + share[place] / 2, place, str(right), ha="center", va="center",
                      fontsize=6, color="white" if dark else ON_LIGHT)  # fmt: skip
        left += share
    axes.set_xlim(0, 1)
    axes.set_xlabel(f"share of queries,\nby how many of {k} matches are right")
    return figure


def _distance_distribution(results: Results, k: int) -> Figure:
    figure, axes = new_figure(height=2.4 + 0.1 * len(results))
    means = [_mean_distances(r.evaluation.per_query) for r in results]
    every = np.concatenate(means)
    fewest = min(map(len, means))
    bins = np.linspace(*_range(every), 1 + int(np.clip(2 * np.sqrt(fewest), 8, 40)))
    for place, (result, values) in enumerate(zip(results, means, strict=True)):
        share = np.histogram(values, bins)[0] / max(1, len(values))
        looks = styled(place)
        axes.plot((bins[:-1] + bins[1:]) / 2, share, markevery=5, markersize=3, linewidth=1.1,
                  label=_named(result).replace("\n", " "), **looks)  # fmt: skip
    axes.set_xlabel(f"mean distance of a query to its {k} nearest (1 - cosine)")
    axes.set_ylabel("share of queries")
    axes.set_ylim(bottom=0)
    _legend(figure, axes, results)
    return figure


def _distance_by_rank(results: Results) -> Figure:
    figure, axes = new_figure(height=2.4 + 0.1 * len(results))
    for place, result in enumerate(results):
        means = _by_rank(result.evaluation.per_query.distances)
        axes.plot(np.arange(1, len(means) + 1), means, markersize=3.5, linewidth=1.1,
                  label=_named(result).replace("\n", " "), **styled(place))  # fmt: skip
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("rank of the neighbour")
    axes.set_ylabel("mean distance (1 - cosine)")
    _legend(figure, axes, results)
    return figure


def _vote(results: Results) -> Figure:
    votes = [r.evaluation.vote for r in results]
    figure, axes = new_figure(height=1.2 + 0.62 * len(results))
    values = {
        "F1" if name == "f1" else name: np.nan_to_num([getattr(v, f"{name}_macro") for v in votes])
        for name in ("precision", "recall", "f1")
    }
    grouped_bars(axes, {name: of.tolist() for name, of in values.items()})
    axes.set_yticks(range(len(results)), [_named(r) for r in results])
    axes.set_xlabel(f"macro average of the label\nthat {votes[0].k} neighbours vote for")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper right", ncols=3,
                  frameon=False)  # fmt: skip
    return figure


def _cost(results: Results, k: int) -> Figure | None:
    """Quality against the time of an image; those that nothing cheaper beats are joined."""
    known = [
        (place, r.milliseconds, r.evaluation.metric(f"precision@{k}"))
        for place, r in enumerate(results)
        if r.milliseconds
    ]
    if not known:
        return None
    figure, axes = new_figure(height=2.4 + 0.1 * len(results))
    front, best = [], -1.0
    for _, cost, metric in sorted(known, key=lambda item: (item[1], -item[2].value)):
        if metric.value > best:
            best = metric.value
            front.append((cost, best))
    axes.plot(*zip(*front, strict=True), color=SOFT, linewidth=0.8, zorder=1)
    for place, cost, metric in known:
        looks = styled(place) | {"linestyle": "none"}
        spread = [[max(0, metric.value - metric.low)], [max(0, metric.high - metric.value)]]
        axes.errorbar(cost, metric.value, yerr=spread, markersize=5, elinewidth=0.8, capsize=2,
                      label=_named(results[place]).replace("\n", " "), **looks)  # fmt: skip
    costs = [cost for _, cost, _ in known]
    if max(costs) >= 10 * min(costs):  # within a decade a logarithmic axis has one label or none
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("milliseconds to decode and encode an image")
    axes.set_ylabel(f"mean precision@{k}")
    axes.set_ylim(bottom=0)
    _legend(figure, axes, results)
    return figure


def _legend(figure: Figure, axes: Axes, results: Results) -> None:
    if len(results) > 1 or results[0].is_random:
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center",
                      ncols=2 if len(results) > 1 else 1, frameon=False)  # fmt: skip


def _reliability(calibration: Calibration) -> Figure:
    figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
    axes, counts = figure.subplots(2, sharex=True, height_ratios=[3, 1])
    draw_reliability(axes, calibration.reliability, "held-out queries")
    predicted = [b.predicted for b in calibration.reliability]
    axes.set_title(
        f"calibration error {calibration.error:.3f}, Brier score {calibration.brier:.3f}",
        loc="left",
    )
    counts.bar(predicted, [b.count for b in calibration.reliability], width=0.05, color=COLOURS[0])
    counts.set(xlim=(0, 1), xlabel="predicted probability that the best match is right")
    counts.set_ylabel("queries", fontsize=7)
    counts.set_yscale("log")
    counts.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    counts.yaxis.set_minor_formatter(NullFormatter())
    return figure


def _one_precision_distribution(evaluation: Evaluation) -> Figure:
    figure, axes = new_figure()
    k, precision = evaluation.k, evaluation.per_query.precision
    right = np.rint(precision * k).astype(int)
    share = np.bincount(right, minlength=k + 1) / max(1, len(right))
    axes.bar(np.arange(k + 1), share, color=COLOURS[0], edgecolor=INK, linewidth=0.5)
    for place, value in enumerate(share):
        axes.text(place, value, f"{value:.0%}", ha="center", va="bottom", fontsize=6)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel(f"right matches among the first {k}")
    axes.set_ylabel("share of queries")
    return figure


def _one_distance_by_rank(per_query: PerQuery) -> Figure:
    figure, axes = new_figure()
    distances = per_query.distances
    there = [column[np.isfinite(column)] for column in distances.T]
    ranks = [n for n, column in enumerate(there, start=1) if len(column)]
    axes.boxplot([column for column in there if len(column)], positions=ranks, showfliers=False,
                 widths=0.6, medianprops={"color": COLOURS[0], "linewidth": 1.4})  # fmt: skip
    axes.set_xlabel("rank of the neighbour")
    axes.set_ylabel("distance (1 - cosine)")
    axes.set_title("quartiles, whiskers to 1.5 times their distance", loc="left")
    return figure


def _classes(evaluation: Evaluation) -> Figure:
    """Each class's precision, sorted; by name where there are few."""
    classes: Sequence[ClassScore] = evaluation.classes
    if len(classes) > CLASSES_SHOWN:
        figure, axes = new_figure()
        axes.bar(np.arange(len(classes)), [c.precision for c in classes], width=1.0,
                 color=COLOURS[0])  # fmt: skip
        axes.set_xlabel(f"{len(classes)} classes, worst to best")
        axes.set_ylabel(f"mean precision@{evaluation.k}")
        return figure
    figure, axes = new_figure(height=0.9 + 0.22 * max(1, len(classes)))
    places = np.arange(len(classes))
    axes.barh(places, [c.precision for c in classes], color=COLOURS[0], edgecolor=INK,
              linewidth=0.5)  # fmt: skip
    axes.set_yticks(places, [short(c.label, 30) for c in classes])
    axes.set_xlim(0, 1)
    axes.set_xlabel(f"mean precision@{evaluation.k}")
    return figure


def _mean_distances(per_query: PerQuery) -> np.ndarray:
    """The (q,) mean over the neighbours that are there."""
    there = np.isfinite(per_query.distances)
    counts = there.sum(axis=1)
    sums = np.where(there, per_query.distances, 0).sum(axis=1)
    return np.asarray(sums[counts > 0] / counts[counts > 0])


def _by_rank(distances: np.ndarray) -> np.ndarray:
    there = np.isfinite(distances)
    counts = there.sum(axis=0)
    sums = np.where(there, distances, 0).sum(axis=0)
    return np.asarray(sums[counts > 0] / counts[counts > 0])


def _range(values: np.ndarray) -> tuple[float, float]:
    if not len(values):
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    return (low, high) if high > low else (low - 0.5, high + 0.5)

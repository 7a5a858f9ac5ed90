"""How our figures look: legible in print at the width of a column, and for colour-blind readers."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.font_manager import get_font_names

from retrieval.files import make_folder, replaced
from retrieval.report.svg import embedded_svg
from retrieval.text import unwritable, visible

if TYPE_CHECKING:
    from retrieval.evaluation import ReliabilityBin

_log = logging.getLogger("imgret")
WIDTH, DPI = 3.5, 300  # inches: a column of a two-column page
INK, SOFT = "#222222", "#767676"
ON_LIGHT = "#111111"  # on a light area of a figure, which stays light in the dark
# Okabe and Ito 2008, "Color universal design", in an order that also differs in lightness
COLOURS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000"]
MARKERS = ["o", "s", "^", "D", "v", "P", "X", "*"]
LINES = ["-", "--", "-.", ":"]
HATCHES = ["", "////", "....", "xxxx", "\\\\\\\\", "++++", "oooo", "----"]
# fonts of more scripts than DejaVu Sans has, of those that systems bring
WIDER_FONTS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Source Han Sans SC", "Microsoft YaHei",
    "PingFang SC", "WenQuanYi Micro Hei", "Noto Sans Arabic", "Noto Sans Hebrew", "Noto Sans Thai",
    "Noto Sans Devanagari", "Arial Unicode MS",
)  # fmt: skip
FONTS = ["DejaVu Sans", *sorted({*WIDER_FONTS} & {*get_font_names()}, key=WIDER_FONTS.index)]
STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "legend.fontsize": 7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "hatch.linewidth": 0.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "imgret",
    "text.parse_math": False,  # names may hold dollar signs
    "font.family": [*FONTS, "sans-serif"],
    "font.sans-serif": ["DejaVu Sans", "Arial", "Helvetica", "sans-serif"],
}


def new_figure(height: float = 2.4, width: float = WIDTH) -> tuple[Figure, Axes]:
    """Make a figure with one pair of axes, inches."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        return figure, figure.subplots()


def draw_reliability(axes: Axes, bins: Sequence[ReliabilityBin], label: str) -> None:
    """Draw the share that is right by predicted probability, beside a perfect prediction's line."""
    axes.plot([0, 1], [0, 1], color=SOFT, linestyle="--", linewidth=0.8, label="perfect")
    found = [b.predicted for b in bins], [b.observed for b in bins]
    axes.plot(*found, color=COLOURS[0], marker="o", markersize=4, linewidth=1.2, clip_on=False,
              label=label)  # fmt: skip
    axes.set(xlim=(0, 1), ylim=(0, 1), ylabel="share that is right")
    axes.legend(frameon=False, loc="upper left")


def styled(place: int) -> dict[str, Any]:
    """Return colour, marker and line of the n-th experiment; no two of 24 are alike."""
    return {
        "color": COLOURS[place % len(COLOURS)],
        "marker": MARKERS[place % len(MARKERS)],
        "linestyle": LINES[(place + place // len(COLOURS)) % len(LINES)],
    }


def short(name: str, width: int = 22) -> str:
    """Wrap a name for an axis, and cut it after three lines."""
    lines = fill(visible(name), width).split("\n")
    return "\n".join([*lines[:2], lines[2] + " ..."] if len(lines) > 3 else lines)


def one_line(name: str, width: int = 30) -> str:
    """Shorten a name to one line: its beginning and its end.

    >>> one_line("Chevrolet Silverado 1500 Hybrid Crew Cab 2012", 24)
    'Chevrolet Silv…Cab 2012'
    """
    text = visible(name)
    if len(text) <= width:
        return text
    end = width * 3 // 8  # years and numbers, in which long names differ
    return f"{text[: width - end - 1].rstrip()}…{text[len(text) - end :].lstrip()}"


def told_apart(one: str, other: str, width: int = 30) -> tuple[str, str]:
    """Shorten two names to one line each, which differ where the names do.

    >>> told_apart("a long name, first of its series", "a long name, third of its series", 17)
    ('…me, first of it…', '…me, third of it…')
    """
    short_one, short_other = one_line(one, width), one_line(other, width)
    if short_one != short_other or one == other:
        return short_one, short_other
    texts = visible(one), visible(other)
    same = next(
        (n for n, (a, b) in enumerate(zip(*texts, strict=False)) if a != b), min(map(len, texts))
    )
    start = max(0, same - width // 4)
    cut = [f"…{text[start : start + width - 2]}…" for text in texts]
    return cut[0], cut[1]


def grouped_bars(
    axes: Axes, groups: Mapping[str, Sequence[float]], *, digits: int = 3, first: int = 0
) -> None:
    """Draw rows of horizontal bars: one bar per group, its value beside it.

    groups: the values of all rows, the first row at the top. first: place of the first group's
    colour.
    """
    height = 0.78 / len(groups)
    for n, (name, values) in enumerate(groups.items()):
        rows = np.arange(len(values)) + height * (n - (len(groups) - 1) / 2)
        look = first + n
        axes.barh(rows, values, height=0.92 * height, color=COLOURS[look], hatch=HATCHES[look],
                  edgecolor=INK, linewidth=0.4, label=name)  # fmt: skip
        for row, value in zip(rows, values, strict=True):
            axes.annotate(f"{value:.{digits}f}", (value, row), (2, 0), va="center", fontsize=6,
                          textcoords="offset points", annotation_clip=False)  # fmt: skip
        axes.set_ylim(len(values) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)


def as_svg(figure: Figure, prefix: str) -> str:
    """Return a figure as an <svg> element for a page, in the page's colours.

    prefix keeps its ids apart from other figures'.
    """
    stream = BytesIO()
    with mpl.rc_context(STYLE):
        FigureCanvasSVG(figure)
        with _boxes_told_once():  # a browser has other fonts
            figure.savefig(
                stream,
                format="svg",
                transparent=True,
                bbox_inches="tight",
                pad_inches=0.02,
                metadata={"Date": None, "Creator": None},
            )
    return embedded_svg(stream.getvalue().decode(), prefix)


@contextlib.contextmanager
def _boxes_told_once(file: Path | None = None) -> Iterator[None]:
    """Tell once a file, not once a letter, that no font here has some letters; None: not at all."""
    with warnings.catch_warnings(record=True) as told:
        warnings.filterwarnings("always", "Glyph ", UserWarning)
        yield
    missing = [each for each in told if str(each.message).startswith("Glyph ")]
    for each in told:
        if each not in missing:
            warnings.warn(each.message, stacklevel=3)
    if missing and file is not None:
        _log.warning(
            "%s: some letters are boxes, since no font here has them. Install one, such as Noto "
            "Sans CJK.", file.name,
        )  # fmt: skip


def save_figures(figures: dict[str, Figure], folder: Path) -> list[Path]:
    """Write NAME.png (300 dpi) and NAME.svg of each figure.

    Raises WriteError when the folder cannot be written.
    """
    try:
        make_folder(folder)
    except OSError as error:
        raise unwritable(folder, error) from error
    files = {folder / f"{name}.{kind}": name for name in figures for kind in ("png", "svg")}
    for file, name in files.items():
        save_figure(figures[name], file)
    return list(files)


def save_figure(figure: Figure, file: Path) -> None:
    """Write a figure as PNG (300 dpi) or SVG, as the file's name ends, atomically.

    Raises WriteError when that fails.
    """
    kind = file.suffix[1:].lower()
    with mpl.rc_context(STYLE):
        FigureCanvasAgg(figure)
        metadata = {"Date": None} if kind == "svg" else {}
        try:
            with replaced(file) as made, _boxes_told_once(file if kind == "png" else None):
                figure.savefig(made, dpi=DPI, format=kind, metadata=metadata)
        except OSError as error:
            raise unwritable(file, error) from error

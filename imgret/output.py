"""How results and progress reach a person or a pipe.

Names and labels are data: in text and CSV their control characters are written out, JSON and paths
that end in NUL hold them exactly.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from imgret.streams import flush, say, tell, write
from retrieval.progress import Progress
from retrieval.text import HIDDEN, visible

SECONDS_PER_LINE = 5.0
SHARE_PER_LINE = 0.05  # of the time since the job began
NUMERIC = {"rank", "copies", "score", "probability", "value", "low", "high", "queries", "F1"}
BREAKS = {"\n", "\t"}
FORMULA = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20].|[\t\r\n]", re.DOTALL)
STEP_WORDS = {
    "finding": "Finding images",
    "encoding": "Encoding",
    "fitting": "Fitting the transform",
    "indexing": "Building the index",
    "tuning": "Tuning the index",
    "verifying": "Reading rows",
    "augmenting": "Augmenting the index",
    "projecting": "Projecting to two dimensions",
    "drawing": "Drawing thumbnails",
    "ranking": "Ranking the gallery",
    "comparing": "Comparing embeddings",
    "decoding": "Comparing pixels",
    "matching": "Comparing hashes",
    "grouping": "Grouping",
    "reading": "Reading images",
    "scoring": "Scoring",
    "calibrating": "Calibrating",
    "explaining": "Explaining",
    "classifying": "Classifying",
    "rendering": "Rendering pictures",
    "publishing": "Sending to the server",
    "clustering": "Finding clusters",
}


@contextmanager
def shown_progress() -> Iterator[Progress]:
    """Give a progress callback: bars with rate and time left on a terminal, else plain lines."""
    if sys.stderr.isatty():
        with _bars() as progress:
            yield progress
    else:
        yield _lines()


def shown_path(path: Path) -> str:
    """Return a path as one would type it here: relative if it is below the working directory."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; in a pipe, a line of the columns and one per row, separated by tabs.

    Of no rows a pipe gets nothing at all, as from grep.
    """
    if not sys.stdout.isatty():
        lines = [columns, *rows] if rows else []
        write("".join("\t".join(map(visible, line)) + "\n" for line in lines))
        flush()
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for name in columns:
        numeric = name in NUMERIC or name.startswith("precision@")
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(visible(cell)) for cell in row))
    Console().print(table)


def print_facts(facts: Sequence[tuple[str, str]]) -> None:
    """Print lines of a name and its value."""
    width = max(len(name) for name, _ in facts)
    for name, value in facts:
        tell(f"{name:<{width}}  {value}")


def print_text(text: str) -> None:
    """Print text of several lines, with hidden characters written out."""
    write("\n".join(visible(line) for line in text.split("\n")))
    flush()


def print_json(document: Any) -> None:
    """Print a document as JSON in UTF-8; hidden characters in names become JSON escapes.

    A number that JSON lacks, such as NaN, becomes null.
    """
    from retrieval.plain import plain

    text = json.dumps(plain(document), indent=2, ensure_ascii=False, allow_nan=False)
    lines = (HIDDEN.sub(_json_escape, line) for line in text.split("\n"))
    write(("\n".join(lines) + "\n").encode())
    flush()


class Number(str):
    """A number that imgret has written; it may begin with a minus, which a name may not."""

    __slots__ = ()


def print_csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a first line of the columns, then one line per row.

    A cell that is a str, unless it is a Number, is somebody's name. Its control characters are
    written out, but away from a terminal not those that quoting holds, newline and tab.
    Where a spreadsheet would take it for a formula, an apostrophe stands before it (OWASP, "CSV
    Injection").
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_csv_cell(cell) for cell in row] for row in rows)
    write(text.getvalue())
    flush()


def print_paths(paths: Iterable[Path], *, null: bool) -> None:
    """Print each path and NUL or a newline, as bytes; on a terminal without NUL, as text.

    A path that begins with a dash gets "./", so that no program takes it for an option.
    """
    shown = [f"./{path}" if (path := shown_path(p)).startswith("-") else path for p in paths]
    if null or not sys.stdout.isatty():
        end = b"\0" if null else b"\n"
        write(b"".join(os.fsencode(path) + end for path in shown))
    else:
        write("".join(f"{visible(path)}\n" for path in shown))
    flush()


def as_figure(value: float, form: str = ".4f") -> str:
    """Return a number in a format of Python's, or - where there is none.

    >>> as_figure(0.5, "+.2f"), as_figure(float("nan"))
    ('+0.50', '-')
    """
    return "-" if math.isnan(value) else format(value, form)


def as_size(size: int) -> str:
    """Write bytes for a person: 1.5 MB."""
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def as_time(seconds: float) -> str:
    """Write seconds for a person: 40 s, 3 min, 2.5 h."""
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def as_rate(per_second: float) -> str:
    """Write a rate for a person: 1,200/s, 2.5/s, 4.0 s each."""
    if per_second < 1:
        return f"{as_time(1 / per_second)} each"
    return f"{per_second:,.0f}/s" if per_second >= 10 else f"{per_second:.1f}/s"


def _csv_cell(cell: Any) -> Any:
    if isinstance(cell, Path):
        cell = str(cell)
    if not isinstance(cell, str) or isinstance(cell, Number):
        return cell
    quoted = [cell] if sys.stdout.isatty() else re.split(r"([\n\t])", cell)
    name = "".join(part if part in BREAKS else visible(part) for part in quoted)
    return f"'{name}" if FORMULA.match(cell) else name


def _json_escape(found: re.Match[str]) -> str:
    return json.dumps(found[0])[1:-1]


@contextmanager
def _bars() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        SpinnerColumn,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bars

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    tasks: dict[str, tuple[int, float]] = {}
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:

        def progress(what: str, done: int, total: int | None) -> None:
            if what not in tasks:
                words = STEP_WORDS.get(what, what)
                tasks[what] = (int(bars.add_task(words, total=total, rate="")), time.monotonic())
            elif done == 0:  # the same once more, as for another folder
                tasks[what] = tasks[what][0], time.monotonic()
                bars.reset(tasks[what][0])  # type: ignore[arg-type]
            task, since = tasks[what]
            rate = done / max(time.monotonic() - since, 1e-9)
            shown = as_rate(rate) if what == "encoding" and done > 1 else ""
            bars.update(task, completed=done, total=total, rate=shown)  # type: ignore[arg-type]

        yield progress


def _lines() -> Progress:
    begun: dict[str, float] = {}
    counted: dict[str, int] = {}
    last = time.monotonic()

    def progress(what: str, done: int, total: int | None) -> None:
        nonlocal last
        now = time.monotonic()
        since = begun.setdefault(what, now)
        if done < counted.get(what, 0):  # the same once more, as for another folder
            since = begun[what] = now
        counted[what] = done
        finished = total is not None and done >= total > 0
        pause = max(SECONDS_PER_LINE, SHARE_PER_LINE * (now - since))  # fewer in a long job
        if now - last < pause and not finished:
            return
        last = now
        line = f"{STEP_WORDS.get(what, what)}: {done:,}" + (f" of {total:,}" if total else "")
        if total and now > since and done:
            rate = done / (now - since)
            line += f", {as_rate(rate)}, {as_time((total - done) / rate)} left"
        say(line)

    return progress


def say_no_images(paths: Iterable[Path]) -> None:
    """Say that no image was found."""
    say(f"imgret: There are no images below {', '.join(map(str, paths))}.")


def say_passed_over(passed_over: Sequence[tuple[str, int]]) -> None:
    """Say in one line how many pictures, videos and documents have formats that are not read."""
    if passed_over:
        total = sum(count for _, count in passed_over)
        kinds = ", ".join(f"{count:,} {suffix}" for suffix, count in passed_over)
        say(f"passed over {total:,}: {kinds} (formats that imgret does not read)")

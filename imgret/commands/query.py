"""imgret query: images -> the images that look like them."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from imgret.options import (
    ENGINES,
    NamedPath,
    existing_gallery,
    format_option,
    gallery_option,
    max_pixels_option,
)

if TYPE_CHECKING:
    from retrieval.retriever import Match, QueryResult

FOUND, NOTHING, ERROR = 0, 1, 2
LIKELY = 0.5


class Box(click.ParamType[tuple[int, ...]]):
    """X,Y,W,H in pixels."""

    name = "X,Y,W,H"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Four whole numbers, the last two above 0."""
        try:
            box = tuple(int(part) for part in str(value).split(","))
        except ValueError:
            box = ()
        if len(box) != 4 or min(box) < 0 or min(box[2:]) < 1:
            self.fail(f"{value!r} is not X,Y,W,H in whole pixels.", param, ctx)
        return box


@click.command(
    "query",
    epilog="""\b
Examples:
  imgret query photo.jpg --k 5
  imgret query front.jpg side.jpg --mean
  imgret query photo.jpg --where "label = 'BMW M3'" --min-score 0.5
  imgret query photo.jpg --crop 100,50,300,200 --html matches.html
  find new/ -name '*.jpg' | imgret query - --format csv
  imgret query photo.jpg --format paths -0 | xargs -0 cp -t similar/
""",
)
@click.argument("images", nargs=-1, required=True, type=NamedPath())
@gallery_option
@click.option("--k", type=click.IntRange(min=1), default=5, show_default=True, help="Matches.")
@click.option("--mean", is_flag=True, help="Make one query of all the images.")
@click.option("--where", metavar="FILTER", help="Search only rows that pass, in Lance's syntax.")
@click.option("--min-score", type=float, help="Leave out matches of a lower cosine similarity.")
@click.option(
    "--min-confidence",
    type=click.FloatRange(0, 1),
    help="Leave out matches that are less likely to be right; `imgret evaluate` comes first.",
)
@click.option("--crop", type=Box(), help="Search by this region of the image.")
@click.option("--exclude-self", is_flag=True, help="Leave out the same file and same content.")
@click.option("--html", type=NamedPath(path_type=Path), help="Write a contact sheet, too.")
@click.option("-0", "--null", is_flag=True, help="With --format paths: end each with a NUL.")
@click.option(
    "--expand",
    metavar="N[:ALPHA]",
    help="Search again with the mean of the query and its N nearest.",
)
@click.option(
    "--rerank", metavar="M[:K1:K2:W]", help="Order the M nearest by the neighbours that they share."
)
@click.option("--engine", type=click.Choice(ENGINES), help="What runs the backbone.")
@max_pixels_option
@format_option("text", "json", "csv", "paths")
def command(
    images: tuple[str, ...],
    gallery: Path | None,
    mean: bool,
    html: Path | None,
    null: bool,
    engine: Any,
    expand: str | None,
    rerank: str | None,
    output: str,
    **options: Any,
) -> int:
    """Find the images that look like the given ones.

    Several images are several queries; `-` reads their names from standard input, one a line or
    ended by NULs. Exit code 0: something was found, 1: nothing, 2: an error.
    """
    from retrieval.retriever import Retriever

    if null and output != "paths":
        raise click.UsageError("-0 goes with --format paths.")
    paths = _named(images)
    if mean and not paths:
        raise click.UsageError("--mean needs at least one image.")
    if mean and options["crop"]:
        raise click.UsageError("--crop takes one image, not --mean of several.")
    retriever = Retriever(existing_gallery(gallery), engine=engine, expand=expand, rerank=rerank)
    search = retriever.search_mean if mean else retriever.search_files
    found = list(search(paths, **options))
    for result in found:
        if result.error is not None:
            click.echo(f"imgret: {result.query}: {result.error}", err=True)
    good = [result for result in found if result.error is None]
    _warn_of_doubt(good, options["min_confidence"])
    if html is not None:
        from retrieval.report import write_contact_sheet

        write_contact_sheet(html, good)
    _print(good, output, end="\0" if null else "\n")
    if len(good) < len(found):
        return ERROR
    return FOUND if any(result.matches for result in good) else NOTHING


def _warn_of_doubt(results: Sequence[QueryResult], least: float | None) -> None:
    """Say which queries have no match that is likely to be right, where that is known."""
    for result in results:
        probabilities = [m.probability for m in result.matches if m.probability is not None]
        if least is not None and not result.matches:
            click.echo(
                f"imgret: {result.query}: no match is likely to be right (none reaches "
                f"{least:.0%}).",
                err=True,
            )
        elif least is None and probabilities and max(probabilities) < LIKELY:
            click.echo(
                f"imgret: {result.query}: no match is likely to be right (the best has a "
                f"probability of {max(probabilities):.0%}).",
                err=True,
            )


def _named(images: Sequence[str]) -> list[Path]:
    names: list[str] = []
    for image in images:
        names += _listed() if image == "-" else [image]
    return [Path(name) for name in names]


def _listed() -> list[str]:
    """The names on standard input, as bytes of any kind; a name may hold anything but its end."""
    text = os.fsdecode(sys.stdin.buffer.read()) if sys.stdin else ""
    if "\0" in text:
        return [name for name in text.split("\0") if name]
    return [name for line in text.split("\n") if (name := line.removesuffix("\r"))]


def _print(results: Sequence[QueryResult], output: str, *, end: str) -> None:
    from imgret.output import print_table, shown_path

    rows = [
        (str(r.query), rank, m, shown_path(m.path))
        for r in results
        for rank, m in enumerate(r.matches, start=1)
    ]
    if output == "json":
        text = json.dumps([_as_json(r) for r in results], indent=2, ensure_ascii=False)
        click.echo(
            text.encode(errors="backslashreplace")
        )  # bytes of no text: \udcff, as JSON has it
    elif output == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(["query", "rank", "score", "label", "path", "probability"])
        writer.writerows(
            [(q, n, f"{m.score:.4f}", m.label or "", p, _probability(m, 4)) for q, n, m, p in rows]
        )
    elif output == "paths":
        sys.stdout.write("".join(f"{path}{end}" for *_, path in rows))
    else:
        several = len(results) > 1
        columns = ["rank", "score", "label", "path"]
        lines = [[str(n), f"{m.score:.3f}", m.label or "", p] for _, n, m, p in rows]
        if any(m.probability is not None for _, _, m, _ in rows):
            columns.insert(2, "probability")
            for line, (_, _, m, _) in zip(lines, rows, strict=True):
                line.insert(2, _probability(m, 2))
        if several:
            columns = ["query", *columns]
            lines = [[row[0], *line] for row, line in zip(rows, lines, strict=True)]
        print_table(columns, lines)
    sys.stdout.flush()


def _probability(match: Match, digits: int) -> str:
    return "" if match.probability is None else f"{match.probability:.{digits}f}"


def _as_json(result: QueryResult) -> dict[str, Any]:
    from imgret.output import shown_path

    matches = [
        {
            "rank": rank,
            "score": round(m.score, 6),
            "probability": None if m.probability is None else round(m.probability, 6),
            "label": m.label,
            "path": shown_path(m.path),
        }
        for rank, m in enumerate(result.matches, start=1)
    ]
    return {"query": str(result.query), "matches": matches}

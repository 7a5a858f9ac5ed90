"""imgret query: images -> the images that look like them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from imgret.command import Command, check_not_read
from imgret.exits import ERROR, FOUND, NOTHING
from imgret.galleries import existing_gallery
from imgret.options import (
    WholeNumbers,
    engine_option,
    format_option,
    gallery_option,
    max_pixels_option,
    prior_option,
    report_option,
    settings_options,
    trust_option,
    trusted,
)
from imgret.path_types import NamedPath
from imgret.process import importing
from imgret.ranges import DecimalNumber, FiniteNumber, WholeNumber
from imgret.standard_input import HERE, named_images, shown
from imgret.streams import say
from retrieval.text import advised

if TYPE_CHECKING:
    from retrieval.retriever import Match, QueryResult

LIKELY = 0.5


class RegionOption(WholeNumbers):
    """A region, as X,Y,W,H in pixels."""

    name = "X,Y,W,H"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Read four whole numbers, the last two above 0."""
        try:
            box = tuple(int(part) for part in str(value).split(","))
        except ValueError:
            box = ()
        if len(box) != 4:
            self.fail(
                f"{value!r} is not X,Y,W,H in whole pixels. Write it like 100,50,300,200.",
                param,
                ctx,
            )
        for part, given, least in zip(("X", "Y", "W", "H"), box, (0, 0, 1, 1), strict=True):
            if given < least:
                self.fail(f"{part} is {given} in {value!r}. Give {least} or more.", param, ctx)
        return box


@click.command(
    "query",
    cls=Command,
    epilog="""\b
Examples:
  imgret query photo.jpg --k 5
  imgret query front.jpg side.jpg --mean
  imgret query photo.jpg --where "label = 'BMW M3'" --min-score 0.5
  imgret query photo.jpg --crop 100,50,300,200 --report matches.html
  find new/ -name '*.jpg' | imgret query - --format csv
  curl -s https://example.com/photo.jpg | imgret query -
  imgret query photo.jpg --format paths -0 | xargs -0 cp -t similar/
""",
)
@click.argument("images", nargs=-1, required=True, type=NamedPath(stores=True))
@gallery_option
@trust_option
@click.option(
    "--k", type=WholeNumber(min=1), default=5, show_default=True, help="Number of matches."
)
@click.option("--mean", is_flag=True, help="Search by the mean of all images, as one query.")
@click.option(
    "--where", metavar="FILTER", help="Search only rows that pass the filter; see the example."
)
@click.option(
    "--min-score",
    type=FiniteNumber(),
    help="Leave out matches with a lower cosine similarity.",
)
@click.option(
    "--min-confidence",
    type=DecimalNumber(0, 1),
    help="Leave out matches that are less likely to be right. Run `imgret calibrate` first.",
)
@prior_option(None)
@click.option("--crop", type=RegionOption(), help="Search by this region of the image.")
@click.option(
    "--exclude-self", is_flag=True, help="Leave out the query's own file and copies of its content."
)
@click.option("--distinct", is_flag=True, help="Show all copies of a picture as one match.")
@report_option("a contact sheet")
@click.option("-0", "--null", is_flag=True, help="With --format paths: end each path with NUL.")
@settings_options("expand", "rerank")
@engine_option
@max_pixels_option
@format_option("text", "json", "csv", "paths")
def query_command(
    images: tuple[str, ...],
    gallery: Path | None,
    mean: bool,
    report: Path | None,
    null: bool,
    engine: Any,
    expand: str | None,
    rerank: str | None,
    output: str,
    **options: Any,
) -> int:
    """Find the images that look like the given ones.

    Several images are several queries. `-` reads an image from standard input, or names of images,
    one per line or each ended by NUL. Exit codes: 0 found, 1 nothing found, 2 an error.
    """
    with importing():
        from retrieval.retriever import Retriever

    if null and output != "paths":
        raise click.UsageError("-0 only works with --format paths. Give both.")
    with named_images(images) as (paths, given):
        if mean and not paths:
            raise click.UsageError("--mean needs at least one image. Give one or more.")
        if not paths:
            say("imgret: Standard input names no image. Give an image, or names of images.")
        if mean and options["crop"]:
            raise click.UsageError(
                "--crop takes one image, not the --mean of several. Leave one of them out."
            )
        check_not_read([report] if report else [], paths)
        retriever = Retriever(
            existing_gallery(gallery), trust=trusted(), engine=engine, expand=expand, rerank=rerank
        )
        search = retriever.search_mean if mean else retriever.search_files
        found = list(search(paths, **options))
        if report is not None:
            from retrieval.report import write_contact_sheet
            from retrieval.retriever.labels import known_labels

            good = [result for result in found if result.error is None]
            files = [] if mean else [r.query for r in good if r.query != given]
            labels = known_labels(retriever.gallery, files)
            write_contact_sheet(report, good, names={given: HERE}, labels=labels)
    found = [replace(result, query=shown(result.query, given)) for result in found]
    for result in found:
        if result.error is not None:
            say(f"imgret: {result.query}: {advised(result.error)}")
    good = [result for result in found if result.error is None]
    _warn_of_doubt(good, options["min_confidence"])
    known = retriever.gallery.settings().calibration
    if known is not None and known.kind == "class":
        _warn_of_unlabelled(good)
    _warn_of_missing(good)
    _warn_of_strangers(good)
    _print(good, output, null=null, distinct=bool(options["distinct"]))
    if len(good) < len(found):
        return ERROR
    return FOUND if any(result.matches for result in good) else NOTHING


def _warn_of_strangers(results: Sequence[QueryResult]) -> None:
    """Say how many files of matches are not used, because a gallery of somebody else names them."""
    outside = [match for result in results for match in result.matches if match.outside]
    if outside:
        say(
            f"imgret: {len(outside):,} of the matches name files outside of the gallery's folder. "
            "They are neither shown nor passed on, since you did not write the gallery on this "
            "machine. Give --trust if you know where it comes from."
        )


def _warn_of_doubt(results: Sequence[QueryResult], least: float | None) -> None:
    """Say which queries have no match that is likely to be right, if that is known."""
    for result in results:
        probabilities = [m.probability for m in result.matches if m.probability is not None]
        if least and not result.matches:
            say(f"imgret: {result.query}: No match has a probability of {least:g} or more.")
        elif least is None and probabilities and max(probabilities) < LIKELY:
            say(
                f"imgret: {result.query}: No match is likely to be right (the best has a "
                f"probability of {max(probabilities):.2g})."
            )


def _warn_of_unlabelled(results: Sequence[QueryResult]) -> None:
    """Say how many matches have no probability for want of a label."""
    matches = [match for result in results for match in result.matches]
    lacking = sum(match.label is None and match.probability is None for match in matches)
    if lacking:
        say(
            f"imgret: {lacking:,} of the {len(matches):,} matches have no label, so it is unknown "
            "how likely they are right. `imgret calibrate --by picture` needs no labels."
        )


def _warn_of_missing(results: Sequence[QueryResult]) -> None:
    """Say which matches no longer have a file."""
    from imgret.output import shown_path

    for path in dict.fromkeys(m.path for r in results for m in r.matches if m.missing):
        say(f"imgret: {shown_path(path)}: the file is not there. `imgret index` its folder again.")


def _print(results: Sequence[QueryResult], output: str, *, null: bool, distinct: bool) -> None:
    from imgret.output import print_json, print_paths

    if output == "json":
        print_json([_as_json(r, distinct=distinct) for r in results])
    elif output == "csv":
        _print_csv(results, distinct=distinct)
    elif output == "paths":
        print_paths([m.path for r in results for m in r.matches if not m.outside], null=null)
    else:
        _print_text(results, distinct=distinct)


def _print_csv(results: Sequence[QueryResult], *, distinct: bool) -> None:
    from imgret.output import Number, print_csv, shown_path

    columns = ["query", "rank", "score", "label", "path", "probability"]
    rows = [
        [r.query, rank, Number(f"{m.score:.4f}"), m.label or "", shown_path(m.path),
         Number(_probability(m, 4))]
        for r, rank, m in _ranked(results)
    ]  # fmt: skip
    for name, cells in _columns_as_needed(results, distinct=distinct).items():
        columns.append(name)
        rows = [[*row, cell] for row, cell in zip(rows, cells, strict=True)]
    print_csv(columns, rows)


def _print_text(results: Sequence[QueryResult], *, distinct: bool) -> None:
    from imgret.output import print_table, shown_path

    columns = ["rank", "score", "label", "path"]
    ranked = _ranked(results)
    lines = [[str(n), f"{m.score:.3f}", m.label or "", shown_path(m.path)] for _, n, m in ranked]
    if any(m.probability is not None for _, _, m in ranked):
        columns.insert(2, "probability")
        for line, (_, _, m) in zip(lines, ranked, strict=True):
            line.insert(2, _probability(m, 2))
    for name, cells in _columns_as_needed(results, distinct=distinct).items():
        columns.append(name)
        lines = [[*line, cell] for line, cell in zip(lines, cells, strict=True)]
    if len(results) > 1:
        columns = ["query", *columns]
        lines = [[str(r.query), *line] for (r, _, _), line in zip(ranked, lines, strict=True)]
    print_table(columns, lines)


def _ranked(results: Sequence[QueryResult]) -> list[tuple[QueryResult, int, Match]]:
    return [(r, rank, m) for r in results for rank, m in enumerate(r.matches, start=1)]


def _columns_as_needed(results: Sequence[QueryResult], *, distinct: bool) -> dict[str, list[str]]:
    """Return the cells, one per match, of the columns that only some results have."""
    matches = [m for r in results for m in r.matches]
    columns = {"copies": [str(m.copies) for m in matches]} if distinct else {}
    if any(m.missing for m in matches):
        columns["file"] = ["missing" if m.missing else "" for m in matches]
    return columns


def _probability(match: Match, digits: int) -> str:
    return "" if match.probability is None else f"{match.probability:.{digits}f}"


def _as_json(result: QueryResult, *, distinct: bool) -> dict[str, Any]:
    return {
        "query": str(result.query),
        "matches": [
            _match(rank, m) | ({"copies": m.copies} if distinct else {})
            for rank, m in enumerate(result.matches, start=1)
        ],
    }


def _match(rank: int, match: Match) -> dict[str, Any]:
    from imgret.output import shown_path

    known = {
        "rank": rank,
        "score": round(match.score, 6),
        "probability": None if match.probability is None else round(match.probability, 6),
        "label": match.label,
        "path": shown_path(match.path),
    }
    return known | ({"missing": True} if match.missing else {})

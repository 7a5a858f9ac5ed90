"""imgret duplicates: groups of near-identical images; nothing is deleted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from imgret.command import Command
from imgret.exits import FOUND, NOTHING
from imgret.galleries import existing_gallery
from imgret.options import (
    OneOf,
    format_option,
    gallery_option,
    max_pixels_option,
    report_option,
    trust_option,
    trusted,
)
from imgret.path_types import NamedPath
from imgret.ranges import DecimalNumber
from imgret.streams import say
from retrieval.objects import place_of
from retrieval.words import TIERS

if TYPE_CHECKING:
    from retrieval.retriever import DuplicateGroup, DuplicateReport

CSV_COLUMNS = (
    "group", "group_tier", "tier", "score", "width", "height", "size", "label", "gallery", "path"
)  # fmt: skip

APPROXIMATE = "approximate, through an index; each pair is verified exactly"


@click.command(
    "duplicates",
    cls=Command,
    epilog="""\b
Examples:
  imgret duplicates
  imgret duplicates --tier picture --report duplicates.html
  imgret duplicates --where "path LIKE 'holiday/%' AND width >= 640"
  imgret duplicates --gallery test.imgret --against train.imgret
  imgret duplicates --tier bytes --format paths -0 | xargs -0 mv -t aside/
""",
)
@gallery_option
@trust_option
@click.option(
    "--against",
    type=NamedPath(path_type=Path, stores=True),
    metavar="FOLDER",
    help="Another gallery: find only groups with images of both, and keep its images.",
)
@click.option(
    "--tier",
    type=OneOf(TIERS),
    default="similar",
    show_default=True,
    help="The most lenient tier: the same bytes; a picture that looks the same; a copy that was "
    "saved again, scaled, turned or framed; or a similar picture.",
)
@click.option(
    "--threshold",
    type=DecimalNumber(-1, 1),
    help="Least cosine similarity of similar images; by default estimated from the gallery.",
)
@click.option(
    "--where", metavar="FILTER", help="Look only at rows that pass the filter; see the example."
)
@report_option("a contact sheet")
@click.option("-0", "--null", is_flag=True, help="With --format paths: end each path with NUL.")
@max_pixels_option
@format_option("text", "json", "csv", "paths")
def duplicates_command(
    gallery: Path | None, report: Path | None, null: bool, output: str, **options: Any
) -> int:
    """Find groups of near-identical images. Nothing is deleted or changed.

    Each group begins with the image to keep: a raw if there is one, else the image with the most
    pixels, depth, transparency, frames and bytes. --format paths names all others, for you to
    decide about. Files that were deleted or changed since they were indexed are left out and named
    on standard error. Exit codes: 0 groups were found, 1 none, 2 an error.
    """
    from imgret.output import shown_progress
    from retrieval.retriever import Retriever

    if null and output != "paths":
        raise click.UsageError("-0 only works with --format paths. Give both.")
    if options["threshold"] is not None and options["tier"] != "similar":
        raise click.UsageError("--threshold only works with --tier similar. Leave one of them out.")
    with shown_progress() as progress:
        found = Retriever(existing_gallery(gallery), trust=trusted()).duplicates(
            **options, progress=progress
        )
    _tell(found)
    try:
        if report is not None:
            from retrieval.report import write_duplicate_sheet

            write_duplicate_sheet(report, found)
    finally:  # on a full disk the groups are shown all the same
        _print(found, output, null=null)
    return FOUND if found.groups else NOTHING


def _tell(report: DuplicateReport) -> None:
    """Say what was left out, the threshold and the counts."""
    from imgret.output import shown_path

    for path, reason in report.failures:
        say(f"imgret: left out: {shown_path(place_of(path))}: {reason}")
    if report.approximate:
        say(f"neighbours  {APPROXIMATE}{_recall(report)}")
    if report.threshold is not None:
        say(f"threshold  {report.threshold.score:.4f}, {report.threshold.how}")
    for tier, (groups, others) in report.counts.items():
        say(f"{tier:<9}  groups: {groups:,}, images besides the kept: {others:,}")


def _recall(report: DuplicateReport) -> str:
    if report.recall is None:
        return ""
    return f"; of near-copies made to measure it, it found {report.recall:.1%}"


def _print(report: DuplicateReport, output: str, *, null: bool) -> None:
    from imgret.output import print_csv, print_json, print_paths

    if output == "json":
        print_json(_as_json(report))
    elif output == "csv":
        rows = [row for n, group in enumerate(report.groups, start=1) for row in _rows(n, group)]
        print_csv(CSV_COLUMNS, [[row[name] for name in CSV_COLUMNS] for row in rows])
    elif output == "paths":
        print_paths(_others(report), null=null)
    else:
        _print_table(report)


def _print_table(report: DuplicateReport) -> None:
    from imgret.output import as_size, print_table

    columns = ["group", "tier", "score", "pixels", "bytes", "label", "path"]
    lines = [
        [str(row["group"]), row["tier"], f"{row['score']:.3f}", f"{row['width']}x{row['height']}",
         as_size(row["size"]), row["label"] or "", row["path"]]
        for number, group in enumerate(report.groups, start=1)
        for row in _rows(number, group)
    ]  # fmt: skip
    print_table(columns, lines)


def _others(report: DuplicateReport) -> list[Path]:
    """List all members but the representatives and, with another gallery, its images."""
    return [
        member.path
        for group in report.groups
        for member in group.others
        if report.against is None
        or (
            member.gallery == report.gallery and not member.path.samefile(group.representative.path)
        )
    ]


def _as_json(report: DuplicateReport) -> dict[str, Any]:
    from imgret.output import shown_path

    threshold = report.threshold
    return {
        "tier": report.tier,
        "threshold": threshold and {"score": threshold.score, "how": threshold.how},
        "images": report.images,
        "approximate": report.approximate,
        "recall": report.recall,
        "left_out": [
            {"path": shown_path(place_of(path)), "reason": reason}
            for path, reason in report.failures
        ],
        "groups": [
            {"tier": group.tier, "members": [_member(row) for row in _rows(number, group)]}
            for number, group in enumerate(report.groups, start=1)
        ],
    }


def _member(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in {"group", "group_tier"}}


def _rows(number: int, group: DuplicateGroup) -> list[dict[str, Any]]:
    """One row per member, in the order of the columns; the representative's tier is "keep"."""
    from imgret.output import shown_path

    return [
        {
            "group": number,
            "group_tier": group.tier,
            "tier": member.tier or "keep",
            "score": round(member.score, 6),
            "width": member.width,
            "height": member.height,
            "size": member.size,
            "label": member.label,
            "gallery": shown_path(member.gallery),
            "path": shown_path(member.path),
        }
        for member in group.members
    ]

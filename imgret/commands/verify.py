"""imgret verify: whether all that is stored is in order."""

from __future__ import annotations

from pathlib import Path

import click

from imgret.command import Command
from imgret.galleries import existing_gallery
from imgret.options import gallery_option, trust_option, trusted
from imgret.streams import say, tell
from retrieval.text import counted


@click.command(
    "verify",
    cls=Command,
    epilog="""\b
Examples:
  imgret verify
  imgret verify --repair
""",
)
@gallery_option
@trust_option
@click.option(
    "--repair",
    is_flag=True,
    help="Embed damaged rows again, rebuild derived data, and drop rows of deleted files.",
)
@click.option(
    "--drop-missing",
    is_flag=True,
    help="With --repair: drop rows even if so many files are gone that imgret would refuse.",
)
def verify_command(gallery: Path | None, repair: bool, drop_missing: bool) -> int:
    """Check every stored byte, that the index agrees with the rows, and that the files exist.

    Exit code 2 says that something is wrong.
    """
    from imgret.output import as_size, shown_progress
    from retrieval.retriever import Retriever

    if drop_missing and not repair:
        raise click.UsageError("--drop-missing only works with --repair. Give both.")
    with shown_progress() as progress:
        report = Retriever(existing_gallery(gallery), trust=trusted()).verify(
            repair=repair, drop_missing=drop_missing, progress=progress
        )
    for path in report.missing:
        say(f"gone: {path}")
    for path in report.damaged:
        say(f"damaged: {path}")
    for leftover, size in report.leftovers:
        say(f"left over by an interrupted command: {leftover}, {as_size(size)}")
    for line in report.repaired:
        tell(f"repaired: {line}")
    for line in report.problems:
        tell(f"problem: {line}")
    tell(f"{counted(report.rows, 'row')}, {'all is well' if report.ok else 'not all is well'}")
    return 0 if report.ok else 2

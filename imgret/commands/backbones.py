"""imgret backbones: the networks that --backbone takes."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import click

from imgret.command import Command
from imgret.options import format_option
from imgret.streams import say

if TYPE_CHECKING:
    from retrieval.encoder import ListedBackbone

LISTED_COLUMNS = ["name", "short", "width", "input", "parameters", "weights", "licence"]


@click.command(
    "backbones",
    cls=Command,
    epilog="""\b
Examples:
  imgret backbones
  imgret backbones dinov2
  imgret backbones --all --format json > backbones.json
""",
)
@click.argument("word", required=False)
@click.option("--all", "every", is_flag=True, help="Also list all backbones of timm.")
@format_option("text", "json")
def backbones_command(word: str | None, every: bool, output: str) -> int:
    """List the backbones that have WORD in their names.

    Without WORD: imgret's own, those with a short name, and those with weights on this machine.

    Each row shows its name and short name, the width of an embedding, the side of the input in
    pixels and the parameters without the classifier. It ends with the licence and the place of the
    weights: in the package, in the hub's cache, exported by imgret, or - if they have to be
    downloaded. Exit codes: 0 found, 1 none has this name, 2 an error.
    """
    from imgret.output import print_json, print_table
    from retrieval.encoder import cache_folder, list_backbones
    from retrieval.libraries import how_to_install

    if word and every:
        raise click.UsageError("WORD looks at all backbones already. Leave out --all.")
    listed = list_backbones(cache_folder(), word, every=every)
    if output == "json":
        print_json([dataclasses.asdict(backbone) for backbone in listed.backbones])
    elif listed.backbones:
        print_table(LISTED_COLUMNS, [_row(backbone) for backbone in listed.backbones])
    if listed.lacks:
        say(how_to_install(listed.lacks, by="Any other backbone"))
    if not listed.backbones and listed.lacks:
        return 1
    if not listed.backbones:
        say(f"imgret: {_none_of(word or '')}")
        return 1
    if listed.others:
        say(f"{listed.others:,} more are listed by name (`imgret backbones resnet`) or by --all.")
    return 0


def _none_of(word: str) -> str:
    from retrieval.backbones import MINI, SHORT_NAMES, alike

    near = ", ".join(alike(word, *SHORT_NAMES, MINI))
    return f"There is no backbone with {word[:80]!r} in its name." + (
        f" Did you mean {near}?" if near else " Run `imgret backbones --all` for a list."
    )


def _row(backbone: ListedBackbone) -> list[str]:
    values = (getattr(backbone, column) for column in LISTED_COLUMNS)
    return ["-" if v is None else f"{v:,}" if isinstance(v, int) else str(v) for v in values]

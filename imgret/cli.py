"""The command line: names -> help lines, errors -> message and exit code."""

from __future__ import annotations

import sys
import warnings
from importlib import import_module
from typing import Any, NoReturn

import click

from imgret.interrupts import INTERRUPTED, end_at_once, second_interrupt_ends_at_once
from imgret.packages import check_packages

COMMANDS = {
    "index": "Embed the images below folders and files, and make them searchable.",
    "query": "Find the images that look like the given ones.",
    "evaluate": "Measure by labels how good the matches are.",
    "calibrate": "Learn how likely a match is right, with or without labels.",
    "compare": "Compare backbones, sizes, transforms and recipes side by side.",
    "tune": "Find the best settings for your own labelled images.",
    "duplicates": "Find groups of near-identical images; delete nothing.",
    "map": "Draw the gallery as a map on one HTML page.",
    "sample": "Write a folder of labelled pictures of parts, to try things out.",
    "backbones": "List the networks that make embeddings, with width, size and licence.",
    "recipes": "List the recipes and experiments that come with imgret.",
    "train": "Train a classifier on folders of labelled images.",
    "predict": "Predict the classes of images.",
    "test": "Measure how good a trained classifier is.",
    "explain": "Show what a classifier looks at.",
    "serve": "Search over HTTP, and on a page in the browser.",
    "mcp": "Offer a gallery to agents, as tools of the Model Context Protocol.",
    "leaderboard": "Compare trained classifiers side by side.",
    "info": "Show what a gallery holds and how it was made.",
    "publish": "Put a gallery into a Milvus server, to be searched there.",
    "remove": "Drop images from a gallery; their files stay.",
    "verify": "Check a gallery, and repair it with --repair.",
    "export": "Write ids, paths, labels and embeddings to .parquet or .npz.",
    "export-backbone": "Write a backbone as ONNX or OpenVINO's files, for other programs.",
}
EPILOG = """\b
Examples:
  imgret index cars/
  imgret query photo.jpg --k 5
  imgret query photo.jpg --format paths -0 | xargs -0 cp -t similar/

Exit codes: 0 done or found, 1 nothing found, 2 an error or wrong usage.
"""


class LazyGroup(click.Group):
    """Imports a command's file when that command is called, so that --help imports little."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List the names in the order in which one needs them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command."""
        if cmd_name not in COMMANDS:
            return None
        name = cmd_name.replace("-", "_")
        module = import_module(f"imgret.commands.{name}")
        command: click.Command = getattr(module, f"{name}_command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the named command. Raises UsageError, which suggests a similar name."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from retrieval.suggestion import did_you_mean

            raise click.UsageError(
                f"There is no command {args[0]!r}. {did_you_mean(args[0], COMMANDS)}"
                "Run `imgret --help` for a list.",
                ctx,
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table of commands, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _tell_version(context: click.Context, option: click.Parameter, asked: Any) -> None:
    """Print the version and exit, if requested."""
    if asked and not context.resilient_parsing:
        from imgret import __version__
        from imgret.streams import tell

        tell(f"imgret, version {__version__}")
        context.exit()


@click.group(cls=LazyGroup, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_tell_version,
    help="Show the version and exit.",
)
def cli() -> None:
    """Find, in folders of images, the ones that look like a given image."""


def main() -> NoReturn:
    """Run the command line and exit as grep does."""
    try:
        check_packages()
    except ImportError as error:  # what would write it with care may not be ours
        sys.stderr.write(f"imgret: {str(error).encode('unicode_escape').decode()}\n")
        sys.exit(2)  # exits.ERROR, which is not imported yet
    from imgret.exits import exit_code
    from imgret.streams import flush, prepare_streams

    prepare_streams()
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    with second_interrupt_ends_at_once():
        code = exit_code(lambda: cli.main(standalone_mode=False))
        code = exit_code(flush) or code
        if code == INTERRUPTED:
            end_at_once()
    sys.exit(code)

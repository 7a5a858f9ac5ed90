"""What a command returns or raises -> a sentence on standard error and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import click

from imgret.interrupts import INTERRUPTED
from imgret.streams import abandon, say
from retrieval.errors import ImageError, ImgretError
from retrieval.libraries import how_to_install, lacks_library
from retrieval.suggestion import did_you_mean
from retrieval.text import advised, one_sentence, remedy

FOUND, NOTHING, ERROR = 0, 1, 2  # grep's
IN_PLAIN_WORDS = {  # what click calls the values of its types
    "is not a valid integer.": "is not a whole number. Give one.",
    "is not a valid float.": "is not a number. Give one.",
}


def exit_code(step: Callable[[], Any]) -> int:
    """Run a step and return its exit code; say in a sentence what it raises.

    In Python's development mode (-X dev) what nobody expects is raised.
    """
    try:
        code = step()
        return code if isinstance(code, int) else FOUND
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        return _say_misuse(error)
    except (KeyboardInterrupt, click.Abort):
        say(
            "Interrupted. What was stored stays; run the same command again to continue.",
            prefix="\n",
        )
        return INTERRUPTED
    except (BrokenPipeError, SystemExit):  # click exits where the reader of its help has gone
        abandon()
        return FOUND
    except Exception as error:
        if sys.flags.dev_mode and not isinstance(error, ImgretError | OSError):
            raise
        say(f"imgret: {_sentence(error)}")
        return error.exit_code if isinstance(error, ImgretError) else ERROR


def _say_misuse(error: click.ClickException) -> int:
    """Say what is wrong with the usage, as click does; return the exit code."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    if context is not None:
        for line in context.get_usage().splitlines():
            say(line)
        say(f"Try '{context.command_path} {context.help_option_names[0]}' for help.")
        say("")
    said = error.format_message()
    if isinstance(error, click.NoSuchOption):
        near = did_you_mean(error.option_name, error.possibilities or ())
        said = f"There is no option {error.option_name}. {near}Choose one that --help lists."
    for of_click, ours in IN_PLAIN_WORDS.items():
        said = said.replace(of_click, ours)
    say(f"Error: {said}")
    return ERROR


def _sentence(error: Exception) -> str:
    """Say what went wrong and what to do, without a traceback."""
    if isinstance(error, ImportError) and error.name:  # ours name no module
        library = error.name.partition(".")[0]
        if lacks_library(error):
            return how_to_install(library)
        return f"{library} cannot be loaded: {one_sentence(error)}. Install it, or what it lacks."
    if isinstance(error, ImageError):
        return advised(str(error))
    if isinstance(error, ImgretError | ImportError):
        return str(error)
    if isinstance(error, OSError):
        place = "" if error.filename is None else f"{error.filename}: "
        return f"{place}{one_sentence(error)}. {remedy(error)}"
    return (
        f"imgret did not expect this {type(error).__name__} ({one_sentence(error)}). Please report "
        "it with the output of `python -X dev -m imgret ...`, which shows where it comes from."
    )

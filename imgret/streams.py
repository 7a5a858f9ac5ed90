"""Standard input, output and error: what a name holds reaches none of them as a command.

Messages and text are lines in which control characters are written out (retrieval.text.visible).
JSON and paths that end in NUL are exact. Where standard output is not UTF-8, text has backslash
escapes for what it cannot hold; JSON is UTF-8 always. Who reads may stop early: that is no error.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from retrieval.errors import WriteError
from retrieval.text import one_sentence, remedy, visible


def prepare_streams() -> None:
    """Let names of any characters pass, and replace a stream that the caller has closed."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115  for good
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    logging.basicConfig(level=logging.WARNING, handlers=[_SaidLine()])


class _SaidLine(logging.Handler):
    """Writes what a library logs as a line on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        """Say a record, without a traceback."""
        say(f"imgret: {record.getMessage()}")


def say(message: object, *, prefix: str = "") -> None:
    """Write one line to standard error. prefix: written before it as it is."""
    with contextlib.suppress(OSError, ValueError):  # nobody listens any more
        sys.stderr.write(f"{prefix}{visible(message)}\n")
        sys.stderr.flush()


def tell(line: object = "") -> None:
    """Write one line to standard output, at once."""
    write(f"{visible(line)}\n")
    flush()


def write(content: str | bytes) -> None:
    """Write to standard output: text as it is, bytes past its encoding.

    Raises click's Exit with 0 when the reader of a pipe has gone, and WriteError when standard
    output cannot be written otherwise.
    """
    with _told():
        binary = getattr(sys.stdout, "buffer", None)
        if isinstance(content, str):
            sys.stdout.write(content)
        elif binary is not None:
            sys.stdout.flush()
            binary.write(content)
        else:
            sys.stdout.write(content.decode(errors="backslashreplace"))


def flush() -> None:
    """Flush standard output. Raises as write() does."""
    with _told():
        sys.stdout.flush()


def abandon() -> None:
    """Write no more to standard output, and discard what its buffer holds."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()


@contextlib.contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        abandon()
        raise click.exceptions.Exit(0) from None
    except OSError as error:
        abandon()
        raise WriteError(
            f"Standard output cannot be written ({one_sentence(error)}). {remedy(error)}"
        ) from error

"""A command that takes each option once, no empty text, and writes over nothing that it reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from imgret.path_types import FileToWrite, FolderToWrite, NamedPath
from retrieval.files import identity, is_a_file


class Command(click.Command):
    """Refuses values that would silently do something else than they say."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse as click does. Raises UsageError."""
        given, _, order = self.make_parser(ctx).parse_args(list(args))
        for option, times in Counter(order).items():
            if times > 1 and _takes_one(option):
                raise click.UsageError(
                    f"{option.opts[0]} was given {times} times. Give it once.", ctx
                )
        for param in self.params:
            if _is_text(param) and "" in _several(given.get(param.name or "")):
                raise click.UsageError(_empty(param), ctx)
        left = super().parse_args(ctx, args)
        _check_apart(self.params, ctx.params)
        return left


def check_not_read(written: Iterable[Path], read: Iterable[str | Path]) -> None:
    """Raise UsageError for a file to write that is one of those that are read.

    Links are followed; what is not there yet is none of them.
    """
    there = {known: file for file in written if (known := identity(file))}
    for file in read if there else ():
        if (known := identity(Path(file))) in there:
            raise click.UsageError(
                f"{there[known]} is read, and would be overwritten. Name another file to write."
            )


def _check_apart(params: Iterable[click.Parameter], values: Mapping[str, Any]) -> None:
    """Raise UsageError where a command is to write to a file that it is given to read."""
    files: list[Path] = []
    folders: list[Path] = []
    read: list[str | Path] = []
    for param in params:
        if isinstance(param.type, FileToWrite | FolderToWrite):
            made = files if isinstance(param.type, FileToWrite) else folders
            made += _several(values.get(param.name or ""))
        elif isinstance(param.type, NamedPath) or _is_text(param):
            read += _several(values.get(param.name or ""))
    check_not_read(files, read)
    for file in filter(is_a_file, read if folders else ()):
        for folder in folders:
            if Path(file).resolve().parent == folder.resolve():
                raise click.UsageError(
                    f"{file} is read, and lies in {folder}, where files are written. Name another "
                    "folder to write to."
                )


def _is_text(param: click.Parameter) -> bool:
    return isinstance(param.type, click.types.StringParamType)


def _several(value: Any) -> list[Any]:
    """Return the values of a parameter: those of a list, or the one, or none."""
    if isinstance(value, list | tuple):
        return list(value)
    return [value] if isinstance(value, str | Path) else []


def _empty(param: click.Parameter) -> str:
    """Say what to give instead of an empty text."""
    what = " or ".join((param.metavar or "a value").split("|"))
    instead = "." if param.required else ", or leave it out."
    name = param.opts[0] if isinstance(param, click.Option) else param.human_readable_name
    return f"{name} is empty. Give {what}{instead}"


def _takes_one(param: Any) -> bool:
    return isinstance(param, click.Option) and not (param.multiple or param.count or param.is_eager)

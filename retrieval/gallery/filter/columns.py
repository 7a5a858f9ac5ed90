"""The columns that a filter may name, and what each holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from retrieval.suggestion import nearest

Holds = Literal["text", "whole numbers", "true or false"]


@dataclass(frozen=True, slots=True)
class KnownColumn:
    """One column. bits: of its whole numbers. like: one of them, for messages.

    alias: names that people know it by, but that a filter does not take.
    """

    name: str
    holds: Holds = "text"
    bits: int = 0
    like: str = "640"
    alias: tuple[str, ...] = ()


KNOWN_COLUMNS = {
    column.name: column
    for column in (
        KnownColumn("path", alias=("name", "file", "filename", "folder", "image")),
        KnownColumn("root"),
        KnownColumn("label", alias=("class", "category", "tag")),
        KnownColumn("sha256"),
        KnownColumn("facts.format"),
        KnownColumn("facts.profile"),
        KnownColumn("facts.note"),
        KnownColumn("width", "whole numbers", 32),
        KnownColumn("height", "whole numbers", 32),
        KnownColumn("size", "whole numbers", 64, alias=("bytes", "filesize")),
        KnownColumn(
            "mtime_ns",
            "whole numbers",
            64,
            like="1577836800000000000, nanoseconds from 1970 to 2020",
            alias=("date", "time", "modified", "mtime"),
        ),
        KnownColumn("id", "whole numbers", 64),
        KnownColumn("facts.frames", "whole numbers", 32),
        KnownColumn("facts.depth", "whole numbers", 32),
        KnownColumn("facts.alpha", "true or false"),
    )
}


def columns_told() -> str:
    """List the columns for users by what they hold, as the end of a sentence."""
    of_kind: dict[str, list[str]] = {}
    for column in KNOWN_COLUMNS.values():
        of_kind.setdefault(column.holds, []).append(column.name)
    return ", ".join(f"{', '.join(names)} ({holds})" for holds, names in of_kind.items())


def column_like(name: str) -> str | None:
    """Return the column that a wrong name resembles, or None."""
    for column in KNOWN_COLUMNS.values():
        if name.lower() in column.alias:
            return column.name
    called = {known.split(".")[-1]: known for known in reversed(KNOWN_COLUMNS)}
    called |= {known: known for known in KNOWN_COLUMNS}
    near = nearest(name, called)
    return called[near] if near else None

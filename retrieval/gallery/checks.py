"""Records of values from files of others, each of which is checked.

pydantic does that too, but its import and its models take a tenth of the time of a query.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, Self

Check = Callable[[Any], Any]
"""Gives a value as it is kept. Raises BadValue for one that it does not take."""

LONGEST_SHOWN = 80  # characters of a value


class BadValue(ValueError):
    """What is wrong with a value, and the keys that lead to it."""

    def __init__(self, what: str, *keys: str) -> None:
        super().__init__(f"{'.'.join(keys)}: {what}")
        self.what = what
        self.keys = keys


@dataclass(frozen=True, kw_only=True)
class Checked:
    """A record whose fields have their checks as metadata, and are checked when it is made."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.default is MISSING or value is not field.default:
                kept = _below(field.name, field.metadata["check"], value)
                object.__setattr__(self, field.name, kept)

    @classmethod
    def read(cls, values: Any) -> Self:
        """Make a record of a table of TOML. Raises BadValue."""
        if not isinstance(values, dict):
            raise refusal("a table", values)
        known = {field.name: field for field in fields(cls)}
        for name, field in known.items():
            if name not in values and field.default is MISSING and field.default_factory is MISSING:
                raise BadValue("this key is missing", name)
        made = {name: value for name, value in values.items() if name in known}
        if len(made) < len(values):
            raise BadValue("there is no such key", next(n for n in values if n not in known))
        return cls(**made)

    def as_table(self) -> dict[str, Any]:
        """Return the fields that are not None, as TOML takes them."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: _plain(value) for name, value in values.items() if value is not None}


def takes_record(kind: type[Checked]) -> Mapping[str, Check]:
    """Take a record, or the table of one."""
    return {"check": lambda value: value if isinstance(value, kind) else kind.read(value)}


def takes_text(pattern: str = "") -> Mapping[str, Check]:
    """Take text; where there is a pattern, such that fits it."""

    def check(value: Any) -> str:
        if not isinstance(value, str):
            raise refusal("text", value)
        if pattern and not re.fullmatch(pattern, value):
            raise refusal(f"text like {pattern}", value)
        return value

    return {"check": check}


def takes_one_of(words: Collection[Any]) -> Mapping[str, Check]:
    """Take one of some values."""

    def check(value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, str | int) or value not in words:
            raise refusal(" or ".join(map(repr, words)), value)
        return value

    return {"check": check}


def takes_whole(least: int, most: int | None = None) -> Mapping[str, Check]:
    """Take a whole number from least to most."""

    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise refusal("a whole number", value)
        if value < least:
            raise refusal(f"{least} or more", value)
        if most is not None and value > most:
            raise refusal(f"at most {most}", value)
        return value

    return {"check": check}


def takes_number(
    least: float, most: float, *, without: tuple[float, ...] = ()
) -> Mapping[str, Check]:
    """Take a finite number from least to most. without: bounds that are not taken themselves."""

    def check(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise refusal("a number", value)
        if not least <= value <= most or value in without:  # as NaN is not
            excluded = f" without {' and '.join(f'{n:g}' for n in without)}" if without else ""
            raise refusal(f"a number from {least:g} to {most:g}{excluded}", value)
        return float(value)

    return {"check": check}


def takes_list(
    each: Mapping[str, Check], *, exactly: int | None = None, most: int | None = None
) -> Mapping[str, Check]:
    """Take a list of values, as a tuple."""

    def check(values: Any) -> tuple[Any, ...]:
        if not isinstance(values, list | tuple):
            raise refusal("a list", values)
        if exactly is not None and len(values) != exactly:
            raise refusal(f"{exactly} values", values)
        if most is not None and len(values) > most:
            raise refusal(f"at most {most} values", values)
        return tuple(_below(str(n), each["check"], value) for n, value in enumerate(values))

    return {"check": check}


def takes_table(each: Mapping[str, Check], *, most: int | None = None) -> Mapping[str, Check]:
    """Take a table of values by any keys."""

    def check(values: Any) -> dict[str, Any]:
        if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
            raise refusal("a table", values)
        if most is not None and len(values) > most:
            raise refusal(f"at most {most} values", values)
        return {name: _below(name, each["check"], value) for name, value in values.items()}

    return {"check": check}


def fact(value: Any) -> int | float | str | bool:
    """Take a number, text, true or false."""
    if not isinstance(value, int | float | str):
        raise refusal("a number, text, true or false", value)
    return value


def refusal(takes: str, given: Any) -> BadValue:
    """Return the error of a value that is not taken."""
    try:
        shown = repr(given)
    except ValueError:  # a whole number of thousands of digits is in it
        shown = "what is too long to be shown"
    if len(shown) > LONGEST_SHOWN:
        shown = f"{shown[:LONGEST_SHOWN]}..."
    return BadValue(f"it takes {takes}, not {shown}")


def _below(key: str, check: Check, value: Any) -> Any:
    try:
        return check(value)
    except BadValue as fault:
        raise BadValue(fault.what, key, *fault.keys) from None


def _plain(value: Any) -> Any:
    if isinstance(value, Checked):
        return value.as_table()
    if isinstance(value, dict):
        return dict(value)
    return [_plain(part) for part in value] if isinstance(value, tuple) else value

"""Arguments of the API, checked: what Python and NumPy count as a whole number is one."""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from retrieval.errors import ArgumentError
from retrieval.objects import is_address, place_of

Paths: TypeAlias = str | Path | Sequence[str | Path]


def whole(name: str, value: Any, *, least: int = 1, most: int | None = None) -> int:
    """Return a whole number as an int, NumPy's included. Raises ArgumentError.

    >>> whole("k", 5)
    5
    """
    try:
        number = operator.index(value)
    except TypeError:
        raise ArgumentError(f"{name} is {value!r}. Give a whole number.") from None
    if number < least:
        raise ArgumentError(f"{name} is {number}. Give {least} or more.")
    if most is not None and number > most:
        raise ArgumentError(f"{name} is {number}. Give at most {most}.")
    return number


def number(name: str, value: Any, *, least: float = -math.inf, most: float = math.inf) -> float:
    """Return a finite number as a float. Raises ArgumentError.

    >>> number("min_score", 1, least=-1, most=1)
    1.0
    """
    try:
        found = math.nan if isinstance(value, str | bytes) else float(value)
    except (TypeError, ValueError):
        found = math.nan
    if not (math.isfinite(found) and least <= found <= most):
        bounds = f" from {least:g} to {most:g}" if math.isfinite(least) else ""
        raise ArgumentError(f"{name} is {value!r}. Give a number{bounds}.")
    return found


def prior_of(prior_known: float) -> float:
    """Check the share of queries that have an answer. Raises ArgumentError outside of 0 to 1."""
    prior = number("prior_known", prior_known, least=0, most=1)
    if not 0 < prior < 1:
        raise ArgumentError(
            f"prior_known is {prior:g}. Give a number between 0 and 1, such as 0.9."
        )
    return prior


def path_of(name: str, value: Any, *, stores: bool = False) -> Path:
    """Return a path that is not "", as an unset variable is.

    stores: whether it may be an address in an object store. Raises ArgumentError.

    >>> path_of("gallery", "cars").name, str(path_of("gallery", "s3://photos/cars", stores=True))
    ('cars', 's3://photos/cars')
    """
    if not value or not isinstance(value, str | os.PathLike):
        raise ArgumentError(f"{name} is {value!r}. Give a path.")
    if "\0" in os.fsdecode(value):
        raise ArgumentError(f"{name} is {value!r}, which holds a NUL. Give a path.")
    if is_address(value) and not stores:
        raise ArgumentError(f"{name} is {value!r}, an address. Give a path on this machine.")
    try:
        return place_of(value)
    except ValueError as error:
        raise ArgumentError(f"{name} is wrong: {error}. Give a path or such an address.") from error


def as_name(name: str, value: Any) -> str:
    """Return a name, or a path as text. Raises ArgumentError.

    >>> as_name("recipe", "parts/cnn")
    'parts/cnn'
    """
    if not value or not isinstance(value, str | os.PathLike):
        raise ArgumentError(f"{name} is {value!r}. Give a name or a path.")
    return os.fspath(value)


def as_paths(paths: Paths) -> list[Path]:
    """Return one path or several as a list. Raises ArgumentError for "", and for what is none.

    >>> len(as_paths("cars")), len(as_paths(["cars", "bikes"]))
    (1, 2)
    """
    several = isinstance(paths, Iterable) and not isinstance(paths, str | os.PathLike)
    listed: list[Any] = list(paths) if several else [paths]  # type: ignore[arg-type]
    return [path_of("a path", path, stores=True) for path in listed]


def check_text(name: str, value: Any) -> None:
    """Raise ArgumentError unless a value is text."""
    if not isinstance(value, str):
        raise ArgumentError(f"{name} is {value!r}. Give text, or leave it out.")


def as_texts(name: str, value: Any) -> list[str]:
    """Return one text or several as a list. Raises ArgumentError for anything else.

    >>> as_texts("exclude", "*.png"), as_texts("exclude", ["*.png", "*.gif"])
    (['*.png'], ['*.png', '*.gif'])
    """
    several = isinstance(value, Iterable) and not isinstance(value, str | bytes)
    listed = list(value) if several else [value]
    if not all(isinstance(text, str) for text in listed):
        raise ArgumentError(f"{name} is {value!r}. Give text, or several in a list.")
    return listed


def box(name: str, value: Any) -> tuple[int, int, int, int]:
    """Return X, Y, width and height as ints. Raises ArgumentError.

    >>> box("crop", [0, 0, 640, 480])
    (0, 0, 640, 480)
    """
    try:
        x, y, w, h = (operator.index(part) for part in value)
    except (TypeError, ValueError):
        raise ArgumentError(f"{name} is {value!r}. Give X, Y, W, H in whole pixels.") from None
    return x, y, w, h


def one_of(name: str, value: Any, known: Sequence[str]) -> None:
    """Raise ArgumentError unless a value is one of the known ones."""
    if not isinstance(value, str) or value not in known:
        raise ArgumentError(f"{name} is {value!r}. Use one of {', '.join(known)}.")

"""Arguments of the API, checked: what Python and NumPy count as a whole number is one."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

from retrieval.errors import QueryError


def whole(name: str, value: Any, *, least: int = 1) -> int:
    """A whole number as an int; NumPy's are numbers too. Raises QueryError.

    >>> whole("k", 5)
    5
    """
    try:
        number = operator.index(value)
    except TypeError:
        raise QueryError(f"{name} is {value!r}; it must be a whole number.") from None
    if number < least:
        raise QueryError(f"{name} is {number}; it must be {least} or more.")
    return number


def one_of(name: str, value: Any, known: Sequence[str]) -> None:
    """Raise QueryError unless a value is one of those that are known."""
    if value not in known:
        raise QueryError(f"{name} is {value!r}; use one of {', '.join(known)}.")

"""Whether a row passes a filter, in SQL's three-valued logic: yes, no, unknown."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

from retrieval.gallery.filter.tree import (
    Absence,
    And,
    ColumnName,
    Expression,
    Interval,
    Likeness,
    Membership,
    Or,
    Order,
    Relation,
)

_COMPARE: dict[Order, Callable[[Any, Any], bool]] = {
    "=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le,
    ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


def truth(tree: Expression, row: Mapping[str, Any]) -> bool | None:
    """Tell whether a row passes; None if a value that decides is missing."""
    if isinstance(tree, And | Or):
        return _joined((truth(term, row) for term in tree.terms), decides=isinstance(tree, Or))
    value = _value_of(row, tree.column)
    if isinstance(tree, Absence):
        return (value is None) != tree.negated
    if value is None:
        return None
    match tree:
        case Relation(_, order, other):
            held = _value_of(row, other.name) if isinstance(other, ColumnName) else other
            return None if held is None else _COMPARE[order](value, held)
        case Membership(_, values, negated):
            return (value in values) != negated
        case Interval(_, low, high, negated):
            return (low <= value <= high) != negated
        case Likeness(_, pattern, negated, folded):
            return bool(_pattern(pattern, folded).fullmatch(value)) != negated


def _joined(truths: Iterable[bool | None], *, decides: bool) -> bool | None:
    """Join truths: the one that decides wins, else None where one is not known."""
    found = set(truths)
    return decides if decides in found else None if None in found else not decides


def _value_of(row: Mapping[str, Any], column: str) -> Any:
    value: Any = row
    for name in column.split("."):
        value = None if value is None else value.get(name)
    return value


def pieces_of(like: str) -> list[str]:
    r"""Cut a pattern of LIKE into %, _ and characters, some with a backslash before them.

    >>> pieces_of(r"a\%%")
    ['a', '\\%', '%']
    """
    return re.findall(r"\\?.|\\", like, re.DOTALL)


_OWN_CASE = {
    "i": "[iI]",
    "\u0130": "\u0130",
    "\u0131": "\u0131",
}  # Turkish; Python folds all into one


@lru_cache(maxsize=64)
def _pattern(like: str, folded: bool) -> re.Pattern[str]:  # noqa: FBT001  private
    """Return a pattern of LIKE as a regular expression, which never backtracks beyond a %."""
    parts = [""]
    for piece in pieces_of(like):
        if piece == "%":
            parts.append("")
        else:
            parts[-1] += "." if piece == "_" else _literal(piece[-1], folded)
    first, *between = parts
    last = f".*{between.pop()}" if between else ""
    middle = "".join(f"(?>.*?{part})" for part in between if part)
    return re.compile(first + middle + last, re.DOTALL | (re.IGNORECASE if folded else 0))


def _literal(character: str, folded: bool) -> str:  # noqa: FBT001  private
    own = _OWN_CASE.get("i" if character == "I" else character) if folded else None
    return f"(?-i:{own})" if own else re.escape(character)

"""The parts that a filter's tree consists of.

There is no node for "not": the parser turns each condition below it into its opposite, which in the
logic of three values is the same. Lance took 94 seconds to read 40 of them one in another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Constant: TypeAlias = str | int | bool
Order = Literal["=", "!=", "<", "<=", ">", ">="]


@dataclass(frozen=True, slots=True)
class ColumnName:
    """A column where a value could stand."""

    name: str


@dataclass(frozen=True, slots=True)
class Relation:
    """How a column compares with a value, or with another column."""

    column: str
    order: Order
    other: Constant | ColumnName


@dataclass(frozen=True, slots=True)
class Membership:
    """Whether a column's value is one of several."""

    column: str
    values: tuple[Constant, ...]
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Interval:
    """Whether a column's value lies between two, both included."""

    column: str
    low: Constant
    high: Constant
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Likeness:
    r"""Whether text fits a pattern: % any text, _ one character, \ before what stands for itself.

    folded: without regard to case.
    """

    column: str
    pattern: str
    negated: bool = False
    folded: bool = False


@dataclass(frozen=True, slots=True)
class Absence:
    """Whether a column has no value."""

    column: str
    negated: bool = False


@dataclass(frozen=True, slots=True)
class And:
    """Two or more conditions of which all hold."""

    terms: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """Two or more conditions of which one holds."""

    terms: tuple[Expression, ...]


Expression: TypeAlias = Relation | Membership | Interval | Likeness | Absence | And | Or

OPPOSITE: dict[Order, Order] = {
    "=": "!=", "!=": "=", "<": ">=", ">=": "<", ">": "<=", "<=": ">"
}  # fmt: skip
"""What holds where another comparison of the same two does not."""

SWAPPED: dict[Order, Order] = {"=": "=", "!=": "!=", "<": ">", ">": "<", "<=": ">=", ">=": "<="}
"""What holds with the two sides the other way round."""

"""Numbers that options take, and what a wrong one is told."""

from __future__ import annotations

import math
from typing import Any

import click


class WholeNumber(click.IntRange):
    """A whole number within bounds; a wrong one is told what it may be."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number."""
        try:
            number = int(super().convert(value, None, None))
        except click.BadParameter:
            self.fail(_told(self, value, "whole number", int), param, ctx)
        return number


class FiniteNumber(click.types.FloatParamType):
    """A number of any size, but not NaN or infinite."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number."""
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a number. Give a number.", param, ctx)
        return number


class DecimalNumber(click.FloatRange):
    """A finite number within bounds; a wrong one is told what it may be."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number."""
        try:
            number = float(super().convert(value, None, None))
        except click.BadParameter:
            number = math.nan
        if not math.isfinite(number):  # NaN is within all bounds, as click compares
            self.fail(_told(self, value, "number", float), param, ctx)
        return number


def _told(of: click.IntRange | click.FloatRange, value: Any, what: str, kind: type) -> str:
    """Say what is wrong with a value, and what to give."""
    try:
        is_number = math.isfinite(kind(value))
    except ValueError:
        is_number = False
    wrong = f"{value} is out of range" if is_number else f"{value!r} is not a {what}"
    return f"{wrong}. Give a {what} {_bounds(of)}."


def _bounds(of: click.IntRange | click.FloatRange) -> str:
    if of.max is None:
        return f"above {of.min:,}" if of.min_open else f"of {of.min:,} or more"
    if of.min_open:
        return f"above {of.min:,} and below {of.max:,}"
    return f"from {of.min:,} to {of.max:,}"

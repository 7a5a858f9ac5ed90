"""Results as plain values, as JSON takes them, and records from lines of JSON."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

Record = TypeVar("Record")


class Plain:
    """Gives a dataclass of results the method to_dict()."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name, as json.dumps takes them: paths are text, arrays lists."""
        return {
            field.name: plain(getattr(self, field.name))
            for field in dataclasses.fields(self)  # type: ignore[arg-type]
        }


def plain(value: Any) -> Any:
    """Convert a value for JSON; a number that JSON lacks, such as NaN, becomes None.

    >>> from pathlib import PurePath
    >>> plain((np.float32(0.5), float("nan"), PurePath("a")))
    [0.5, None, 'a']
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return Plain.to_dict(value)  # type: ignore[arg-type]
    if hasattr(value, "model_dump"):  # a recipe or settings, of pydantic
        return plain(value.model_dump())
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    return str(value)


def records(text: str, make: Callable[[dict[str, Any]], Record]) -> list[Record]:
    """Make a record of each line of JSON. Raises ValueError, naming the first damaged line.

    >>> records('{"x": 1}', lambda line: line["x"])
    [1]
    """
    made = []
    for n, line in enumerate(text.splitlines(), start=1):
        try:
            made.append(make(json.loads(line)))
        except (ValueError, TypeError, RecursionError) as error:
            raise ValueError(f"damaged in line {n}") from error
    return made

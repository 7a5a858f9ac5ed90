"""A transform's spec: its name, N and P."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Spec:
    """A spec's name, its N and its P; None where it has none."""

    name: str
    components: int | None = None
    power: float | None = None

    def __str__(self) -> str:
        power = None if self.power is None else np.format_float_positional(self.power, trim="0")
        parts = [self.name, self.components, power]
        return ":".join(str(part) for part in parts if part is not None)

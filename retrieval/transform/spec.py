"""A transform's spec: its name, N and P."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Spec:
    """A spec's name, its N and its P; None where it has none."""

    name: str
    components: int | None = None
    power: float | None = None

    def __str__(self) -> str:
        parts = [self.name, self.components, self.power]
        return ":".join(str(part) for part in parts if part is not None)

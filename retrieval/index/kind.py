"""Which kind of index suits a number of vectors."""

from __future__ import annotations

from typing import Literal

Kind = Literal["exact", "ivf"]

EXACT_UP_TO = 100_000
STAYS_EXACT, STAYS_IVF = 1.25, 0.8  # times that: a few more or fewer build nothing anew


def choose_kind(n: int, present: str | None = None) -> Kind:
    """Choose the kind for n vectors: exact up to 100,000, or the present one a little further.

    >>> choose_kind(110_000), choose_kind(110_000, "exact"), choose_kind(90_000, "ivf")
    ('ivf', 'exact', 'ivf')
    """
    if present == "ivf":
        return "ivf" if n >= STAYS_IVF * EXACT_UP_TO else "exact"
    limit = EXACT_UP_TO * (STAYS_EXACT if present == "exact" else 1)
    return "exact" if n <= limit else "ivf"

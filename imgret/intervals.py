"""What the intervals of figures are of, in words."""

from __future__ import annotations

from retrieval.words import IntervalOver

INTERVALS: dict[IntervalOver, str] = {
    "queries": "95 %, for other queries of these classes",
    "classes": "95 %, for other classes than these",
}

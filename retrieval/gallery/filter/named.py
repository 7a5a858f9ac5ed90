"""The filters that imgret itself uses, also over columns that users cannot name."""

from __future__ import annotations

from collections.abc import Iterable

from retrieval.gallery.filter.filter import Filter
from retrieval.gallery.filter.tree import Absence, Likeness, Membership, Or, Relation

INDEXED = Filter(Absence("error"))
"""Rows of images that could be used: a row has an embedding where it has no error.

Lance reads a whole column to tell where it is null. Embeddings take 2.6 GB at a million rows.
"""

FAILED = Filter(Absence("error", negated=True))
"""Rows of images that could not be used."""

LABELLED = Filter(Absence("label", negated=True))
NOTED = Filter(Absence("facts.note", negated=True))

UNSETTLED = Filter(
    Or(
        (
            Relation("sha256", "=", ""),
            Likeness("error", "%--max-pixels%"),
            Likeness("error", "%of memory to decode%"),
            Likeness("error", "%pip install%"),
        )
    )
)
"""What may be read another time: with other limits, on another machine, with an extra installed."""


def with_ids(ids: Iterable[int]) -> Filter:
    """Select the rows of these ids."""
    return Filter(Membership("id", (*ids, -1)))


def with_paths(paths: Iterable[str]) -> Filter:
    """Select the rows of these stored paths, which are one or more."""
    return Filter(Membership("path", tuple(paths)))


def with_labels(labels: Iterable[str]) -> Filter:
    """Select the rows that have one of these labels, which are one or more."""
    return Filter(Membership("label", tuple(labels)))


def ids_below(end: int) -> Filter:
    """Select the rows of ids that are less."""
    return Filter(Relation("id", "<", end))

"""How many images there are by label, folder, month and size, for lists to choose from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from retrieval.gallery import Filter
from retrieval.gallery.filter import INDEXED
from retrieval.plain import Plain
from retrieval.retriever.snapshot import Snapshot

MOST_FACETS = 1000


@dataclass(frozen=True)
class FacetCount(Plain):
    """A value and how many images have it; None where they have none."""

    value: str | None
    images: int


@dataclass(frozen=True)
class SizeCount(Plain):
    """How many images have a file of at least `least` bytes and of fewer than `below`, if any."""

    least: int
    below: int | None
    images: int


@dataclass(frozen=True)
class Facets(Plain):
    """The images that pass a filter, counted: at most MOST_FACETS values each, the largest first.

    total: images. folders: as stored, "." for the folder that holds the gallery. months: such as
    "2026-11", by when the files were changed, the newest first. sizes: the smallest first.
    """

    total: int
    labels: tuple[FacetCount, ...]
    folders: tuple[FacetCount, ...]
    months: tuple[FacetCount, ...]
    sizes: tuple[SizeCount, ...]


def facets_of(state: Snapshot, where: Filter | None) -> Facets:
    """Count the images that pass a filter."""
    counted = state.table.counts(INDEXED if where is None else where & INDEXED)
    months = sorted(counted.months.items(), reverse=True)[:MOST_FACETS]
    return Facets(
        total=counted.total,
        labels=_largest(counted.labels),
        folders=_largest(counted.folders),
        months=tuple(FacetCount(value, images) for value, images in months),
        sizes=_by_size(counted.sizes),
    )


def _by_size(counts: Mapping[int, int]) -> tuple[SizeCount, ...]:
    least = sorted(counts)
    ends: list[int | None] = [*least[1:], None]
    return tuple(SizeCount(low, end, counts[low]) for low, end in zip(least, ends, strict=True))


def _largest(counts: Mapping[str | None, int]) -> tuple[FacetCount, ...]:
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0] is None, pair[0] or ""))
    return tuple(FacetCount(value, images) for value, images in ordered[:MOST_FACETS])

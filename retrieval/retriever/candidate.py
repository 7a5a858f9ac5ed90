"""An index that may be published: built anew from all rows, and the room that it takes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from retrieval import transform as transforms
from retrieval.draw import evenly_drawn
from retrieval.gallery import Gallery, ImageTable, Settings
from retrieval.gallery.block import Column
from retrieval.gallery.room import describe_need, has_room
from retrieval.index import GrowingIndex, Index, Kind, choose_kind, size_of_new
from retrieval.progress import Progress
from retrieval.retriever.growth import put_off


@dataclass(frozen=True)
class Candidate:
    """An index that may be published.

    transform: its own, as it was fitted to fitted_on rows. anew: whether that was just now.
    """

    index: GrowingIndex
    transform: str
    fitted_on: int
    anew: bool


@dataclass(frozen=True)
class Room:
    """The room on the disk for an index and, with merges, for the pieces that are merged with it.

    must: whether there has to be room; else the index waits, and a line in the log says so.
    """

    gallery: Gallery
    table: ImageTable
    merges: bool
    must: bool

    def holds(self, size: int) -> bool:
        """Tell whether an index of so many bytes fits. Raises GalleryWriteError if it must."""
        pieces = self.table.size_to_merge if self.merges else 0
        what = "merging its pieces and the index" if pieces else "its index"
        if has_room(self.gallery.path, size + pieces, what, must=self.must):
            return True
        put_off(self.gallery, f"that {describe_need(self.gallery.path, size + pieces)}")
        return False


def built_anew(
    table: ImageTable, settings: Settings, n: int, room: Room, progress: Progress | None
) -> Candidate:
    """Build an index of a table's n usable rows. Raises GalleryWriteError where it cannot fit."""
    room.holds(size_of_built(table, settings, n))  # before it takes minutes
    index, transform = build_index(table, settings, n, progress)
    return Candidate(index, transform, n, anew=True)


def size_of_built(table: ImageTable, settings: Settings, n: int) -> int:
    """Return about the bytes of what build_index() makes; 0 where only the fit tells."""
    width = transforms.fitted_width(settings.transform, n, table.dim)
    if width is None:
        return 0
    maps = transforms.resolve_spec(settings.transform, n, table.dim) != "none"
    return size_of_new(n, table.dim, width, kind=_kind(settings, n), maps=maps)


def build_index(
    table: ImageTable, settings: Settings, n: int, progress: Progress | None = None
) -> tuple[GrowingIndex, str]:
    """Fit the requested transform to a table's n usable rows, index and augment them.

    Its kind stays what the index before had, where n is near the limit. Gives the index and the
    transform as it was fitted.
    """
    if progress:
        progress("fitting", 0, None)
    table.check_finite()
    wanted = transforms.resolve_spec(settings.transform, n, table.dim)
    fitted = transforms.fit(wanted, *_sample(table, n, labels=transforms.sees_labels(wanted)))
    index = Index.build(fitted, table.embeddings, n, kind=_kind(settings, n), progress=progress)
    augment = settings.refinement.augment
    if augment:
        if progress:
            progress("augmenting", 0, None)
        index.augment(augment)
    return GrowingIndex(index), fitted.spec


def _kind(settings: Settings, n: int) -> Kind:
    return choose_kind(n, str(settings.index.settings.get("kind")) if settings.index else None)


def _sample(
    table: ImageTable, n: int, *, labels: bool
) -> tuple[np.ndarray, list[str | None] | None]:
    """At most FIT_ROWS embeddings, evenly drawn, and their labels where they are wanted."""
    chosen = evenly_drawn(n, transforms.FIT_ROWS)
    embeddings = np.empty((len(chosen), table.dim), np.float32)
    names: list[str | None] = []
    columns: tuple[Column, ...] = ("embedding", "label") if labels else ("embedding",)
    for place, part, block in table.blocks_of(chosen, *columns):
        embeddings[place] = block.embeddings[part]
        if labels:
            column = block.labels
            names += [column[i] for i in part]
    return embeddings, names if labels else None

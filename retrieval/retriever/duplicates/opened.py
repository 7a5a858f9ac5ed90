"""One gallery or two -> the images that are compared, and the search for their neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from retrieval.gallery import Filter, Gallery, ImageTable
from retrieval.gallery.filter import INDEXED
from retrieval.index import EXACT_UP_TO, GrowingIndex
from retrieval.progress import Progress
from retrieval.retriever.current import open_indexed
from retrieval.retriever.duplicates.candidates import IndexedNeighbours
from retrieval.retriever.duplicates.crowds import CANDIDATES_HELD
from retrieval.retriever.duplicates.embeddings import (
    RawEmbeddings,
    ScratchEmbeddings,
    read_embeddings,
)
from retrieval.retriever.duplicates.neighbours import HeldNeighbours, NeighbourSearch
from retrieval.retriever.duplicates.sampled import best_candidates
from retrieval.retriever.duplicates.stored import (
    StoredImage,
    StoredImages,
    read_repeated,
    read_stored,
)
from retrieval.retriever.duplicates.verified import VerifiedCandidates
from retrieval.retriever.file_neighbours import faiss_of
from retrieval.retriever.snapshot import Snapshot

LARGE_FROM = EXACT_UP_TO  # images; more are compared through the gallery's index
SHARE_SEARCHED = 0.2  # share of an index; to search among fewer of it would take all of its cells


@dataclass(frozen=True)
class Compared:
    """The images that are compared, those of another gallery first.

    parts: of each gallery. others: how many images are of the other one. index: of the gallery
    whose images are neighbours, where all galleries are large.
    """

    parts: tuple[StoredImages, ...]
    others: int
    index: GrowingIndex | None

    @cached_property
    def images(self) -> list[StoredImage]:
        """All images, by place."""
        return [image for part in self.parts for image in part.images]

    @cached_property
    def failures(self) -> list[tuple[str, str]]:
        """Path and reason of the files that are left out, which may become more."""
        return [failure for part in self.parts for failure in part.failures]

    @property
    def looked_at(self) -> int:
        """How many files were compared."""
        return sum(part.compared for part in self.parts)

    @property
    def can_have_groups(self) -> bool:
        """Whether there is something to compare in each gallery."""
        return all(part.images for part in self.parts)

    @property
    def is_large(self) -> bool:
        """Whether there are too many images to compare each with each."""
        return len(self.images) > LARGE_FROM and self.index is not None

    @cached_property
    def embeddings(self) -> RawEmbeddings:
        """The raw embeddings, by place."""
        return ScratchEmbeddings.copy(self.parts) if self.is_large else read_embeddings(self.parts)

    def open_search(
        self,
        searched: np.ndarray,
        asked: np.ndarray,
        least: float | None,
        progress: Progress | None,
    ) -> NeighbourSearch:
        """Make ready to search among some places for the neighbours of those asked for.

        least: the score down to which they matter; None estimates it.
        """
        if (
            self.index is None
            or not self.is_large
            or len(searched) < SHARE_SEARCHED * self.index.ntotal
        ):
            return HeldNeighbours(self.embeddings, searched)
        ids = np.concatenate([part.ids for part in self.parts])
        candidates, recall = best_candidates(
            VerifiedCandidates(self.index, self.embeddings, ids, searched),
            CANDIDATES_HELD, least, progress,
        )  # fmt: skip
        return IndexedNeighbours(candidates, asked, progress, recall)


def open_compared(
    gallery: Gallery,
    against: Gallery | None,
    where: Filter | None,
    leases: ExitStack,
    *,
    bytes_alone: bool,
    state: Snapshot | None = None,
) -> Compared:
    """Read what is compared: images of a gallery that pass a filter, and those of another one.

    leases: gets one on each table. bytes_alone: whether to read only images whose content occurs
    twice. state: of the gallery, instead of its newest rows. Raises GalleryError.
    """
    galleries = [gallery] if against is None else [against, gallery]
    wheres = [where] if against is None else [None, where]
    if bytes_alone:
        tables, index = _tables(galleries, state), None
    else:
        tables, index = _open(galleries, state)
    for table in tables:
        leases.enter_context(table.lease())
    if bytes_alone:
        parts = read_repeated(galleries, tables, wheres)
    else:
        each = zip(galleries, tables, wheres, strict=True)
        parts = [read_stored(*one) for one in each]
    return Compared(tuple(parts), len(parts[0].images) if against else 0, index)


def _tables(galleries: Sequence[Gallery], state: Snapshot | None) -> list[ImageTable]:
    """Open the tables; that of a state is open."""
    if state is not None:
        *others, _ = galleries
        return [*(gallery.open_table() for gallery in others), state.table]
    return [gallery.open_table() for gallery in galleries]


def _open(
    galleries: Sequence[Gallery], state: Snapshot | None
) -> tuple[list[ImageTable], GrowingIndex | None]:
    """Open the tables and, of large galleries, the index of the first; rows and index agree."""
    tables = _tables(galleries, state)
    counts = [table.count(INDEXED) for table in tables]
    if not all(counts) or sum(counts) <= LARGE_FROM:
        return tables, None
    if state is not None and len(galleries) == 1:
        return tables, faiss_of(state)
    first, index, _ = open_indexed(galleries[0])
    return [first, *tables[1:]], index

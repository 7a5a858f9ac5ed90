"""Groups of near-identical images, in one gallery or between two.

Three tiers, each made of what the stricter one left: files of the same bytes (SHA-256 in the
table), files of the same picture (equal RGB pixels after decoding and turning upright), pictures
whose embeddings' cosine similarity is above a threshold.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TypeAlias

import numpy as np

from retrieval.errors import GalleryError, ImgretError
from retrieval.gallery import Gallery
from retrieval.retriever.duplicates.grouping import first_with, stars
from retrieval.retriever.duplicates.neighbours import index_of, neighbours_down_to
from retrieval.retriever.duplicates.pixels import hash_files
from retrieval.retriever.duplicates.results import (
    TIERS,
    DuplicateGroup,
    DuplicateMember,
    DuplicateReport,
    Tier,
)
from retrieval.retriever.duplicates.stored import Stored, read_stored
from retrieval.retriever.duplicates.threshold import (
    Threshold,
    estimate_threshold,
    neighbours_needed,
)
from retrieval.retriever.results import Progress

Found: TypeAlias = Iterator[tuple[int, np.ndarray, np.ndarray]]

SAME_PICTURE = 0.99  # what engines, float16 and reduced decoding leave of 1, with a wide margin
QUERIES_AT_ONCE = 1024
SAMPLED = 2000


def find_duplicates(
    gallery: Gallery,
    against: Gallery | None = None,
    *,
    threshold: float | None = None,
    tier: Tier = "similar",
    where: str | None = None,
    max_pixels: int,
    progress: Progress | None = None,
) -> DuplicateReport:
    """The groups of a gallery, or those that have images of it and of another one.

    threshold: cosine similarity of raw embeddings; None estimates it. tier: the most lenient one
    that is looked for. where: which rows of gallery to look at. With another gallery every
    representative is one of its images. Nothing is written and no file is changed.
    Raises ImgretError, and GalleryError when the galleries' embeddings cannot be compared.
    """
    if threshold is not None and not -1 <= threshold <= 1:
        raise ImgretError(f"The threshold is {threshold}; a cosine similarity is -1 to 1.")
    if against is not None:
        _check_comparable(gallery, against)
    stored = read_stored(gallery, where)
    other = None if against is None else read_stored(against)
    both = stored if other is None else _after(other, stored)
    groups: tuple[DuplicateGroup, ...] = ()
    found = None
    if stored.images and (other is None or other.images):
        search = _Search(both, len(other.images) if other else 0, max_pixels, progress)
        if tier != "bytes":
            search.join_pictures()
        if tier == "similar":
            found = search.join_similar(threshold)
        groups = search.groups()
    return DuplicateReport(
        gallery=gallery.path,
        against=against.path if against else None,
        images=len(both.images),
        groups=groups,
        threshold=found,
        failures=tuple(both.failures),
    )


class _Search:
    """The tiers, one after the other.

    Images are known by their place: those of the other gallery first, each gallery in the order in
    which one would keep its images. content, picture, centre: (n,) int64, for each image the first
    one of the same bytes, of the same picture, and the one it is grouped around. score: (n,)
    float32, to that one. nearest: (n,) float32, the best score found to another content.
    """

    def __init__(
        self, stored: Stored, others: int, max_pixels: int, progress: Progress | None
    ) -> None:
        n = len(stored.images)
        self.stored, self.others = stored, others
        self.max_pixels, self.progress = max_pixels, progress
        self.content = first_with([image.sha256 for image in stored.images])
        self.picture = self.centre = self.content
        self.score, self.nearest = np.ones(n, np.float32), np.full(n, -np.inf, np.float32)
        self.usable = np.ones(n, bool)

    def join_pictures(self) -> None:
        """Decode what may be one picture, and join what is."""
        self.index = index_of(self.stored.embeddings, self._searched(self.content))
        places = np.flatnonzero(self._candidates())
        images = self.stored.images
        hashed = hash_files(
            [(images[i].path, images[i].sha256) for i in places],
            max_pixels=self.max_pixels, progress=self.progress,
        )  # fmt: skip
        keys: list[int | str] = self.content.tolist()
        for place, (pixels, error) in zip(places, hashed, strict=True):
            keys[place] = pixels
            if error is not None:
                keys[place] = int(place)
                self.usable[self.content == place] = False
                self.stored.failures.append((str(images[place].path), error))
        self.picture = self.centre = first_with(keys)[self.content]

    def join_similar(self, threshold: float | None) -> Threshold:
        """Join what scores above a threshold, which is given or estimated."""
        alone = self._searched(self.picture)
        self.index.remove(np.setdiff1d(self.index.ids, alone))
        used = Threshold(threshold, "as given") if threshold is not None else self._estimated(alone)
        mine = (self.picture == np.arange(len(self.picture))) & self.usable
        mine[: self.others] = False
        if self.others:
            centre, score = self._nearest_across(np.flatnonzero(mine), used.score)
        else:
            near = np.flatnonzero(mine & (self.nearest >= used.score))
            above = partial(self._above, least=used.score, near=near)
            centre, score = stars(len(mine), near, above)
        self.centre, self.score = centre[self.picture], score[self.picture]
        return used

    def groups(self) -> tuple[DuplicateGroup, ...]:
        """All groups of two images or more, and of both galleries where there are two."""
        order = np.argsort(self.centre, kind="stable")
        order = order[self.usable[order]]
        starts = np.flatnonzero(np.diff(self.centre[order], prepend=-1))
        groups = []
        for places in np.split(order, starts[1:]) if len(order) else ():
            mixed = not self.others or (places.min() < self.others <= places.max())
            if len(places) > 1 and mixed:
                groups.append(self._group(places))
        return tuple(sorted(groups, key=_rank))

    def _searched(self, first: np.ndarray) -> np.ndarray:
        """Places, the first of each, of the gallery whose images are neighbours."""
        places = np.flatnonzero((first == np.arange(len(first))) & self.usable)
        return places[places < self.others] if self.others else places

    def _candidates(self) -> np.ndarray:
        """(n,) bool: what nearly equals another image of its width and height, one a content."""
        images = self.stored.images
        side = np.array([(image.width, image.height) for image in images]).reshape(-1, 2)
        chosen = np.zeros(len(images), bool)
        queries = np.flatnonzero(self.content == np.arange(len(images)))
        queries = queries[queries >= self.others]
        for start in range(0, len(queries), QUERIES_AT_ONCE):
            part = queries[start : start + QUERIES_AT_ONCE]
            for row, ids, scores in self._neighbours(part, SAME_PICTURE):
                place = part[row]
                self.nearest[place] = scores.max(initial=-np.inf)
                equal = ids[(scores >= SAME_PICTURE) & (side[ids] == side[place]).all(axis=1)]
                chosen[equal] = True
                chosen[place] |= len(equal) > 0
            self._tell("comparing", start + len(part), len(queries))
        return chosen

    def _neighbours(self, places: np.ndarray, least: float) -> Found:
        """neighbours_down_to, without the image itself."""
        queries = self.stored.embeddings[places]
        for row, ids, scores in neighbours_down_to(self.index, queries, least):
            other = ids != places[row]
            yield row, ids[other], scores[other]

    def _above(self, places: np.ndarray, least: float, near: np.ndarray) -> Found:
        """For grouping: what scores enough; near: all the places that are asked for by and by."""
        self._tell("grouping", int(np.searchsorted(near, places[-1])) + 1, len(near))
        for row, ids, scores in self._neighbours(places, least):
            yield row, ids[scores >= least], scores[scores >= least]

    def _estimated(self, alone: np.ndarray) -> Threshold:
        """The threshold by a sample of the pictures that are searched."""
        k = neighbours_needed(len(alone))
        sample = alone[np.linspace(0, len(alone) - 1, min(SAMPLED, len(alone))).astype(np.int64)]
        scores, ids = self.index.search(self.stored.embeddings[sample], k + 1)
        itself = ids == sample[:, None]
        itself[~itself.any(axis=1), -1] = True  # an equal vector was found in its place
        scores = scores[~itself].reshape(len(sample), k)
        mine = (self.picture == np.arange(len(self.picture))) & self.usable
        return estimate_threshold(scores, len(alone), int(mine[self.others :].sum()))

    def _nearest_across(self, places: np.ndarray, least: float) -> tuple[np.ndarray, np.ndarray]:
        """For each of places the nearest image of the other gallery, where it scores enough."""
        centre, score = np.arange(len(self.picture)), np.ones(len(self.picture), np.float32)
        for start in range(0, len(places), QUERIES_AT_ONCE):
            part = places[start : start + QUERIES_AT_ONCE]
            scores, ids = self.index.search(self.stored.embeddings[part], 1)
            near = scores[:, 0] >= least
            centre[part[near]], score[part[near]] = ids[near, 0], scores[near, 0]
        return centre, score

    def _group(self, places: np.ndarray) -> DuplicateGroup:
        """A group; its representative is the first of its places."""
        first = int(places[0])
        members = sorted(
            (self._member(int(place), first) for place in places),
            key=lambda m: (-1 if m.tier is None else TIERS.index(m.tier), -m.score),
        )
        tiers = [member.tier for member in members if member.tier is not None]
        return DuplicateGroup(max(tiers, key=TIERS.index), tuple(members))

    def _member(self, place: int, first: int) -> DuplicateMember:
        tier: Tier | None = "similar"
        if place == first:
            tier = None
        elif self.content[place] == self.content[first]:
            tier = "bytes"
        elif self.picture[place] == self.picture[first]:
            tier = "picture"
        image = self.stored.images[place]
        return DuplicateMember(
            path=image.path,
            width=image.width,
            height=image.height,
            size=image.size,
            label=image.label,
            score=float(self.score[place]),
            tier=tier,
            gallery=image.gallery,
        )

    def _tell(self, what: str, done: int, total: int) -> None:
        if self.progress:
            self.progress(what, done, total)


def _rank(group: DuplicateGroup) -> tuple[int, int, str]:
    return TIERS.index(group.tier), -len(group.members), str(group.representative.path)


def _after(other: Stored, stored: Stored) -> Stored:
    return Stored(
        other.images + stored.images,
        np.concatenate([other.embeddings, stored.embeddings]),
        other.failures + stored.failures,
    )


def _check_comparable(gallery: Gallery, other: Gallery) -> None:
    """Raise GalleryError unless both were embedded by the same backbone in the same way."""
    if gallery.path.resolve() == other.path.resolve():
        raise ImgretError(f"{gallery.path} cannot be held against itself; leave --against out.")
    one, two = gallery.settings().backbone, other.settings().backbone
    if one.model_copy(update={"name": ""}) != two.model_copy(update={"name": ""}):
        made = [f"{b.name} ({b.weights_sha256[:8]}, {b.size} px, {b.fit})" for b in (one, two)]
        raise GalleryError(
            f"{gallery.path} was made with {made[0]} and {other.path} with {made[1]}, so they "
            "cannot be compared. Index one again with --reembed and the other's backbone."
        )

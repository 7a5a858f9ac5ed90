"""Groups of near-identical images, in one gallery or between two.

There are four tiers, each made of what the stricter one left:

- files of the same bytes (SHA-256 in the table);
- files of the same picture: all that shows is equal;
- copies of a picture: equal but for how it was saved, scaled, turned or framed;
- pictures whose embeddings have a cosine similarity above a threshold.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from functools import partial

import numpy as np

from retrieval.arguments import number, one_of, whole
from retrieval.errors import ArgumentError, GalleryError
from retrieval.gallery import Filter, Gallery, read_one_state
from retrieval.progress import Progress
from retrieval.retriever.duplicates.copies import CopyGroups, Verifier, chunks, may_be_copies
from retrieval.retriever.duplicates.embeddings import unit_rows
from retrieval.retriever.duplicates.hashes import HashIndex
from retrieval.retriever.duplicates.neighbours import Found, NeighbourSearch
from retrieval.retriever.duplicates.opened import Compared, open_compared
from retrieval.retriever.duplicates.pixels import hash_files
from retrieval.retriever.duplicates.results import (
    DuplicateGroup,
    DuplicateMember,
    DuplicateReport,
)
from retrieval.retriever.duplicates.stars import first_with, stars
from retrieval.retriever.duplicates.threshold import (
    LOCAL,
    Threshold,
    estimate_threshold,
    local_scores,
    neighbours_needed,
)
from retrieval.retriever.snapshot import Snapshot
from retrieval.words import TIERS, Tier

SAME_PICTURE = 0.99  # what engines, float16 and reduced decoding leave of 1, with a wide margin
QUERIES_AT_ONCE = 1024
SAMPLED_PAIRS = 2000


def find_duplicates(
    gallery: Gallery,
    against: Gallery | None = None,
    *,
    threshold: float | None = None,
    tier: Tier = "similar",
    where: Filter | None = None,
    max_pixels: int,
    state: Snapshot | None = None,
    progress: Progress | None = None,
) -> DuplicateReport:
    """Find the groups of a gallery, or those with images of it and of another one.

    threshold: cosine similarity of raw embeddings; None estimates it. tier: the most lenient one
    that is looked for. where: which rows of gallery to look at. state: of gallery, to look at
    instead of its newest rows. With another gallery every representative is one of its images. No
    file is changed; of a large gallery a missing index is built again, as a search does. Its
    embeddings are copied to a scratch file.
    Raises ArgumentError, and GalleryError when the galleries' embeddings cannot be compared.
    """
    one_of("tier", tier, TIERS)
    if threshold is not None:
        threshold = number("threshold", threshold, least=-1, most=1)
    max_pixels = whole("max_pixels", max_pixels)
    if against is not None:
        _check_comparable(gallery, against)

    def found_in(leases: ExitStack) -> DuplicateReport:
        compared = open_compared(
            gallery, against, where, leases, bytes_alone=tier == "bytes", state=state
        )
        search = _Search(compared, max_pixels, progress)
        return _report(gallery, against, search, tier, threshold)

    return read_one_state(found_in)


def _report(
    gallery: Gallery, against: Gallery | None, search: _Search, tier: Tier, threshold: float | None
) -> DuplicateReport:
    compared = search.compared
    groups: tuple[DuplicateGroup, ...] = ()
    found = None
    if compared.can_have_groups:
        if tier != "bytes":
            search.join_pictures(_least(tier, threshold))
        if tier in ("copy", "similar"):
            search.join_copies()
        if tier == "similar":
            found = search.join_similar(threshold)
        groups = search.groups()
    return DuplicateReport(
        gallery=gallery.path,
        against=against.path if against else None,
        images=compared.looked_at,
        groups=groups,
        tier=tier,
        threshold=found,
        approximate=compared.is_large,
        recall=search.recall,
        failures=tuple(compared.failures),
    )


class _Search:
    """The tiers, one after the other.

    Images are known by their place: those of the other gallery first, each gallery in the order in
    which one would keep its images. content, picture, copy, centre: (n,) int64, for each image the
    first one of the same bytes, of the same picture, the one it is a copy of, and the one it is
    grouped around. score: (n,) float32, to that one. nearest: (n,) float32, the best score found
    to another content. recall: as NeighbourSearch has it.
    """

    search: NeighbourSearch
    recall: float | None = None

    def __init__(self, compared: Compared, max_pixels: int, progress: Progress | None) -> None:
        n = len(compared.images)
        self.compared, self.others = compared, compared.others
        self.max_pixels, self.progress = max_pixels, progress
        self.content = first_with([image.sha256 for image in compared.images])
        self.picture = self.copy = self.centre = self.content
        self.score, self.nearest = np.ones(n, np.float32), np.full(n, -np.inf, np.float32)
        self.usable = np.ones(n, bool)

    def join_pictures(self, least: float | None) -> None:
        """Decode what may be one picture, and join what is.

        least: of the scores that matter for any tier; None estimates it.
        """
        asked = np.flatnonzero(self.content == np.arange(len(self.content)))
        self.search = self.compared.open_search(
            self._searched(self.content), asked[asked >= self.others], least, self.progress
        )
        self.recall = self.search.recall
        places = np.flatnonzero(self._candidates())
        images = self.compared.images
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
                self.compared.failures.append((str(images[place].path), error))
        self.picture = self.copy = self.centre = first_with(keys)[self.content]

    def join_copies(self) -> None:
        """Join what the hashes find and the pixels confirm."""
        images = self.compared.images
        alone = np.flatnonzero((self.picture == np.arange(len(images))) & self.usable)
        index = HashIndex(
            [i.facts.perceptual for i in images], self._searched(self.picture).tolist(),
            approximate=self.compared.is_large,
        )  # fmt: skip
        verifier = Verifier(images, self.max_pixels)
        grouping = CopyGroups(images, self.others)
        asked = alone[alone >= self.others]
        for block in chunks(asked):
            left = block if self.others else block[grouping.centre[block] == block]
            pairs = [
                p
                for p in index.near(left.tolist())
                if may_be_copies(images[p.one], images[p.other])
            ]
            verifier.decode(pairs)
            grouping.add(block, pairs, verifier.agree)
            self._tell("matching", int(np.searchsorted(asked, block[-1])) + 1, len(asked))
        centre = grouping.finish()
        self.copy = self.centre = centre[self.picture]
        self.score = self._scores_to(self.copy)

    def join_similar(self, threshold: float | None) -> Threshold:
        """Join what scores above a threshold, which is given or estimated."""
        alone = self._searched(self.copy)
        self.search.keep(alone)
        used = Threshold(threshold, "as given") if threshold is not None else self._estimated(alone)
        mine = (self.copy == np.arange(len(self.copy))) & self.usable
        mine[: self.others] = False
        local = np.full(len(mine), np.inf, np.float32)
        if threshold is None:
            self._estimate_each(np.union1d(alone, np.flatnonzero(mine)), len(alone), local)
        least = np.minimum(local, np.float32(used.score))
        if self.others:
            centre = self._nearest_across(np.flatnonzero(mine), used.score, local)
        else:
            near = np.flatnonzero(mine & (self.nearest >= least))
            above = partial(self._above, least=used.score, local=local, near=near)
            centre, _ = stars(len(mine), near, above)
        self.centre = centre[self.copy]
        self.score = self._scores_to(self.centre)
        return used

    def groups(self) -> tuple[DuplicateGroup, ...]:
        """Return all groups of two images or more; with two galleries, of both."""
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
        """Mark what nearly equals another image of its width and height: (n,) bool."""
        images = self.compared.images
        side = np.array([(image.width, image.height) for image in images]).reshape(-1, 2)
        chosen = np.zeros(len(images), bool)
        queries = np.flatnonzero(self.content == np.arange(len(images)))
        queries = queries[queries >= self.others]
        for start in range(0, len(queries), QUERIES_AT_ONCE):
            part = queries[start : start + QUERIES_AT_ONCE]
            for row, ids, scores in self.search.down_to(part, SAME_PICTURE):
                place = part[row]
                self.nearest[place] = scores.max(initial=-np.inf)
                equal = ids[(scores >= SAME_PICTURE) & (side[ids] == side[place]).all(axis=1)]
                chosen[equal] = True
                chosen[place] |= len(equal) > 0
            self._tell("comparing", start + len(part), len(queries))
        return chosen

    def _above(
        self, places: np.ndarray, least: float, local: np.ndarray, near: np.ndarray
    ) -> Found:
        """Return what scores enough to be grouped. near: all places that are asked for."""
        self._tell("grouping", int(np.searchsorted(near, places[-1])) + 1, len(near))
        for row, ids, scores in self.search.down_to(places, np.minimum(local[places], least)):
            enough = _enough(scores, least, local[places[row]], local[ids])
            yield row, ids[enough], scores[enough]

    def _estimated(self, alone: np.ndarray) -> Threshold:
        """The threshold by a sample of the pictures that are searched."""
        k = neighbours_needed(len(alone))
        sample = alone[
            np.linspace(0, len(alone) - 1, min(SAMPLED_PAIRS, len(alone))).astype(np.int64)
        ]
        scores, _ = self.search.nearest(sample, k)
        mine = (self.copy == np.arange(len(self.copy))) & self.usable
        return estimate_threshold(scores, len(alone), max(1, int(mine[self.others :].sum())))

    def _estimate_each(self, places: np.ndarray, pictures: int, local: np.ndarray) -> None:
        """Write each place's own threshold into local, where there are enough pictures for one."""
        if neighbours_needed(pictures) < LOCAL or not len(places):
            return
        scores = np.empty((len(places), LOCAL), np.float32)
        near = np.empty((len(places), LOCAL), np.int32)
        for rows in chunks(np.arange(len(places)), QUERIES_AT_ONCE):
            scores[rows], ids = self.search.nearest(places[rows], LOCAL)
            near[rows] = np.searchsorted(places, ids)
            self._tell("comparing", int(rows[-1]) + 1, len(places))
        local[places] = local_scores(scores, near, len(places))

    def _nearest_across(self, places: np.ndarray, least: float, local: np.ndarray) -> np.ndarray:
        """For each of places the nearest image of the other gallery, where it scores enough."""
        centre = np.arange(len(self.copy))
        for part in chunks(places, QUERIES_AT_ONCE):
            scores, ids = self.search.nearest(part, 1)
            near = _enough(scores[:, 0], least, local[part], local[ids[:, 0]])
            centre[part[near]] = ids[near, 0]
        return np.where(centre == np.arange(len(centre)), self.copy, centre)

    def _scores_to(self, centre: np.ndarray) -> np.ndarray:
        """The (n,) float32 cosine similarities of images to their centres."""
        scores = np.ones(len(centre), np.float32)
        for part in chunks(np.flatnonzero(self.picture != self.picture[centre]), QUERIES_AT_ONCE):
            one, other = (unit_rows(self.compared.embeddings[p]) for p in (part, centre[part]))
            scores[part] = (one * other).sum(axis=1)
        return scores

    def _group(self, places: np.ndarray) -> DuplicateGroup:
        """A group, around the representative that all its places have."""
        first = int(self.centre[places[0]])
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
        elif self.copy[place] == self.copy[first]:
            tier = "copy"
        image = self.compared.images[place]
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


def _enough(
    scores: np.ndarray, least: float, one: np.ndarray | np.floating, other: np.ndarray
) -> np.ndarray:
    """Which pairs count: by the gallery's threshold, or by those of both pictures."""
    return (scores >= least) | (scores >= np.maximum(one, other))


def _least(tier: Tier, threshold: float | None) -> float | None:
    """Return the least score that matters for a tier; None where it is to be estimated."""
    if tier != "similar":
        return SAME_PICTURE
    return None if threshold is None else min(threshold, SAME_PICTURE)


def _rank(group: DuplicateGroup) -> tuple[int, int, str]:
    return TIERS.index(group.tier), -len(group.members), str(group.representative.path)


def _check_comparable(gallery: Gallery, other: Gallery) -> None:
    """Raise GalleryError unless both were embedded by the same backbone in the same way."""
    if gallery.path.resolve() == other.path.resolve():
        raise ArgumentError(f"{gallery.path} cannot be compared with itself. Leave --against out.")
    one, two = gallery.settings().backbone, other.settings().backbone
    if replace(one, name="") != replace(two, name=""):
        made = [f"{b.name} ({b.weights_sha256[:8]}, {b.size} px, {b.fit})" for b in (one, two)]
        raise GalleryError(
            f"{gallery.path} was made with {made[0]} and {other.path} with {made[1]}, so they "
            "cannot be compared. Index one again, with --reembed and the backbone of the other."
        )

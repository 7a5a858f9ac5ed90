"""Perceptual hashes -> which images are copies of one picture: saved again, scaled, turned, framed.

Candidates are all pairs of hashes that differ in at most BITS_APART bits, found exactly by FAISS's
binary index, or in COARSE_APART of the lowest frequencies, which are all that a plain picture has.
The index counts bits of all: its multi-index hashing was ten times slower for so many
bits apart (docs/decisions.md). A candidate counts once its pixels say so too: both pictures are
decoded, turned and cut alike, and their correlation is LEAST_CORRELATION or more.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import faiss
import numpy as np
from PIL import Image

from retrieval.errors import ImageError
from retrieval.images import open_image, read_bytes
from retrieval.images.perceptual import (
    BITS_APART,
    COARSE_BYTES,
    HASH_BYTES,
    TURNS,
    border,
    coarse,
    grey_grid,
    parts,
    share_inside,
    turned,
    turned_hashes,
    without,
)
from retrieval.loader import default_workers
from retrieval.retriever.duplicates.stored import StoredImage
from retrieval.threads import map_ahead

LEAST_CORRELATION = 0.85
COARSE_APART, LEAST_OF_COARSE = 3, 0.97  # of 63 bits
LEAST_UNFRAMED = 0.7  # pixels that a picture has of those inside of its framed copy
COMPARED = 64  # side of the squares that are correlated, pixels
GRIDS_KEPT = 4096


@dataclass(frozen=True)
class Pair:
    """Two images whose hashes are near; how the first has to be turned to lie as the second does.

    bits: in which they differ. inner: which of both has to be taken without its border.
    """

    one: int
    other: int
    bits: int
    turn: int
    inner: tuple[bool, bool]


class HashIndex:
    """Hashes of some images, to be searched. hashes: by place, as perceptual_hash() makes them."""

    def __init__(self, hashes: Sequence[bytes], places: Iterable[int]) -> None:
        self._hashes = hashes
        held = [(place, n, part) for place in places for n, part in enumerate(parts(hashes[place]))]
        self._place = np.array([place for place, _, _ in held], np.int64)
        self._inner = np.array([n == 1 for _, n, _ in held], bool)
        self._bits = np.stack([part for _, _, part in held]) if held else np.empty((0, HASH_BYTES))
        self._index = faiss.IndexBinaryFlat(8 * HASH_BYTES)
        self._coarse = faiss.IndexBinaryFlat(8 * COARSE_BYTES)
        if held:
            self._index.add(self._bits)
            self._coarse.add(coarse(self._bits))

    def near(self, places: Sequence[int]) -> list[Pair]:
        """For each of places the images that may be copies of it, each once, the nearest hash."""
        asked = [(p, n, part) for p in places for n, part in enumerate(parts(self._hashes[p]))]
        if not asked or not len(self._place):
            return []
        ways = turned_hashes(np.stack([part for _, _, part in asked]))
        found: dict[tuple[int, int], Pair] = {}
        for turn, hashes in enumerate(ways):
            queries, rows = self._rows(np.ascontiguousarray(hashes))
            bits = np.bitwise_count(hashes[queries] ^ self._bits[rows]).sum(axis=1)
            for query, row, apart in zip(queries, rows, bits.tolist(), strict=True):
                one, n, _ = asked[query]
                other = int(self._place[row])
                best = found.get((one, other))
                if other != one and (best is None or apart < best.bits):
                    inner = (n == 1, bool(self._inner[row]))
                    found[one, other] = Pair(one, other, apart, turn, inner)
        return list(found.values())

    def _rows(self, hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows of hashes, and of the index, that are near, wholly or in the coarse part."""
        found = []
        for index, asked, most in (
            (self._index, hashes, BITS_APART),
            (self._coarse, coarse(hashes), COARSE_APART),
        ):
            limits, _, rows = index.range_search(asked, most + 1)
            found.append(
                np.stack(
                    [np.repeat(np.arange(len(hashes)), np.diff(limits.astype(np.int64))), rows]
                )
            )
        pairs = np.unique(np.concatenate(found, axis=1), axis=1)
        return pairs[0], pairs[1]


class Verifier:
    """Decodes candidates and correlates them; what cannot be decoded agrees with nothing."""

    def __init__(self, images: Sequence[StoredImage], max_pixels: int) -> None:
        self._images, self._max_pixels = images, max_pixels
        self._grids: dict[int, np.ndarray | None] = {}

    def decode(self, pairs: Sequence[Pair]) -> None:
        """Make ready for agree() of some pairs."""
        wanted = {place for pair in pairs for place in (pair.one, pair.other)}
        if len(self._grids) > GRIDS_KEPT:
            self._grids = {p: grid for p, grid in self._grids.items() if p in wanted}
        missing = sorted(wanted - set(self._grids))
        images = [self._images[place] for place in missing]
        grid = partial(_grid, max_pixels=self._max_pixels)
        with closing(map_ahead(grid, images, late=_none, workers=default_workers())) as made:
            self._grids |= dict(zip(missing, made, strict=True))

    def agree(self, pair: Pair) -> bool:
        """Whether the pixels of a decoded pair say that it is one picture."""
        one, other = self._grids[pair.one], self._grids[pair.other]
        if one is None or other is None:
            return False
        if pair.inner[0]:
            one = without(one, border(one))
        if pair.inner[1]:
            other = without(other, border(other))
        least = LEAST_CORRELATION if pair.bits <= BITS_APART else LEAST_OF_COARSE
        return correlation(turned(one, TURNS[pair.turn]), other) >= least


def _none(_: StoredImage) -> None:
    """What stands in place of a picture that takes too long: it agrees with nothing."""


class CopyGroups:
    """Which image each copy belongs to: places are given in the order in which one would keep them.

    others: how many of the first are of another gallery, which keeps its own and takes ours in.
    centre: (n,) int64, the place of the image that each is a copy of, or its own.
    """

    def __init__(self, images: Sequence[StoredImage], others: int) -> None:
        self._images, self._others = images, others
        self.centre = np.arange(len(images))
        self._bits = np.full(len(images), 8 * HASH_BYTES)
        self._inside: dict[int, int] = {}

    def add(self, block: np.ndarray, pairs: Sequence[Pair], agree: Callable[[Pair], bool]) -> None:
        """Take in the copies of some images, in order; agree: whether a pair is one picture."""
        near: dict[int, list[Pair]] = {}
        for pair in sorted(pairs, key=lambda pair: pair.bits):
            near.setdefault(pair.one, []).append(pair)
        for place in block.tolist():
            if self._others:
                self._join_other(near.get(place, []), agree)
            elif self.centre[place] == place:
                self._take_in(place, near.get(place, []), agree)

    def finish(self) -> np.ndarray:
        """The centres, at the end: what is in a frame belongs where the picture inside belongs."""
        for place, inside in sorted(self._inside.items()):
            seen = {place}
            while inside in self._inside and inside not in seen:
                seen.add(inside)
                inside = self._inside[inside]
            self.centre[place] = self.centre[inside]
        return self.centre

    def _join_other(self, pairs: Sequence[Pair], agree: Callable[[Pair], bool]) -> None:
        found = next((pair for pair in pairs if agree(pair)), None)
        if found is not None:
            self.centre[found.one] = found.other

    def _take_in(self, place: int, pairs: Sequence[Pair], agree: Callable[[Pair], bool]) -> None:
        images = self._images
        for pair in pairs:
            if is_framed(images[place], images[pair.other], pair) and agree(pair):
                self._inside[place] = pair.other
                return
        for pair in pairs:
            if pair.other > place and pair.bits < self._bits[pair.other] and agree(pair):
                self.centre[pair.other], self._bits[pair.other] = place, pair.bits


def may_be_copies(one: StoredImage, other: StoredImage) -> bool:
    """Whether one can be a copy of the other at all: what only one of them has is no detail.

    An animation and its first frame, a document and its cover, a logo with and without its clear
    ground are equal in part, which is similar.
    """
    a, b = one.facts, other.facts
    return a.frames == b.frames == 1 and a.alpha == b.alpha


def is_framed(one: StoredImage, other: StoredImage, pair: Pair) -> bool:
    """Whether the first of a pair is the other one in a frame, and so no original."""
    inside = one.width * one.height * share_inside(one.facts.perceptual)
    return pair.inner == (True, False) and other.width * other.height >= LEAST_UNFRAMED * inside


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Of two grey squares of any size, -1 to 1, whatever their brightness and contrast."""
    a, b = _compared(one), _compared(other)
    length = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float((a * b).sum()) / length if length else 0.0


def chunks(places: np.ndarray, size: int = 128) -> Iterator[np.ndarray]:
    """Places, some at a time."""
    for start in range(0, len(places), size):
        yield places[start : start + size]


def _compared(grid: np.ndarray) -> np.ndarray:
    small = Image.fromarray(np.ascontiguousarray(grid))
    values = np.asarray(small.resize((COMPARED, COMPARED), Image.Resampling.BOX), np.float32)
    return values - values.mean()


def _grid(image: StoredImage, max_pixels: int) -> np.ndarray | None:
    try:
        data, _ = read_bytes(image.path)
        if hashlib.sha256(data).hexdigest() != image.sha256:
            return None
        return grey_grid(open_image(data, target=128, max_pixels=max_pixels)[0])
    except ImageError:
        return None

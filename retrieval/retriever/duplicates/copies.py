"""Perceptual hashes -> which images are copies of one picture: saved again, scaled, turned, framed.

Candidates are all pairs of hashes that differ in at most BITS_APART bits, found exactly: by FAISS's
binary index, and beyond FEW hashes by its multi-index hashing (Norouzi et al. 2012, "Fast Search in
Hamming Space with Multi-Index Hashing"), which looks into the cells that such a pair must share. A
candidate counts once its pixels say so too: both pictures are decoded, turned and cut alike, and
their correlation is LEAST_CORRELATION or more. docs/benchmarks.md has what that finds and misses.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import faiss
import numpy as np
from PIL import Image

from retrieval.errors import ImageError
from retrieval.images import open_image, read_bytes
from retrieval.images.perceptual import (
    BITS_APART,
    HASH_BYTES,
    TURNS,
    border,
    grey_grid,
    parts,
    share_inside,
    turned,
    turned_hashes,
    without,
)
from retrieval.loader import default_workers
from retrieval.retriever.duplicates.stored import StoredImage

LEAST_CORRELATION = 0.85
LEAST_UNFRAMED = 0.7  # pixels that a picture has of those inside of its framed copy
COMPARED = 64  # side of the squares that are correlated, pixels
FEW = 30_000
CELLS, CELL_BITS, FLIPPED = 16, 16, 2  # 16 cells with 3 bits apart each would be 48
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
        bits = 8 * HASH_BYTES
        self._index = (
            faiss.IndexBinaryFlat(bits)
            if len(held) <= FEW
            else faiss.IndexBinaryMultiHash(bits, CELLS, CELL_BITS)
        )
        if len(held) > FEW:
            self._index.nflip = FLIPPED
        if held:
            self._index.add(np.stack([part for _, _, part in held]))

    def near(self, places: Sequence[int]) -> list[Pair]:
        """For each of places the images that may be copies of it, each once, the nearest hash."""
        asked = [(p, n, part) for p in places for n, part in enumerate(parts(self._hashes[p]))]
        if not asked or not len(self._place):
            return []
        ways = turned_hashes(np.stack([part for _, _, part in asked]))
        found: dict[tuple[int, int], Pair] = {}
        for turn, hashes in enumerate(ways):
            limits, bits, rows = self._index.range_search(
                np.ascontiguousarray(hashes), BITS_APART + 1
            )
            for query in range(len(asked)):
                one, n, _ = asked[query]
                for at in range(int(limits[query]), int(limits[query + 1])):
                    other = int(self._place[rows[at]])
                    best = found.get((one, other))
                    if other != one and (best is None or bits[at] < best.bits):
                        inner = (n == 1, bool(self._inner[rows[at]]))
                        found[one, other] = Pair(one, other, int(bits[at]), turn, inner)
        return list(found.values())


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
        with ThreadPoolExecutor(default_workers(), thread_name_prefix="imgret-decode") as pool:
            made = pool.map(partial(_grid, max_pixels=self._max_pixels), images)
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
        return correlation(turned(one, TURNS[pair.turn]), other) >= LEAST_CORRELATION


class CopyGroups:
    """Which image each copy belongs to: places are given in the order in which one would keep them.

    others: how many of the first are of another gallery, which keeps its own and takes ours in.
    centre: (n,) int64, the place of the image that each is a copy of, or its own.
    """

    def __init__(self, images: Sequence[StoredImage], others: int) -> None:
        self._images, self._others = images, others
        self.centre = np.arange(len(images))
        self._bits = np.full(len(images), BITS_APART + 1)
        self._framed = np.zeros(len(images), bool)

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

    def _join_other(self, pairs: Sequence[Pair], agree: Callable[[Pair], bool]) -> None:
        found = next((pair for pair in pairs if agree(pair)), None)
        if found is not None:
            self.centre[found.one] = found.other

    def _take_in(self, place: int, pairs: Sequence[Pair], agree: Callable[[Pair], bool]) -> None:
        images = self._images
        for pair in pairs:
            if is_framed(images[place], images[pair.other], pair) and agree(pair):
                self._framed[place] = True  # whoever is inside of the frame takes it in
                return
        for pair in pairs:
            other, is_later = pair.other, pair.other > place
            if (is_later or self._framed[other]) and pair.bits < self._bits[other] and agree(pair):
                self.centre[other], self._bits[other] = place, pair.bits


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

"""Pairs of near hashes -> which images are copies of one picture: saved again, turned, framed.

A pair (hashes.py) counts once its pixels say so too: both pictures are decoded, turned and cut
alike, and their correlation is LEAST_CORRELATION or more. Forms of one layout and one thing in
several colours correlate as well as copies do: so plain pictures may not each have something where
the other has none, and no part may have another hue.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import numpy as np
from PIL import Image

from retrieval.errors import ImageError
from retrieval.images import open_image, read_bytes
from retrieval.images.perceptual import (
    BITS_APART,
    GRID,
    GRID_TURNS,
    HASH_BYTES,
    TINTS,
    border,
    grey_grid,
    share_inside,
    tint_grids,
    turned,
    without,
)
from retrieval.loader import default_workers
from retrieval.retriever.duplicates.hashes import Pair
from retrieval.retriever.duplicates.stored import StoredImage
from retrieval.threads import map_ahead

LEAST_CORRELATION = 0.85
LEAST_OF_COARSE = 0.97  # of pictures whose hashes are near in the lowest frequencies alone
LEAST_UNFRAMED = 0.7  # pixels that a picture has of those inside of its framed copy
COMPARED = 64  # side of the squares that are correlated, pixels
LOOKS_KEPT = 4096
DETAILS = 96  # side of the squares in which a plain picture's details are looked for
PLAIN_SHARE = 0.5  # share of a plain picture's pixels that have nearly one brightness
DETAIL_LEVELS, MOST_DETAILS = 16, 8  # of brightness; squares of DETAILS x DETAILS
COLOURED, RECOLOURED = 20, 0.03  # levels away from grey; share of a picture


@dataclass(frozen=True)
class Look:
    """What is compared of a picture.

    grey: (GRID, GRID) uint8. tints: (2, TINTS, TINTS) int16. detailed: whether the picture is
    large enough to tell details from the marks of compression.
    """

    grey: np.ndarray
    tints: np.ndarray
    detailed: bool

    @classmethod
    def of(cls, picture: Image.Image) -> Look:
        """Look at an upright RGB picture."""
        return cls(grey_grid(picture), tint_grids(picture), min(picture.size) >= GRID)

    def without_border(self) -> Look:
        """Cut off a border of one colour."""
        sides = border(self.grey)
        top, bottom, left, right = (round(side * TINTS / GRID) for side in sides)
        tints = [without(tint, (top, bottom, left, right)) for tint in self.tints]
        return Look(without(self.grey, sides), np.stack(tints), self.detailed)

    def turned(self, turn: int) -> Look:
        """Return the look of the picture turned by one of TURNS."""
        tints = [turned(tint, GRID_TURNS[turn]) for tint in self.tints]
        return Look(turned(self.grey, GRID_TURNS[turn]), np.stack(tints), self.detailed)


class Verifier:
    """Decodes candidates and correlates them; what cannot be decoded agrees with nothing."""

    def __init__(self, images: Sequence[StoredImage], max_pixels: int) -> None:
        self._images, self._max_pixels = images, max_pixels
        self._looks: dict[int, Look | None] = {}

    def decode(self, pairs: Sequence[Pair]) -> None:
        """Make ready for agree() of some pairs."""
        wanted = {place for pair in pairs for place in (pair.one, pair.other)}
        if len(self._looks) > LOOKS_KEPT:
            self._looks = {p: each for p, each in self._looks.items() if p in wanted}
        missing = sorted(wanted - set(self._looks))
        images = [self._images[place] for place in missing]
        look_at = partial(_look_at, max_pixels=self._max_pixels)
        with closing(map_ahead(look_at, images, late=_none, workers=default_workers())) as made:
            self._looks |= dict(zip(missing, made, strict=True))

    def agree(self, pair: Pair) -> bool:
        """Tell whether the pixels of a decoded pair show one picture."""
        one, other = self._looks[pair.one], self._looks[pair.other]
        if one is None or other is None:
            return False
        least = LEAST_CORRELATION if pair.bits <= BITS_APART else LEAST_OF_COARSE
        return is_one_picture(one, other, pair.turn, pair.inner, least)


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
    """Tell whether one can be a copy of the other: neither has a detail of its own.

    An animation and its first frame, a document and its cover, a logo with and without its clear
    ground are equal in part, which is similar.
    """
    a, b = one.facts, other.facts
    return a.frames == b.frames == 1 and a.alpha == b.alpha


def is_framed(one: StoredImage, other: StoredImage, pair: Pair) -> bool:
    """Tell whether the first of a pair is the other in a frame, and so not an original."""
    inside = one.width * one.height * share_inside(one.facts.perceptual)
    return pair.inner == (True, False) and other.width * other.height >= LEAST_UNFRAMED * inside


def is_one_picture(
    one: Look, other: Look, turn: int, inner: tuple[bool, bool], least: float = LEAST_CORRELATION
) -> bool:
    """Tell whether pixels show one picture; turn, inner: see Pair. least: correlation."""
    one, other = (
        look.without_border() if cut else look
        for look, cut in zip((one, other), inner, strict=True)
    )
    one = one.turned(turn)
    if correlation(one.grey, other.grey) < least:
        return False
    if np.abs(np.subtract(one.grey.shape, other.grey.shape)).max() > 1:
        return True  # out of a frame of another width, it lies not quite where the other does
    return not (is_recoloured(one.tints, other.tints) or is_otherwise_filled(one, other))


def is_otherwise_filled(one: Look, other: Look) -> bool:
    """Whether two plain pictures each have something where the other has none, as forms do.

    What a mark adds is lighter than the picture below it or darker, hardly ever both. A detail may
    lie a square beside the other's.
    """
    both = (one, other)
    if not all(look.detailed and is_plain(look.grey) for look in both):
        return False
    a, b = (_squares(look.grey, DETAILS) for look in both)
    a = a * float((a * b).sum()) / max(float((a * a).sum()), 1e-6)
    a += np.median(b - a)
    lighter = np.maximum(a - _around(b).max((2, 3)), _around(a).min((2, 3)) - b)
    darker = np.maximum(b - _around(a).max((2, 3)), _around(b).min((2, 3)) - a)
    return min(int((way > DETAIL_LEVELS).sum()) for way in (lighter, darker)) >= MOST_DETAILS


def is_plain(grey: np.ndarray) -> bool:
    """Tell whether most of a grey square has one brightness, as paper and screens have."""
    levels = np.bincount(grey.ravel(), minlength=256)
    return bool(np.convolve(levels, np.ones(17)).max() >= PLAIN_SHARE * grey.size)


def is_recoloured(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether a part of two pictures has another hue in each; grey is none. one, other: tints."""
    if one.shape != other.shape:
        return False
    lengths = np.hypot(*one.astype(np.float32)), np.hypot(*other.astype(np.float32))
    coloured = np.minimum(*lengths) >= COLOURED
    inner = (one.astype(np.int32) * other).sum(axis=0)
    turned_away = coloured & (inner < math.sqrt(0.5) * lengths[0] * lengths[1])  # 45 degrees
    return bool(turned_away.sum() >= max(RECOLOURED * coloured.size, coloured.sum() / 4))


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Correlate two grey squares of any size: -1 to 1, whatever brightness and contrast."""
    a, b = _squares(one, COMPARED), _squares(other, COMPARED)
    length = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float((a * b).sum()) / length if length else 0.0


def chunks(places: np.ndarray, size: int = 128) -> Iterator[np.ndarray]:
    """Give places, some at a time."""
    for start in range(0, len(places), size):
        yield places[start : start + size]


def _squares(grid: np.ndarray, side: int) -> np.ndarray:
    """A grey square of another size, float32, its mean taken off."""
    small = Image.fromarray(np.ascontiguousarray(grid))
    values = np.asarray(small.resize((side, side), Image.Resampling.BILINEAR), np.float32)
    return values - values.mean()


def _around(squares: np.ndarray) -> np.ndarray:
    """Each of (n, n) squares with those beside it, (n, n, 3, 3)."""
    return np.lib.stride_tricks.sliding_window_view(np.pad(squares, 1, mode="edge"), (3, 3))


def _look_at(image: StoredImage, max_pixels: int) -> Look | None:
    try:
        data, _ = read_bytes(image.path)
        if hashlib.sha256(data).hexdigest() != image.sha256:
            return None
        return Look.of(open_image(data, target=128, max_pixels=max_pixels)[0])
    except ImageError:
        return None

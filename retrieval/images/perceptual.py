"""A picture -> 255 bits that its copies share, however they are saved, scaled, turned or framed.

The signs of the low frequencies of a discrete cosine transform, as pHash takes them (Zauner 2010,
"Implementation and Benchmarking of Perceptual Image Hash Functions"), 16 x 16 of them as PDQ does
(Facebook 2019, "The TMK+PDQF Video-Hashing Algorithm and the PDQ Image-Hashing Algorithm"). Signs,
not "above the median", since then the hash of a turned picture follows from the hash itself: to
mirror a picture negates every other coefficient, to transpose it transposes them. A second hash
leaves out a border of one colour.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

BITS = 16  # a side
HASH_BYTES = BITS * BITS // 8
COARSE = 8  # of BITS
COARSE_BYTES = COARSE * COARSE // 8
BITS_APART = 40  # at most, of copies of one picture; pictures that are none differ in about half
GRID = 192  # side of the grey square that is looked at, pixels
TINTS = 32  # side of the squares of colours
GRID_CELLS = 64  # side of what is transformed
TOLERANCE = 24  # grey levels that a line of a border strays from its colour
IN_BORDER = 0.97  # share of a line that is of the border's colour
WIDEST = 2 * GRID // 5  # of a border
LEAST_CONTRAST = 2.0  # standard deviation, grey levels; a hash of less would be one of noise
GRID_TURNS = tuple((swap, down, across) for swap in (0, 1) for down in (0, 1) for across in (0, 1))
"""All ways to turn and mirror a square: rows and columns swapped, then upside down, then mirrored
(the axes of the transform: 0 is down, 1 is across)."""

_ODD = np.arange(BITS) % 2 == 1
_COSINES = np.cos(
    np.pi * (2 * np.arange(GRID_CELLS)[None] + 1) * np.arange(BITS)[:, None] / (2 * GRID_CELLS)
).astype(np.float32)

Sides = tuple[int, int, int, int]


def perceptual_hash(picture: Image.Image) -> bytes:
    """Hash an upright picture, HASH_BYTES, and what it has inside of a border.

    With a border of one colour the hash without it follows, and how wide it is (4 bytes, Sides).
    b"" for a picture of one colour, which has nothing to tell it by.
    """
    grid = grey_grid(picture)
    whole = _hash(grid)
    sides = border(grid)
    inner = _hash(without(grid, sides)) if any(sides) else whole
    return whole if inner == whole or not inner else whole + inner + bytes(sides)


def parts(hashes: bytes) -> list[np.ndarray]:
    """Split perceptual_hash() into one or two hashes, (HASH_BYTES,) uint8; none of b"".

    >>> [len(part) for part in parts(bytes(32))], parts(b"")
    ([32], [])
    """
    count = len(hashes) // HASH_BYTES
    return [np.frombuffer(hashes, np.uint8, HASH_BYTES, n * HASH_BYTES) for n in range(count)]


def coarse(hashes: np.ndarray) -> np.ndarray:
    """Return the lowest frequencies of (n, HASH_BYTES) hashes, (n, COARSE_BYTES) uint8.

    They are all that a picture of few plain areas has; the others are noise there.
    """
    bits = np.unpackbits(hashes, axis=1).reshape(-1, BITS, BITS)[:, :COARSE, :COARSE]
    return np.packbits(bits.reshape(len(hashes), COARSE * COARSE), axis=1)


def share_inside(hashes: bytes) -> float:
    """Return the share of a picture's pixels inside of its border, by perceptual_hash()."""
    if len(hashes) <= 2 * HASH_BYTES:
        return 1.0
    top, bottom, left, right = hashes[2 * HASH_BYTES :][:4]
    return max(0.0, (1 - (top + bottom) / GRID) * (1 - (left + right) / GRID))


def grey_grid(picture: Image.Image) -> np.ndarray:
    """Squash a picture to (GRID, GRID) uint8 grey."""
    return np.asarray(_squashed(picture, GRID).convert("L"))


def tint_grids(picture: Image.Image) -> np.ndarray:
    """Measure how blue and red a picture is, (2, TINTS, TINTS) int16, 0 where it is grey."""
    tints = np.asarray(_squashed(picture, TINTS).convert("YCbCr"), np.int16)[..., 1:] - 128
    return np.ascontiguousarray(np.moveaxis(tints, -1, 0))


def border(grid: np.ndarray) -> Sides:
    """Count lines at the top, bottom, left and right of the colour of the outermost one."""
    return _lines(grid), _lines(grid[::-1]), _lines(grid.T), _lines(grid.T[::-1])


def without(grid: np.ndarray, sides: Sides) -> np.ndarray:
    """Cut so many lines off a grid at the top, bottom, left and right."""
    top, bottom, left, right = sides
    return grid[top : grid.shape[0] - bottom, left : grid.shape[1] - right]


def turned(grid: np.ndarray, turn: tuple[int, int, int]) -> np.ndarray:
    """Turn and mirror a grid by one of TURNS."""
    swap, down, across = turn
    grid = grid.T if swap else grid
    grid = grid[::-1] if down else grid
    return grid[:, ::-1] if across else grid


def turned_hashes(hashes: np.ndarray) -> np.ndarray:
    """Hashes (n, HASH_BYTES) uint8 -> those of the pictures turned by each of TURNS, (8, n, ...).

    >>> one = np.zeros((1, HASH_BYTES), np.uint8)
    >>> turned_hashes(one).shape
    (8, 1, 32)
    """
    bits = np.unpackbits(hashes, axis=1).reshape(-1, BITS, BITS).astype(bool)
    made = []
    for swap, down, across in GRID_TURNS:
        each = bits.transpose(0, 2, 1) if swap else bits
        if down:
            each = each ^ _ODD[:, None]
        if across:
            each = each ^ _ODD[None]
        each = each.copy()
        each[:, 0, 0] = False  # the mean brightness, which is no part of the hash
        made.append(np.packbits(each.reshape(len(hashes), -1), axis=1))
    return np.stack(made)


def _squashed(picture: Image.Image, side: int) -> Image.Image:
    """A square of a picture, which is the same however the picture was turned before."""
    return picture.resize((side, side), Image.Resampling.BILINEAR, reducing_gap=2.0)


def _hash(grid: np.ndarray) -> bytes:
    cells = Image.fromarray(grid).resize((GRID_CELLS, GRID_CELLS), Image.Resampling.BILINEAR)
    values = np.asarray(cells, np.float32)
    if values.std() < LEAST_CONTRAST:
        return b""
    signs = _COSINES @ (values - values.mean()) @ _COSINES.T > 0
    signs[0, 0] = False
    return np.packbits(signs).tobytes()


def _lines(lines: np.ndarray) -> int:
    """How many of the first lines are of the colour of the first; 0 where there is no end."""
    colour = int(np.partition(lines[0], GRID // 2)[GRID // 2])
    low, high = max(colour - TOLERANCE, 0), min(colour + TOLERANCE, 255)
    for count, line in enumerate(lines[:WIDEST]):
        if np.count_nonzero((line >= low) & (line <= high)) < IN_BORDER * GRID:
            return count
    return 0

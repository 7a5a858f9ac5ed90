"""Triangles -> pixels: a z-buffer in numpy, quick for meshes of many small triangles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Hits:
    """What each covered pixel sees.

    pixels: (n,) index into the flat square. faces: (n,) which triangle.
    weights: (n, 3) float32, the share of each of its corners.
    nearness: (n,) float32.
    """

    pixels: np.ndarray
    faces: np.ndarray
    weights: np.ndarray
    nearness: np.ndarray


def nearest_sample(places: np.ndarray, nearness: np.ndarray, faces: np.ndarray, size: int) -> Hits:
    """The triangle in front at each pixel of a square; those seen from behind are left out.

    places: (v, 2) in pixels, x to the right and y down. nearness: (v,) larger is in front, linear
    over the picture (1 / depth is). faces: (f, 3), counterclockwise on the picture as y goes up.
    """
    which, pixels, second, third = _fragments(places, faces, size)
    a, b, c = (nearness[faces[:, n]].astype(np.float32) for n in range(3))
    near = a[which] + (b - a)[which] * second + (c - a)[which] * third
    if not len(near):
        none = np.zeros(0, int)
        return Hits(none, none, np.zeros((0, 3), np.float32), near)
    low, high = float(near.min()), float(near.max())
    steps = ((near - low) * (2.0**30 / max(high - low, 1e-9))).astype(np.int64)
    front = np.full(size * size, -1, np.int64)
    np.maximum.at(front, pixels, (steps << 32) | np.arange(len(near)))
    covered = np.flatnonzero(front >= 0)
    chosen = front[covered] & 0xFFFFFFFF
    second, third = second[chosen], third[chosen]
    weights = np.stack([1 - second - third, second, third], 1)
    return Hits(covered, which[chosen], weights, near[chosen])


def mask(places: np.ndarray, faces: np.ndarray, size: int) -> np.ndarray:
    """The (size, size) bool: the pixels that any triangle covers."""
    covered = np.zeros(size * size, bool)
    covered[_fragments(places, faces, size)[1]] = True
    return covered.reshape(size, size)


def _fragments(
    places: np.ndarray, faces: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The (triangle, pixel, weight of corner 2, weight of corner 3) of all pixels in triangles."""
    x, y = places[:, 0].astype(np.float32), places[:, 1].astype(np.float32)
    x, y = x[faces.T], y[faces.T]
    area = (x[1] - x[0]) * (y[2] - y[0]) - (y[1] - y[0]) * (x[2] - x[0])
    front = np.flatnonzero(area < -1e-6)  # as y goes down
    x, y, scale = x[:, front], y[:, front], 1 / area[front]
    left, wide = _span(x, size)
    top, high = _span(y, size)
    counts = wide * high
    row = np.repeat(np.arange(len(front), dtype=np.int32), counts)
    number = np.arange(len(row), dtype=np.int32)
    number -= (np.cumsum(counts, dtype=np.int32) - counts)[row]
    down = number // np.maximum(wide, 1)[row]
    pixel_x = left[row] + number - down * wide[row]
    pixel_y = top[row] + down
    one = np.stack([(y[2] - y[0]) * scale, (x[0] - x[2]) * scale])
    two = np.stack([(y[0] - y[1]) * scale, (x[1] - x[0]) * scale])
    starts = [part[0] * (0.5 - x[0]) + part[1] * (0.5 - y[0]) for part in (one, two)]
    across, along = pixel_x.astype(np.float32), pixel_y.astype(np.float32)
    second = one[0][row] * across + one[1][row] * along + starts[0][row]
    third = two[0][row] * across + two[1][row] * along + starts[1][row]
    edge = np.float32(-1e-3)
    inside = np.flatnonzero((second >= edge) & (third >= edge) & (second + third <= 1 - edge))
    pixels = pixel_y[inside] * size + pixel_x[inside]
    return front[row[inside]], pixels, second[inside], third[inside]


def _span(ends: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """First pixel whose middle lies between corners (3, n), and how many there are: (n,) int32."""
    low = np.minimum(np.minimum(ends[0], ends[1]), ends[2])
    high = np.maximum(np.maximum(ends[0], ends[1]), ends[2])
    first = np.ceil(np.clip(low, 0, size) - 0.5).astype(np.int32)
    last = np.floor(np.clip(high, -1, size) - 0.5).astype(np.int32)
    return first, np.maximum(last - first + 1, 0)

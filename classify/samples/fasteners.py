"""Bolts, nuts and washers: meshes in units of about the radius of their thread."""

from __future__ import annotations

import numpy as np

from classify.samples.chance import Rng
from classify.samples.meshes import (
    CIRCLE,
    HEXAGONAL,
    Mesh,
    angles,
    cap,
    joined_meshes,
    patch,
    polygon,
    prism,
    rings,
    thread,
    turned_mesh,
)


def bolt(rng: Rng) -> Mesh:
    """A bolt along z, its head below: hexagon, flange, socket, button, pan, countersunk, coach."""
    heads = (_hexagon_head, _hexagon_head, _socket_head, _dome_head, _sunk_head, _coach_head)
    parts, start = heads[rng.integers(len(heads))](rng)
    length = float(rng.uniform(3.0, 10.0))
    plain = float(rng.choice([0.0, 0.0, rng.uniform(0.2, 0.65)])) * length
    pitch = float(rng.uniform(0.28, 0.45))
    end = start + length
    if plain:
        parts.append(turned_mesh([(1.0, start), (1.0, start + plain), (0.88, start + plain)]))
    parts.append(thread(1.0, start + plain, end, pitch=pitch, depth=pitch * 0.55))
    tip = float(rng.uniform(0.1, 0.25))
    parts.append(turned_mesh([(1.0, end), (1 - tip, end + tip), (0.0, end + tip)]))
    return joined_meshes(parts)


def _hexagon_head(rng: Rng) -> tuple[list[Mesh], float]:
    wide, high = float(rng.uniform(1.5, 1.85)), float(rng.uniform(1.1, 1.5))
    rim = np.minimum(wide * polygon(6, angles(HEXAGONAL)), wide * 0.97)
    flanged = rng.random() < 0.3
    parts = [prism(6, wide, 0, high, rounded=(True, False))]
    if rng.random() < 0.3:  # hollowed
        inner = wide * 0.75
        parts.append(cap(rim, inner, 0.0, up=False))
        parts.append(turned_mesh([(0.0, 0.25), (inner * 0.8, 0.25), (inner, 0.0)], shade=0.75))
    else:
        parts.append(cap(rim, 0.0, 0.0, up=False))
    parts.append(cap(wide * polygon(6, angles(HEXAGONAL)), 0.95, high, up=True))
    if flanged:
        skirt = wide * float(rng.uniform(1.3, 1.5))
        profile = [(wide, high - 0.35), (skirt, high - 0.05), (skirt, high + 0.15)]
        parts.append(turned_mesh([*profile, (0.95, high + 0.15)]))
        high += 0.15
    return parts, high


def _socket_head(rng: Rng) -> tuple[list[Mesh], float]:
    wide, high = float(rng.uniform(1.45, 1.65)), float(rng.uniform(1.6, 2.1))
    socket, edge = float(rng.uniform(0.7, 0.85)), 0.12
    mouth = socket * polygon(6, angles(HEXAGONAL))
    parts = [
        cap(wide - edge, mouth, 0.0, up=False),
        *_recess(6, socket, 0.0, high * 0.55),
        turned_mesh([(wide - edge, 0.0), (wide, edge), (wide, high), (0.95, high)]),
    ]
    if rng.random() < 0.5:  # knurled
        around = angles(HEXAGONAL * 2)
        radii = wide + 0.03 * np.cos(around * 36)
        wall = rings(np.stack([radii, radii]), np.array([[edge * 1.5], [high * 0.9]]), around)
        parts.append(patch(wall, closed=True))
    return parts, high


def _dome_head(rng: Rng) -> tuple[list[Mesh], float]:
    wide, high = float(rng.uniform(1.7, 2.1)), float(rng.uniform(0.9, 1.3))
    top = float(rng.uniform(0.75, 0.95))
    curve = np.linspace(np.arcsin(top / wide), np.pi / 2, 9)
    low = high * np.cos(curve[0])
    profile = [(wide * float(np.sin(a)), float(low - high * np.cos(a))) for a in curve]
    sides = int(rng.choice([6, 4]))
    parts = [
        turned_mesh(profile, smooth=True),
        turned_mesh([(wide, low), (wide, low + 0.15), (0.9, low + 0.15)]),
    ]
    if sides == 6:
        socket = top * 0.75
        parts += [cap(top, socket * polygon(6, angles(HEXAGONAL)), 0.0, up=False)]
        parts += _recess(6, socket, 0.0, low * 0.7)
    else:
        parts += _cross(top, 0.0, low * 0.8)
    return parts, low + 0.15


def _sunk_head(rng: Rng) -> tuple[list[Mesh], float]:
    wide, high = float(rng.uniform(1.9, 2.2)), float(rng.uniform(0.9, 1.2))
    parts = [turned_mesh([(wide, 0.0), (wide, 0.12), (1.0, high)])]
    if rng.random() < 0.5:
        socket = float(rng.uniform(0.65, 0.85))
        parts.append(cap(wide, socket * polygon(6, angles(HEXAGONAL)), 0.0, up=False))
        parts += _recess(6, socket, 0.0, high * 0.5)
    else:
        inner = wide * 0.62
        parts += [cap(wide, inner, 0.0, up=False), *_cross(inner, 0.0, high * 0.6)]
    return parts, high


def _coach_head(rng: Rng) -> tuple[list[Mesh], float]:
    wide, high = float(rng.uniform(2.0, 2.4)), float(rng.uniform(0.9, 1.2))
    curve = np.linspace(0, np.pi / 2, 11)
    profile = [(wide * float(np.sin(a)), high - high * float(np.cos(a))) for a in curve]
    neck = float(rng.uniform(0.7, 1.1))
    square = 0.98 * polygon(4, angles(HEXAGONAL))
    return [
        turned_mesh(profile, smooth=True),
        turned_mesh([(wide, high), (0.9, high)]),
        turned_mesh(
            [(1.0, high), (1.0, high + neck), (0.8, high + neck)], section=square, count=72
        ),
    ], high + neck


def _recess(sides: int, inradius: float, height: float, depth: float) -> list[Mesh]:
    """The walls and the floor of a socket that opens downwards."""
    outline = inradius * polygon(sides, angles(HEXAGONAL))
    heights = np.array([[height + depth], [height]])
    wall = rings(np.stack([outline, outline]), heights, angles(HEXAGONAL))
    shade = np.broadcast_to(np.array([[0.2], [0.6]]), (2, HEXAGONAL))
    floor = cap(outline, 0.0, height + depth, up=False)
    floor.shade[:] = 0.3
    return [patch(wall, shade=shade, closed=True, flat=True), floor]


def _cross(radius: float, height: float, depth: float) -> list[Mesh]:
    """A disc that faces down, with the recess of a cross-head screwdriver."""
    around, steps = angles(64), np.linspace(0, 1, 14)
    radii = (radius * steps)[:, None] * np.ones(64)
    x, y = radii * np.cos(around), radii * np.sin(around)
    across = np.minimum(np.abs(x), np.abs(y)) / (0.16 * radius)
    along = np.maximum(np.abs(x), np.abs(y)) / (0.85 * radius)
    inside = np.clip((1.15 - across) * 4, 0, 1) * np.clip((1 - along) * 2.5, 0, 1)
    points = rings(radii, height + depth * inside, around)
    return [patch(points, shade=1 - 0.8 * inside, closed=True)]


def nut(rng: Rng) -> Mesh:
    """A nut around z: hexagonal, thick or thin, square, flanged, or with a locking collar."""
    wide, high = float(rng.uniform(1.5, 1.95)), float(rng.uniform(0.8, 1.9))
    kind = rng.choice(["hexagon", "hexagon", "square", "flanged", "collar"])
    sides = 4 if kind == "square" else 6
    outline = wide * polygon(sides, angles(HEXAGONAL))
    flanged, collared = kind == "flanged", kind == "collar"
    both = bool(rng.random() < 0.7) and not flanged
    mouth = 1.0 + float(rng.uniform(0.08, 0.18))
    upper = sides == 6 or bool(rng.random() < 0.5)
    parts = [prism(sides, wide, 0, high, rounded=(both, upper))]
    top, cut = high, np.minimum(outline, wide * 0.97)
    if collared:
        neck, top = wide * 0.9, high + float(rng.uniform(0.35, 0.6))
        bend = np.linspace(0, np.pi / 2, 5)
        rounding = [
            (neck - 0.2 + 0.2 * float(np.cos(a)), top - 0.2 + 0.2 * float(np.sin(a))) for a in bend
        ]
        parts.append(cap(cut, neck, high, up=True))
        parts.append(turned_mesh([(neck, high), (neck, top - 0.2)]))
        parts.append(turned_mesh(rounding, smooth=True))
        parts.append(turned_mesh([(neck - 0.2, top), (mouth, top)]))
    else:
        parts.append(cap(cut if upper else outline, mouth, high, up=True))
    bottom = 0.0
    if flanged:
        skirt, bottom = wide * float(rng.uniform(1.3, 1.55)), -0.2
        parts.append(cap(skirt, mouth, bottom, up=False))
        parts.append(turned_mesh([(skirt, bottom), (skirt, 0.0), (wide, 0.35)]))
    else:
        parts.append(cap(cut if both else outline, mouth, 0.0, up=False))
    edge = mouth - 0.95
    pitch = float(rng.uniform(0.25, 0.4))
    parts.append(turned_mesh([(mouth, top), (0.95, top - edge)], shade=0.9))
    parts.append(turned_mesh([(0.95, bottom + edge), (mouth, bottom)], shade=0.9))
    depth = pitch * 0.5
    parts.append(thread(0.95, bottom + edge, top - edge, pitch=pitch, depth=depth, inward=True))
    return joined_meshes(parts)


def washer(rng: Rng) -> Mesh:
    """A washer around z: flat, wide, thick, dished, split as a spring, or toothed."""
    kind = rng.choice(["flat", "flat", "wide", "thick", "dished", "split", "toothed"])
    if kind == "split":
        return _split(rng)
    wide = float(rng.uniform(2.6, 3.6) if kind == "wide" else rng.uniform(1.65, 2.3))
    thick = float(rng.uniform(0.4, 0.7) if kind == "thick" else rng.uniform(0.1, 0.32))
    if kind == "toothed":
        return _toothed(rng, wide, thick)
    edge = 0.25 * thick
    rise = float(rng.uniform(0.3, 0.6)) if kind == "dished" else 0.0
    profile = [
        (1.0, rise), (wide - edge, 0.0), (wide, edge), (wide, thick - edge), (wide - edge, thick),
        (1.0 + edge, thick + rise), (1.0, thick + rise - edge), (1.0, rise),
    ]  # fmt: skip
    return turned_mesh(profile, count=64)


def _toothed(rng: Rng, wide: float, thick: float) -> Mesh:
    around, teeth = angles(CIRCLE * 4), int(rng.integers(8, 15))
    tooth = (np.cos(around * teeth) > 0).astype(float)
    outwards = rng.random() < 0.6
    outer = wide * (1 - 0.2 * tooth) if outwards else np.full_like(around, wide)
    inner = np.ones_like(around) if outwards else 1 + 0.25 * wide * tooth * 0.6
    twist = thick * 0.8 * np.sin(around * teeth)
    lows = np.zeros_like(around)
    radii = np.stack([inner, outer, outer, inner, inner])
    out = twist if outwards else lows
    within = lows if outwards else twist
    heights = np.stack([within, out, out + thick, within + thick, within])
    grid = rings(radii, heights, around)
    return joined_meshes([patch(grid[n : n + 2], closed=True, flat=True) for n in range(4)])


def _split(rng: Rng) -> Mesh:
    wide, high = float(rng.uniform(1.45, 1.8)), float(rng.uniform(0.3, 0.55))
    gap, rise = float(rng.uniform(0.12, 0.25)), float(rng.uniform(0.25, 0.6)) * high
    around = np.linspace(gap / 2, 2 * np.pi - gap / 2, CIRCLE + 1)
    climb = rise * around / (2 * np.pi)
    corners = [(1.0, 0.0), (wide, 0.0), (wide, high), (1.0, high), (1.0, 0.0)]
    radii = np.array([[radius] for radius, _ in corners]) * np.ones_like(around)
    grid = rings(radii, np.stack([height + climb for _, height in corners]), around)
    parts = [patch(grid[n : n + 2]) for n in range(4)]
    first, last = grid[:4, 0], grid[:4, -1]
    parts.append(patch(first[[0, 1, 3, 2]].reshape(2, 2, 3), flat=True))
    parts.append(patch(last[[0, 3, 1, 2]].reshape(2, 2, 3), flat=True))
    return joined_meshes(parts)

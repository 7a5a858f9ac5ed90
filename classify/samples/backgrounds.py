"""What parts lie on: a tile of wood, concrete, cloth, paper, metal and so on, of any colour."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from classify.samples.chance import Rng

TILE = 256


def background(rng: Rng) -> np.ndarray:
    """The (TILE, TILE, 3) float32 sRGB in [0, 1]."""
    kinds = (_wood, _concrete, _cloth, _plain, _metal, _gradient, _speckled, _tiles, _clutter)
    tile = kinds[rng.integers(len(kinds))](rng)
    return np.clip(tile, 0.02, 0.97).astype(np.float32)


def noise(rng: Rng, rows: int, columns: int) -> np.ndarray:
    """The (TILE, TILE) float32, smooth, about N(0, 0.7): rows x columns hills and hollows."""
    coarse = rng.normal(0, 1, (max(2, rows), max(2, columns))).astype(np.float32)
    resized = Image.fromarray(coarse).resize((TILE, TILE), Image.Resampling.BICUBIC)
    return np.asarray(resized)


def fine(rng: Rng, strength: float) -> np.ndarray:
    """The (TILE, TILE) float32, each pixel by itself, N(0, strength)."""
    return rng.standard_normal((TILE, TILE), np.float32) * np.float32(strength)


def clouds(rng: Rng) -> np.ndarray:
    """The (TILE, TILE) float32 with details of all sizes, about N(0, 0.7)."""
    return 0.6 * noise(rng, 4, 4) + 0.4 * noise(rng, 12, 12) + 0.3 * noise(rng, 40, 40)


def colour(rng: Rng, *, strong: float = 0.17) -> np.ndarray:
    """A colour, (3,), of any lightness and up to `strong` away from grey."""
    grey = float(rng.uniform(0.18, 0.85))
    return np.clip(grey + rng.uniform(-strong, strong, 3), 0.05, 0.95)


def _wood(rng: Rng) -> np.ndarray:
    base = np.array([0.62, 0.44, 0.27]) * float(rng.uniform(0.45, 1.35))
    planks, rows = int(rng.integers(1, 5)), np.arange(TILE)
    grain = 0.5 * noise(rng, 60, 3) + 0.5 * noise(rng, 200, 8)
    bend = noise(rng, 5, 3)
    lines = np.sin((rows[:, None] / TILE * 50 + 7 * bend) + 2 * noise(rng, 9, 4))
    light = 1 + 0.09 * lines + 0.1 * grain
    which = rows * planks // TILE
    light = light * rng.uniform(0.85, 1.12, planks)[which][:, None]
    gaps = np.flatnonzero(np.diff(which))
    light[gaps] *= 0.4
    light[gaps + 1] *= 0.6
    return base * light[..., None]


def _concrete(rng: Rng) -> np.ndarray:
    base = colour(rng, strong=0.05)
    pits = np.clip(noise(rng, 90, 90) - 1.3, 0, 1) * 0.5
    return base * (1 + 0.12 * clouds(rng) + fine(rng, 0.05) - pits)[..., None]


def _cloth(rng: Rng) -> np.ndarray:
    base, thread = colour(rng), int(rng.integers(3, 7))
    rows, columns = np.mgrid[:TILE, :TILE] * (2 * np.pi / thread)
    weave = np.sin(rows) * np.sin(columns) if rng.random() < 0.5 else np.sin(rows + columns)
    folds = noise(rng, int(rng.integers(2, 6)), int(rng.integers(2, 6)))
    light = 1 + 0.13 * weave + 0.12 * folds + fine(rng, 0.05)
    tile = base * light[..., None]
    if rng.random() < 0.4:  # checked
        other, wide = colour(rng), int(rng.integers(20, 60))
        checks = (np.arange(TILE) // wide % 2)[:, None] + (np.arange(TILE) // wide % 2)[None]
        tile = tile * (1 - 0.25 * checks[..., None]) + other * (0.25 * checks * light)[..., None]
    return tile


def _plain(rng: Rng) -> np.ndarray:
    base = colour(rng)
    tile = base * (1 + 0.02 * clouds(rng) + fine(rng, 0.012))[..., None]
    if rng.random() < 0.3:  # squared paper
        step = int(rng.integers(14, 30))
        tile[::step] *= 0.8
        tile[:, ::step] *= 0.8
    return tile


def _metal(rng: Rng) -> np.ndarray:
    base = colour(rng, strong=0.04)
    brushed = 0.07 * noise(rng, TILE, 4) + 0.05 * noise(rng, TILE, 20) + 0.12 * noise(rng, 2, 3)
    if rng.random() < 0.35:  # chequer plate
        rows, columns = np.mgrid[:TILE, :TILE] * (2 * np.pi / 32)
        ribs = np.maximum(np.sin(rows + columns) * np.sin(rows * 0.5), np.sin(rows - columns) * 0.7)
        brushed += 0.25 * np.clip(ribs - 0.55, 0, 1)
    return base * (1 + brushed)[..., None]


def _gradient(rng: Rng) -> np.ndarray:
    first, second = colour(rng, strong=0.35), colour(rng, strong=0.35)
    angle = rng.uniform(0, 2 * np.pi)
    rows, columns = np.mgrid[:TILE, :TILE] / TILE - 0.5
    share = np.clip(0.5 + np.cos(angle) * rows + np.sin(angle) * columns, 0, 1)[..., None]
    return first * share + second * (1 - share)


def _speckled(rng: Rng) -> np.ndarray:
    size = int(rng.integers(40, 160))
    base, first, second = colour(rng), colour(rng), colour(rng)
    tile = base * (1 + 0.05 * clouds(rng))[..., None]
    for chip in (first, second):
        tile[noise(rng, size, size) > 0.9] = chip
    return tile


def _tiles(rng: Rng) -> np.ndarray:
    base, joint = colour(rng), colour(rng, strong=0.05)
    high, wide = int(rng.integers(40, 110)), int(rng.integers(40, 150))
    rows, columns = np.mgrid[:TILE, :TILE]
    row = rows // high
    columns = columns + row % 2 * (wide // 2) * int(rng.integers(0, 2))
    lights = rng.uniform(0.85, 1.12, (TILE // 40 + 2, TILE // 20 + 2))
    tile = base * (lights[row, columns // wide] * (1 + 0.06 * clouds(rng)))[..., None]
    tile[(rows % high < 3) | (columns % wide < 3)] = joint
    return tile


def _clutter(rng: Rng) -> np.ndarray:
    """Things out of focus: discs, bars and sheets of any colour."""
    sheet = Image.new("RGB", (TILE, TILE), _byte(colour(rng)))
    draw = ImageDraw.Draw(sheet)
    for _ in range(int(rng.integers(10, 40))):
        x, y = rng.uniform(0, TILE, 2)
        a, b = rng.uniform(8, 70, 2)
        fill = _byte(colour(rng, strong=0.35))
        if rng.random() < 0.5:
            draw.ellipse((x - a, y - b, x + a, y + b), fill=fill)
        else:
            angle = rng.uniform(0, np.pi)
            along = a * np.array([np.cos(angle), np.sin(angle)])
            over = b * np.array([-np.sin(angle), np.cos(angle)])
            ends = [along + over, along - over, -along - over, over - along]
            draw.polygon([(x + float(e[0]), y + float(e[1])) for e in ends], fill=fill)
    blurred = sheet.filter(ImageFilter.GaussianBlur(float(rng.uniform(1, 8))))
    return np.asarray(blurred, np.float32) / 255 + fine(rng, 0.01)[..., None]


def _byte(value: np.ndarray) -> tuple[int, int, int]:
    red, green, blue = (int(part * 255) for part in value)
    return red, green, blue

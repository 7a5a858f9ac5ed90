"""Cement bags: a filled sack with printed sheets, its ends folded or sewn."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from classify.samples.cartons import stacked
from classify.samples.chance import Rng
from classify.samples.meshes import Mesh, joined_meshes, patch
from classify.samples.prints import CEMENT_WORDS, Colour, lines, paper, text

PAPERS: list[Colour] = [(196, 168, 128), (178, 146, 104), (222, 216, 204), (206, 200, 190)]
BRANDS: list[Colour] = [
    (190, 40, 34), (26, 84, 150), (28, 118, 70), (228, 178, 40), (222, 112, 30), (60, 62, 68),
    (120, 40, 110), (20, 130, 140),
]  # fmt: skip
BAG_COLUMNS, BAG_ROWS = 50, 34


def cement_bag(rng: Rng) -> tuple[Mesh, np.ndarray]:
    """A bag that lies on the ground, x along it and z up, and its texture: (h, w, 3) uint8."""
    width, height = float(rng.uniform(0.56, 0.78)), float(rng.uniform(0.17, 0.28))
    sewn = rng.random() < 0.4
    u, v = np.meshgrid(np.linspace(-1, 1, BAG_COLUMNS), np.linspace(-1, 1, BAG_ROWS))
    ends, sides = (float(rng.uniform(2.5, 4.0)), 3.0) if sewn else (9.0, float(rng.uniform(4, 6)))
    reach = np.clip(np.abs(u) / 0.93, 0, 1) if sewn else np.abs(u)
    fill = np.clip(1 - reach**ends, 0, 1) ** 0.55 * np.clip(1 - np.abs(v) ** sides, 0, 1) ** 0.5
    fill = fill * (1 + _lumps(rng, u, v))
    waist = width * (1 - 0.06 * (1 - u**2) * float(rng.uniform(0, 1)) - 0.05 * np.abs(u) ** 6)
    bend, twist = float(rng.uniform(-0.07, 0.07)), float(rng.uniform(-0.05, 0.05))
    lift = bend * u**2 + twist * u * v
    x, y = u + 0.02 * np.sin(3 * v + rng.uniform(0, 6)), v * waist
    creases = _wrinkles(rng, u, v)
    upper = height * fill + creases * np.minimum(1, fill * 2)
    lower = -height * 0.75 * np.clip(fill * 1.15, 0, 0.9)
    shade = np.clip(0.55 + fill, 0, 1)
    front = _printed(rng, width)
    uv = np.stack([(u + 1) / 2 * (front.width - 1), (1 - v) / 2 * (front.height - 1)], -1)
    top = patch(np.stack([x, y, lift + upper], -1), uv=uv, shade=shade)
    points = np.stack([x, y, lift + lower], -1)
    bottom = patch(points[::-1], uv=(uv * (-1, 1) + (front.width - 1, 0))[::-1], shade=shade[::-1])
    return joined_meshes([top, bottom]), stacked([front])


def _lumps(rng: Rng, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Uneven filling."""
    total = np.zeros_like(u)
    for _ in range(4):
        a, b, phase = rng.uniform(-3, 3), rng.uniform(-3, 3), rng.uniform(0, 6.3)
        total += 0.05 * np.sin(a * u + b * v + phase)
    return total


def _wrinkles(rng: Rng, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Creases that start at the ends and fade towards the middle, and a few across."""
    total = np.zeros_like(u)
    strength = float(rng.uniform(0.004, 0.014))
    for _ in range(5):
        waves, slant, phase = rng.uniform(5, 16), rng.uniform(-5, 5), rng.uniform(0, 6.3)
        near = np.exp(-((1 - np.abs(u)) / rng.uniform(0.1, 0.35)))
        total += strength * near * np.sin(waves * v + slant * u + phase)
    for _ in range(int(rng.integers(0, 4))):
        place, tilt = rng.uniform(-0.7, 0.7), rng.uniform(-0.8, 0.8)
        total -= 1.6 * strength * np.exp(-(((u - place - tilt * v) / 0.05) ** 2))
    return total


def _printed(rng: Rng, width: float) -> Image.Image:
    """One side of a bag: bands of the brand's colour, its name, the weight, small print."""
    w, h = 240, int(240 * width)
    sheet = paper(rng, w, h, PAPERS[rng.integers(len(PAPERS))])
    draw = ImageDraw.Draw(sheet)
    picks = rng.permutation(len(BRANDS))
    brand, second = BRANDS[picks[0]], BRANDS[picks[1]]
    layout = rng.choice(["ends", "middle", "panel", "stripes", "lengthwise"])
    field: tuple[float, float, float, float] = (w * 0.2, h * 0.18, w * 0.8, h * 0.58)
    ink = brand
    if layout == "ends":
        wide = w * float(rng.uniform(0.1, 0.2))
        draw.rectangle((0, 0, wide, h), fill=brand)
        draw.rectangle((w - wide, 0, w, h), fill=brand)
    elif layout == "middle":
        draw.rectangle((w * 0.22, 0, w * 0.78, h), fill=brand)
        draw.rectangle((w * 0.18, 0, w * 0.2, h), fill=second)
        draw.rectangle((w * 0.8, 0, w * 0.82, h), fill=second)
        ink, field = (240, 238, 230), (w * 0.26, h * 0.2, w * 0.74, h * 0.6)
    elif layout == "panel":
        draw.rectangle((w * 0.12, h * 0.14, w * 0.88, h * 0.62), fill=brand)
        ink = (244, 240, 226)
    elif layout == "stripes":
        for n in range(3):
            draw.rectangle((w * (0.06 + 0.05 * n), 0, w * (0.08 + 0.05 * n), h), fill=brand)
            draw.rectangle((w * (0.84 + 0.05 * n), 0, w * (0.86 + 0.05 * n), h), fill=second)
    else:
        draw.rectangle((0, h * 0.08, w, h * 0.22), fill=brand)
        draw.rectangle((0, h * 0.8, w, h * 0.9), fill=second)
        field = (w * 0.18, h * 0.3, w * 0.82, h * 0.58)
    text(draw, field, str(rng.choice(CEMENT_WORDS[:6])), ink)
    lines(rng, draw, (w * 0.25, h * 0.66, w * 0.55, h * 0.8), ink)
    text(draw, (w * 0.6, h * 0.64, w * 0.78, h * 0.8), str(rng.choice(CEMENT_WORDS[6:])), ink)
    if rng.random() < 0.5:
        x, r = w * float(rng.choice([0.15, 0.85])), h * 0.1
        draw.ellipse((x - r, h * 0.5 - r, x + r, h * 0.5 + r), fill=second, outline=(240, 240, 240))
    return sheet

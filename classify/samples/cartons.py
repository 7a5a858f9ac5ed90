"""Carton boxes: six printed faces, perhaps with open flaps."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from classify.samples.chance import Rng
from classify.samples.meshes import Mesh, joined_meshes, patch
from classify.samples.prints import CARTON_WORDS, INKS, Colour, arrows, label, lines, paper, text

Sheets = list[Image.Image]

KRAFT: list[Colour] = [(176, 134, 88), (196, 158, 112), (158, 116, 74), (186, 142, 100)]
OTHER: list[Colour] = [(222, 216, 204), (206, 180, 140), (128, 98, 70), (150, 156, 160)]
LONGEST_SIDE = 150  # pixels of the texture along the longest edge
FLUTES = 7


def carton(rng: Rng) -> tuple[Mesh, np.ndarray]:
    """A box that stands on the ground, z up, and its texture: (h, w, 3) uint8."""
    size = rng.uniform(0.45, 1.0, 3) * (1.0, 1.0, float(rng.uniform(0.35, 1.1)))
    size = size / size.max()
    scale = LONGEST_SIDE / size.max()
    palette = KRAFT if rng.random() < 0.75 else OTHER
    colour = palette[rng.integers(len(palette))]
    tape = _tape(rng)
    x, y, z = size
    opened = rng.random() < 0.22
    sheets: Sheets = []
    parts = []
    faces = _faces(x, y, z)
    inside = tuple(int(c * 0.8) for c in colour)
    mark = _Print(rng)
    for n, (corner, along, up) in enumerate(faces):
        wide, high = (max(8, int(np.abs(edge).max() * scale)) for edge in (along, up))
        lid = n == 5
        sheet = paper(
            rng, wide, high, (inside[0], inside[1], inside[2]) if lid and opened else colour
        )
        if n < 4:
            mark.side(sheet, n)
            _taped_side(sheet, tape if n % 2 == 1 else None)
        elif not opened:
            _taped_lid(rng, sheet, tape)
        if lid and opened:
            parts.append(
                _placed(_quad(corner - [0, 0, z * 0.96], along, up, shade=0.35), sheets, sheet)
            )
        else:
            bulge = float(rng.uniform(-0.01, 0.025))
            parts.append(_placed(_quad(corner, along, up, bulge=bulge), sheets, sheet))
    if opened:
        parts += _opening(rng, size, colour, sheets)
    return joined_meshes(parts), stacked(sheets)


def _faces(x: float, y: float, z: float) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Corner, edge along and edge up of front, right, back, left, bottom and top, from outside."""
    listed = [
        ((-x, -y, 0), (2 * x, 0, 0), (0, 0, 2 * z)),
        ((x, -y, 0), (0, 2 * y, 0), (0, 0, 2 * z)),
        ((x, y, 0), (-2 * x, 0, 0), (0, 0, 2 * z)),
        ((-x, y, 0), (0, -2 * y, 0), (0, 0, 2 * z)),
        ((-x, y, 0), (2 * x, 0, 0), (0, -2 * y, 0)),
        ((-x, -y, 2 * z), (2 * x, 0, 0), (0, 2 * y, 0)),
    ]
    return [(np.array(a) / 2, np.array(b) / 2, np.array(c) / 2) for a, b, c in listed]


def _quad(
    corner: np.ndarray,
    along: np.ndarray,
    up: np.ndarray,
    *,
    bulge: float = 0.0,
    shade: np.ndarray | float = 1.0,
) -> Mesh:
    """A sheet with uv from 0 to 1, the origin at its upper left as a picture has it."""
    steps = np.linspace(0, 1, FLUTES)
    u, v = np.meshgrid(steps, steps)
    points = corner + u[..., None] * along + v[..., None] * up
    out = np.cross(along, up)
    hill = 16 * u * (1 - u) * v * (1 - v) * bulge
    points = points + hill[..., None] * out / np.linalg.norm(out)
    return patch(points, uv=np.stack([u, 1 - v], -1), shade=shade)


def _placed(mesh: Mesh, sheets: Sheets, sheet: Image.Image) -> Mesh:
    """Give the mesh its place in the stack of sheets."""
    top = sum(other.height for other in sheets)
    sheets.append(sheet)
    mesh.uv[:] = mesh.uv * (sheet.width - 1, sheet.height - 1) + (0, top)
    return mesh


def stacked(sheets: Sheets) -> np.ndarray:
    """The sheets one below the other: (h, w, 3) uint8."""
    whole = Image.new("RGB", (max(s.width for s in sheets), sum(s.height for s in sheets)))
    top = 0
    for sheet in sheets:
        whole.paste(sheet, (0, top))
        top += sheet.height
    return np.asarray(whole)


def _opening(rng: Rng, size: np.ndarray, colour: Colour, sheets: Sheets) -> list[Mesh]:
    """The inner walls and four flaps, each with two sides."""
    x, y, z = size
    parts = []
    dark: Colour = (int(colour[0] * 0.85), int(colour[1] * 0.85), int(colour[2] * 0.85))
    deep = np.linspace(0.35, 0.8, FLUTES)[:, None] * np.ones(FLUTES)
    reach = min(x, y) * float(rng.uniform(0.35, 0.5))
    for corner, along, up in _faces(x, y, z)[:4]:
        wall = _quad(corner + along, -along, up, shade=deep)
        parts.append(_placed(wall, sheets, paper(rng, 60, 60, dark)))
        outwards = np.cross(along, up) / np.linalg.norm(np.cross(along, up))
        angle = float(rng.uniform(-1.2, 1.0))  # from upright: inwards below 0
        leaf = reach * (np.cos(angle) * np.array([0, 0, 1.0]) + np.sin(angle) * outwards)
        hinge = corner + up
        parts.append(_placed(_quad(hinge, along, leaf), sheets, paper(rng, 60, 30, colour)))
        back = _quad(hinge + along, -along, leaf, shade=0.9)
        parts.append(_placed(back, sheets, paper(rng, 60, 30, dark)))
    return parts


def _tape(rng: Rng) -> Colour | None:
    tapes: list[Colour] = [(200, 170, 120), (150, 104, 60), (225, 222, 214), (178, 150, 112)]
    return None if rng.random() < 0.2 else tapes[rng.integers(len(tapes))]


def _taped_lid(rng: Rng, sheet: Image.Image, tape: Colour | None) -> None:
    draw = ImageDraw.Draw(sheet)
    middle, half = sheet.height / 2, max(3.0, sheet.height * 0.07)
    draw.line((0, middle, sheet.width, middle), fill=(70, 50, 32), width=2)
    if tape:
        draw.rectangle((0, middle - half, sheet.width, middle + half), fill=tape)
        draw.line((0, middle, sheet.width, middle), fill=tuple(int(c * 0.85) for c in tape))
    if rng.random() < 0.35:
        x, y = rng.uniform(0.08, 0.5) * sheet.width, rng.uniform(0.08, 0.5) * sheet.height
        label(rng, draw, (x, y, x + sheet.width * 0.35, y + sheet.height * 0.3))


def _taped_side(sheet: Image.Image, tape: Colour | None) -> None:
    if tape:
        middle, half = sheet.width / 2, max(3.0, sheet.width * 0.07)
        area = (middle - half, 0, middle + half, sheet.height * 0.22)
        ImageDraw.Draw(sheet).rectangle(area, fill=tape)


class _Print:
    """What the sides of one box have printed on them, alike on opposite sides."""

    def __init__(self, rng: Rng) -> None:
        self._rng = rng
        self._ink = INKS[rng.integers(len(INKS))]
        kinds = ["none", "arrows", "label", "words", "band", "all"]
        self._kinds = [str(kind) for kind in rng.choice(kinds, 2)]
        self._words = str(rng.choice(CARTON_WORDS))

    def side(self, sheet: Image.Image, n: int) -> None:
        """Print on side n of 4."""
        rng, kind, draw = self._rng, self._kinds[n % 2], ImageDraw.Draw(sheet)
        w, h = sheet.size
        if kind == "band":
            draw.rectangle((0, h * 0.62, w, h * 0.85), fill=self._ink)
            text(draw, (w * 0.15, h * 0.65, w * 0.85, h * 0.82), self._words, (235, 230, 220))
        if kind in ("arrows", "all"):
            side = min(w, h) * 0.3
            arrows(draw, (w * 0.94 - side, h * 0.3, w * 0.94, h * 0.3 + side), self._ink)
        if kind in ("words", "all"):
            text(draw, (w * 0.08, h * 0.3, w * 0.62, h * 0.55), self._words, self._ink)
            lines(rng, draw, (w * 0.08, h * 0.65, w * 0.5, h * 0.85), self._ink)
        if kind == "label":
            x, y = rng.uniform(0.08, 0.4) * w, rng.uniform(0.25, 0.5) * h
            label(rng, draw, (x, y, x + w * 0.45, y + h * 0.42))

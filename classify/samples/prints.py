"""What is printed on cartons and bags: marks, labels and lines of text, drawn on a picture."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont, features

from classify.samples.chance import Rng

Colour = tuple[int, int, int]
Area = tuple[float, float, float, float]

INKS: list[Colour] = [(30, 30, 32), (150, 30, 28), (24, 60, 120), (20, 95, 60), (70, 45, 25)]
CARTON_WORDS = [
    "FRAGILE",
    "THIS SIDE UP",
    "KEEP DRY",
    "BOLTS M8",
    "SPARE PARTS",
    "24 PCS",
    "QTY 100",
]
CEMENT_WORDS = ["CEMENT", "PORTLAND", "ZEMENT", "CEM II", "MORTAR", "CIMENT", "25 kg", "50 kg"]


def paper(rng: Rng, width: int, height: int, colour: Colour) -> Image.Image:
    """A sheet of that colour with faint fibres and stains."""
    stains = rng.normal(0, 5, (max(2, height // 24), max(2, width // 24), 1))
    blurred = Image.fromarray(np.clip(stains[..., 0] * 4 + 128, 0, 255).astype(np.uint8))
    broad = np.asarray(blurred.resize((width, height), Image.Resampling.BICUBIC), np.float32)
    fine = rng.normal(0, 3, (height, width)).astype(np.float32)
    light = (broad - 128) / 4 + fine
    sheet = np.clip(np.array(colour, np.float32) + light[..., None], 0, 255)
    return Image.fromarray(sheet.astype(np.uint8))


def text(draw: ImageDraw.ImageDraw, area: Area, words: str, colour: Colour) -> None:
    """One line that fills the area's width, or its height if that is less."""
    left, top, right, bottom = area
    if right - left < 4 or bottom - top < 4:
        return
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont
    if features.check("freetype2"):
        wide = ImageFont.load_default(20).getlength(words)
        size = min((bottom - top) * 1.1, 20 * (right - left) / wide)
        font = ImageFont.load_default(max(4.0, size))
    else:
        font = ImageFont.load_default()
    middle = (left + right) / 2, (top + bottom) / 2
    box = draw.textbbox((0, 0), words, font=font)
    place = middle[0] - (box[0] + box[2]) / 2, middle[1] - (box[1] + box[3]) / 2
    draw.text(place, words, fill=colour, font=font)
    if text_size(box) > 14:  # bold
        draw.text((place[0] + 1, place[1]), words, fill=colour, font=font)


def text_size(box: tuple[float, float, float, float]) -> float:
    """Height of a box of (left, top, right, bottom)."""
    return box[3] - box[1]


def lines(rng: Rng, draw: ImageDraw.ImageDraw, area: Area, colour: Colour) -> None:
    """A block of small print: words as strokes."""
    left, top, right, bottom = area
    if bottom - top < 4 or right - left < 4:
        return
    step = max(4.0, (bottom - top) / int(rng.integers(3, 7)))
    for y in np.arange(top, bottom - step / 2, step):
        x = left
        while x < right - 3:
            end = min(right, x + float(rng.uniform(3, 14)))
            draw.rectangle((x, y, end, y + step * 0.4), fill=colour)
            x = end + 3


def label(rng: Rng, draw: ImageDraw.ImageDraw, area: Area) -> None:
    """A white sticker with small print and a bar code."""
    left, top, right, bottom = area
    draw.rectangle(area, fill=(236, 234, 228), outline=(200, 198, 190))
    if min(right - left, bottom - top) < 16:
        return
    middle = top + (bottom - top) * 0.5
    edge = min(right - left, bottom - top) * 0.1
    lines(rng, draw, (left + edge, top + edge, right - edge, middle), (60, 60, 60))
    x = int(left + edge)
    while x < right - edge - 1:
        wide = int(rng.integers(0, 3))
        draw.rectangle((x, middle + 1, x + wide, bottom - edge), fill=(25, 25, 25))
        x += wide + int(rng.integers(2, 5))


def arrows(draw: ImageDraw.ImageDraw, area: Area, colour: Colour) -> None:
    """Two arrows that point up, on a bar."""
    left, top, right, bottom = area
    wide, high = right - left, bottom - top
    draw.rectangle((left, bottom - high * 0.1, right, bottom), fill=colour)
    for middle in (left + wide * 0.25, left + wide * 0.75):
        stem = wide * 0.07
        draw.rectangle(
            (middle - stem, top + high * 0.3, middle + stem, bottom - high * 0.2), fill=colour
        )
        tips = [(middle - wide * 0.2, top + high * 0.4), (middle + wide * 0.2, top + high * 0.4)]
        draw.polygon([*tips, (middle, top)], fill=colour)

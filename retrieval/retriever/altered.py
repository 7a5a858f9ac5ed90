"""A picture as it may come back: cropped, saved again, mirrored in other light."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

SIDE_KEPT = 0.75  # of a crop
LOW_QUALITY, SCALE = 40, 0.5
BRIGHTER, CONTRAST = 1.25, 0.85


def altered(picture: Image.Image, random: np.random.Generator) -> list[Image.Image]:
    """Make three versions of an RGB picture: a crop, a small JPEG, a mirror image."""
    return [_crop(picture, random), _saved_again(picture), _mirrored(picture)]


def _crop(picture: Image.Image, random: np.random.Generator) -> Image.Image:
    width, height = (max(1, round(SIDE_KEPT * side)) for side in picture.size)
    left = int(random.integers(0, picture.width - width + 1))
    top = int(random.integers(0, picture.height - height + 1))
    return picture.crop((left, top, left + width, top + height))


def _saved_again(picture: Image.Image) -> Image.Image:
    size = tuple(max(1, round(SCALE * side)) for side in picture.size)
    stream = io.BytesIO()
    picture.resize((size[0], size[1])).save(stream, "JPEG", quality=LOW_QUALITY)
    with Image.open(stream, formats=["JPEG"]) as again:
        return again.convert("RGB")


def _mirrored(picture: Image.Image) -> Image.Image:
    brighter = ImageEnhance.Brightness(ImageOps.mirror(picture)).enhance(BRIGHTER)
    return ImageEnhance.Contrast(brighter).enhance(CONTRAST)

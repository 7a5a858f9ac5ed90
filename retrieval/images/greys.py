"""Samples of more than 8 bits -> 8 bits: scaled by what is white, not cut off.

What is white the file says; else it is the top of the smallest usual depth (8, 10, 12, 14 or 16
bits) that holds the largest sample: cameras and scanners keep 12 bits in files of 16.
"""

from collections.abc import Iterator

import numpy as np
from PIL import Image

STRIP_PIXELS = 1 << 20
_USUAL_DEPTHS = (8, 10, 12, 14, 16)


def is_deep(image: Image.Image) -> bool:
    """Tell whether an image has one channel of more than 8 bits."""
    return image.mode in ("I", "F") or image.mode.startswith("I;")


def to_8_bits(
    image: Image.Image,
    white: float | None = None,
    *,
    inverted: bool = False,
    unsigned: bool = False,
) -> Image.Image:
    """Convert grey of 16 or 32 bits or float to L. inverted: 0 is white, the largest sample black.

    unsigned: what looks like a negative sample of 32 bits is a large one.
    Integers beyond 16 bits: the largest one becomes white. Floats are [0, 1] unless one is larger,
    then 0 to 255, then as integers. What is not finite counts as 0.
    """
    if white is None:
        strips = _strips(image, unsigned=unsigned)
        brightest = max((float(strip.max()) for _, strip in strips), default=0.0)
        white = _white(brightest, is_float=image.mode == "F")
    grey = Image.new("L", image.size)
    for top, strip in _strips(image, unsigned=unsigned):
        scaled = np.clip(strip.astype(np.float32) * np.float32(255 / white), 0, 255)
        rows = np.rint(255 - scaled if inverted else scaled).astype(np.uint8)
        grey.paste(Image.fromarray(rows), (0, top))
    return grey


def white_of(brightest: float) -> float:
    """Return the top of the smallest usual depth that holds a sample."""
    return next(
        (float((1 << n) - 1) for n in _USUAL_DEPTHS if brightest <= (1 << n) - 1), brightest
    )


def join_bytes(high: Image.Image, low: Image.Image, white: float) -> Image.Image:
    """Join images of the high and low bytes of 16-bit colours to one of 8 bits.

    What is opaque may be white's sample, or that of 16 bits.
    """
    joined = Image.new(high.mode, high.size)
    whites = np.full(len(high.getbands()), white, np.float32)
    if "A" in high.getbands() and 256 * _top(high.getchannel("A")) > white:
        whites[-1] = 65535
    for (top, upper), (_, lower) in zip(_strips(high), _strips(low), strict=True):
        values = upper.astype(np.float32) * 256 + lower
        rows = np.rint(np.clip(values * (255 / whites), 0, 255)).astype(np.uint8)
        joined.paste(Image.fromarray(rows, high.mode), (0, top))
    return joined


def brightest_colour(image: Image.Image) -> int:
    """Return the largest level of any channel but transparency."""
    colours = [band for band in image.getbands() if band != "A"]
    return max(_top(image.getchannel(band)) for band in colours)


def _top(band: Image.Image) -> int:
    return int(band.getextrema()[1])  # type: ignore[arg-type]


def _white(brightest: float, *, is_float: bool) -> float:
    if is_float and brightest <= 1:
        return 1.0
    return white_of(brightest)


def _strips(image: Image.Image, *, unsigned: bool = False) -> Iterator[tuple[int, np.ndarray]]:
    """The top and the samples of strips of a picture, from above; memory is that of one strip."""
    rows = max(1, STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        box = (0, top, image.width, min(image.height, top + rows))
        strip = np.asarray(image.crop(box))
        if strip.dtype.kind == "f":
            strip = np.nan_to_num(strip, posinf=0.0, neginf=0.0)
        elif unsigned and strip.dtype == np.int32:
            strip = strip.view(np.uint32)
        yield top, strip

"""An image -> an upright 8-bit RGB picture -> the square pixels that a backbone is fed.

A JPEG is decoded at the smallest of its scales (1, 1/2, 1/4, 1/8) that leaves twice the pixels that
are needed. Pillow then resizes it with antialiasing. So embeddings stay what they were, and a
photograph takes a fraction of the time. Grey stays grey and a profile waits until a picture is
small: both cost less so.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
from PIL import Image

from retrieval.errors import ImageError
from retrieval.images.budget import process_budget
from retrieval.images.facts import PictureFacts
from retrieval.images.jpeg import JpegFile
from retrieval.images.opened import Opened, decoder_errors_as_image_errors
from retrieval.images.perceptual import GRID, perceptual_hash
from retrieval.images.sources import Source, open_source
from retrieval.images.upright import load_pixels
from retrieval.words import DEFAULT_FIT, DEFAULT_MAX_PIXELS, FITS, Fit

_Box = tuple[float, float, float, float]  # left, top, right, bottom

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "hamming": Image.Resampling.HAMMING,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_MARGIN = 2  # a reduced JPEG has at least so many times the pixels needed along each side


@dataclass(frozen=True)
class Preprocessing:
    """How a backbone wants its images.

    size: side of the square it is fed, pixels. mean, std: of its training images, [0, 1] units.
    interpolation: as timm names it. fit: "squash" stretches the picture to the square. "crop" cuts
    the middle out after resizing the short side to size / crop_pct, as timm and torchvision
    evaluate. "pad" keeps all of it on a ground of the mean colour. Raises ValueError.
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str = "bicubic"
    fit: Fit = DEFAULT_FIT
    crop_pct: float = 1.0

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size must be 1 or more, not {self.size}")
        if self.interpolation not in _FILTERS:
            raise ValueError(
                f"interpolation is {self.interpolation!r}, not one of {list(_FILTERS)}"
            )
        if self.fit not in FITS:
            raise ValueError(f"fit is {self.fit!r}, not one of {', '.join(FITS)}")
        if not 0 < self.crop_pct <= 1:
            raise ValueError(f"crop_pct must be above 0 and at most 1, not {self.crop_pct}")


@dataclass(frozen=True)
class Decoded:
    """The input pixels of one image.

    pixels: (size, size, 3) uint8 RGB, contiguous. width, height: of the whole upright picture.
    facts: what its file tells.
    """

    pixels: np.ndarray
    width: int
    height: int
    facts: PictureFacts = field(default_factory=PictureFacts)


@dataclass(frozen=True)
class _Upright:
    """An upright picture of mode RGB, L or CMYK, perhaps decoded smaller than it is.

    box: what of it the whole image fills. width, height: of the whole image. finish: makes it, or
    what was resized of it, RGB.
    """

    image: Image.Image
    box: _Box
    width: int
    height: int
    facts: PictureFacts
    finish: Callable[[Image.Image], Image.Image]


def decode(
    source: Source,
    preprocessing: Preprocessing,
    *,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    crop: tuple[int, int, int, int] | None = None,
) -> Decoded:
    """Decode an image to the pixels that a backbone is fed.

    crop: x, y, width, height of the only region to use, in pixels of the upright picture. Raises
    ImageError with the reason when the image cannot be used or the region is not inside it.
    """

    def reduction(width: int, height: int) -> int:
        return _reduction(*_region(crop, width, height)[2:], preprocessing)

    with _upright(source, max_pixels, reduction) as picture:
        region = _region(crop, picture.width, picture.height)
        box, full = _part(picture, region), region[2:]
        square = _fit(picture.image, box, full, preprocessing, picture.finish)
        facts = picture.facts
        if crop is None:
            is_whole = preprocessing.fit == "squash" and preprocessing.size >= GRID
            whole = square if is_whole else _small(picture)
            facts = replace(facts, perceptual=perceptual_hash(whole))
        return Decoded(np.array(square), picture.width, picture.height, facts)


def open_image(
    source: Source, *, target: int | None = None, max_pixels: int = DEFAULT_MAX_PIXELS
) -> tuple[Image.Image, int, int]:
    """Open an image as an upright 8-bit RGB picture, and tell its full upright width and height.

    source: see `open_source`. With target, a JPEG may come smaller, its sides still 2 * target or
    more. Raises ImageError with the reason.
    """

    def reduction(width: int, height: int) -> int:
        return min(width, height) // (_MARGIN * target) if target else 1

    with _upright(source, max_pixels, reduction) as picture:
        return picture.finish(picture.image), picture.width, picture.height


def thumbnail(
    source: Source, longest: int = 160, *, max_pixels: int = DEFAULT_MAX_PIXELS
) -> Image.Image:
    """Make a small upright RGB picture, at most `longest` pixels long. Raises ImageError."""

    def reduction(width: int, height: int) -> int:
        return max(width, height) // (_MARGIN * longest)

    with _upright(source, max_pixels, reduction) as picture:
        width, height = picture.width, picture.height
        scale = min(1.0, longest / max(width, height))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        return picture.finish(picture.image.resize(size, Image.Resampling.BICUBIC, picture.box))


def fit_square(image: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    """Resize an RGB picture to the square that a backbone is fed."""
    return _fit(image, (0, 0, *image.size), image.size, preprocessing, lambda small: small)


@contextmanager
def _upright(
    source: Source, max_pixels: int, reduction: Callable[[int, int], int]
) -> Iterator[_Upright]:
    """Decode, at a scale of 1 / reduction(width, height) or larger, and turn upright.

    The memory for it is held while the picture is in use. Where a side is no multiple of the scale,
    a JPEG's last pixels lie partly outside of the image.
    """
    with decoder_errors_as_image_errors():
        opened = open_source(source, max_pixels)
        width, height = opened.size
        scale = _draft(opened, reduction)
        with process_budget().holding(opened.bytes_needed()):
            loaded = load_pixels(opened)
            image = loaded.image
            if not isinstance(opened.image, JpegFile):  # its size may show only when it is decoded
                width, height = image.size
            turn = opened.orientation
            left = image.width - width / scale if turn in (2, 3, 6, 7) else 0.0
            top = image.height - height / scale if turn in (3, 4, 7, 8) else 0.0
            box = (left, top, left + width / scale, top + height / scale)
            yield _Upright(image, box, width, height, loaded.facts, loaded.finish)


def _small(picture: _Upright) -> Image.Image:
    """The whole picture, squashed, for its hash."""
    small = picture.image.resize(
        (GRID, GRID), Image.Resampling.BILINEAR, picture.box, reducing_gap=2.0
    )
    return picture.finish(small)


def _draft(opened: Opened, reduction: Callable[[int, int], int]) -> int:
    """Let a JPEG be decoded smaller; returns how many times."""
    image = opened.image
    if not isinstance(image, JpegFile):
        return 1
    most = min(reduction(*opened.size), *image.size)
    wanted = next(step for step in (8, 4, 2, 1) if step <= max(most, 1))
    # No mode: the draft may change the scale only, a grey or CMYK JPEG stays what it is.
    if image.draft(None, (image.width // wanted, image.height // wanted)):
        return wanted
    return 1  # a JPEG that open_image gave out is decoded already


def _reduction(width: int, height: int, preprocessing: Preprocessing) -> int:
    """Tell how many times smaller a picture may be and still have enough pixels to fit."""
    if preprocessing.fit == "pad":
        return max(width, height) // (_MARGIN * preprocessing.size)
    return min(width, height) // (_MARGIN * _short_side(preprocessing))


def _short_side(preprocessing: Preprocessing) -> int:
    if preprocessing.fit != "crop":
        return preprocessing.size
    return math.floor(preprocessing.size / preprocessing.crop_pct)  # timm rounds down


def _fit(
    image: Image.Image,
    box: _Box,
    full: tuple[int, int],
    preprocessing: Preprocessing,
    finish: Callable[[Image.Image], Image.Image],
) -> Image.Image:
    """Resize the box of a picture to the square; full: its (width, height) at full scale."""
    size, resample = preprocessing.size, _FILTERS[preprocessing.interpolation]
    if preprocessing.fit == "squash":
        return finish(image.resize((size, size), resample, box))
    if preprocessing.fit == "crop":
        middle = _middle(box, full, preprocessing)
        return finish(image.resize((size, size), resample, middle))
    scale = size / max(full)
    inner = max(1, round(full[0] * scale)), max(1, round(full[1] * scale))
    mean = [round(255 * channel) for channel in preprocessing.mean]
    ground = Image.new("RGB", (size, size), (mean[0], mean[1], mean[2]))
    place = ((size - inner[0]) // 2, (size - inner[1]) // 2)
    ground.paste(finish(image.resize(inner, resample, box)), place)
    return ground


def _middle(box: _Box, full: tuple[int, int], preprocessing: Preprocessing) -> _Box:
    """The part of box that torchvision's Resize and CenterCrop leave, with their rounding."""
    width, height = full
    size, short = preprocessing.size, _short_side(preprocessing)
    scaled_width = short if width <= height else int(short * width / height)
    scaled_height = short if height <= width else int(short * height / width)
    left, top = round((scaled_width - size) / 2), round((scaled_height - size) / 2)
    x, y = (box[2] - box[0]) / scaled_width, (box[3] - box[1]) / scaled_height
    right, bottom = min(box[2], box[0] + (left + size) * x), min(box[3], box[1] + (top + size) * y)
    return box[0] + left * x, box[1] + top * y, right, bottom


def _region(
    crop: tuple[int, int, int, int] | None, width: int, height: int
) -> tuple[int, int, int, int]:
    """The crop, checked, or the whole of a picture of this size: x, y, width, height."""
    if crop is None:
        return 0, 0, width, height
    x, y, w, h = crop
    inside = x >= 0 and y >= 0 and x + w <= width and y + h <= height
    if not inside or w < 1 or h < 1:
        raise ImageError(
            f"the region {x},{y},{w},{h} is not inside the picture, "
            f"which is {width} x {height} pixels; give a smaller region"
        )
    return crop


def _part(picture: _Upright, region: tuple[int, int, int, int]) -> _Box:
    """Where a region of the full picture lies in the decoded one."""
    whole = picture.box
    x, y = (whole[2] - whole[0]) / picture.width, (whole[3] - whole[1]) / picture.height
    left, top = whole[0] + region[0] * x, whole[1] + region[1] * y
    return left, top, min(whole[2], left + region[2] * x), min(whole[3], top + region[3] * y)

"""An image -> an upright 8-bit RGB picture -> the square pixels that a backbone is fed.

A JPEG is decoded at the smallest of its scales (1, 1/2, 1/4, 1/8) that leaves twice the pixels that
are needed, and then resized by Pillow with antialiasing: embeddings stay what they were, and a
photograph takes a fraction of the time.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from retrieval.errors import ImageError
from retrieval.images.facts import PictureFacts
from retrieval.images.formats import (
    JpegFile,
    decoder_errors_as_image_errors,
    open_lazily,
    orientation,
    read_bytes,
)

DEFAULT_MAX_PIXELS = 200_000_000

Source = bytes | Path | Image.Image | np.ndarray
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
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Preprocessing:
    """How a backbone wants its images.

    size: side of the square it is fed, pixels. mean, std: of its training images, [0, 1] units.
    interpolation: as timm names it. fit: "squash" stretches the picture to the square, "crop" cuts
    the middle out after resizing the short side to size / crop_pct (timm's and torchvision's eval
    transform), "pad" keeps all of it on a ground of the mean colour. Raises ValueError.
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str = "bicubic"
    fit: Literal["squash", "crop", "pad"] = "squash"
    crop_pct: float = 1.0

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size must be 1 or more, not {self.size}")
        if self.interpolation not in _FILTERS:
            raise ValueError(f"interpolation {self.interpolation!r}: use one of {list(_FILTERS)}")
        if self.fit not in ("squash", "crop", "pad"):
            raise ValueError(f"fit {self.fit!r}: use squash, crop or pad")
        if not 0 < self.crop_pct <= 1:
            raise ValueError(f"crop_pct must be above 0 and at most 1, not {self.crop_pct}")


@dataclass(frozen=True)
class Decoded:
    """What a backbone is fed of one image.

    pixels: (size, size, 3) uint8 RGB, contiguous. width, height: of the whole upright picture.
    facts: what its file tells.
    """

    pixels: np.ndarray
    width: int
    height: int
    facts: PictureFacts = field(default_factory=PictureFacts)


@dataclass(frozen=True)
class _Opened:
    """An image whose pixels may still wait, and its upright width and height."""

    image: Image.Image
    orientation: int
    width: int
    height: int


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
    with decoder_errors_as_image_errors():
        opened = _open(source, max_pixels)
        region = _region(crop, opened)
        image, whole = _upright(opened, _reduction(region[2], region[3], preprocessing))
        square = _fit(image, _part(whole, opened, region), region[2:], preprocessing)
        facts = PictureFacts(format=opened.image.format or "")
        return Decoded(np.array(square), opened.width, opened.height, facts)


def open_image(
    source: Source, *, target: int | None = None, max_pixels: int = DEFAULT_MAX_PIXELS
) -> tuple[Image.Image, int, int]:
    """Open an image as an upright 8-bit RGB picture, and tell its full upright width and height.

    source: an encoded image, a path to one, or a picture: a PIL image or a uint8 array (h, w, 3)
    RGB or (h, w) grey. With target, a JPEG may come smaller, its sides still 2 * target or more.
    Raises ImageError with the reason.
    """
    with decoder_errors_as_image_errors():
        opened = _open(source, max_pixels)
        shorter = min(opened.width, opened.height)
        image, _ = _upright(opened, shorter // (_MARGIN * target) if target else 1)
        return image, opened.width, opened.height


def thumbnail(
    source: Source, longest: int = 160, *, max_pixels: int = DEFAULT_MAX_PIXELS
) -> Image.Image:
    """Small upright RGB picture, its longer side at most `longest` pixels. Raises ImageError."""
    with decoder_errors_as_image_errors():
        opened = _open(source, max_pixels)
        longer = max(opened.width, opened.height)
        image, whole = _upright(opened, longer // (_MARGIN * longest))
        scale = min(1.0, longest / longer)
        size = max(1, round(opened.width * scale)), max(1, round(opened.height * scale))
        return image.resize(size, Image.Resampling.BICUBIC, whole)


def fit_square(image: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    """Resize an RGB picture to the square that a backbone is fed."""
    return _fit(image, (0, 0, *image.size), image.size, preprocessing)


def _open(source: Source, max_pixels: int) -> _Opened:
    if isinstance(source, np.ndarray):
        source = _from_array(source)
    if isinstance(source, Image.Image):
        return _Opened(source, 1, *source.size)
    image = open_lazily(source if isinstance(source, bytes) else read_bytes(source)[0], max_pixels)
    if not isinstance(image, JpegFile):
        image.load()  # a PNG may carry its EXIF behind its pixels
    turn = orientation(image)
    return _Opened(image, turn, *(image.size[::-1] if turn >= 5 else image.size))


def _upright(opened: _Opened, reduction: int) -> tuple[Image.Image, _Box]:
    """Decode, at a scale of 1 / reduction or larger, and turn upright.

    Returns the picture and the box in it that the whole image fills: where a side is no multiple of
    the scale, JPEG's last pixels lie partly outside of the image.
    """
    image, scale = opened.image, 1
    if isinstance(image, JpegFile):
        reduction = min(reduction, *image.size)
        wanted = next(step for step in (8, 4, 2, 1) if step <= max(reduction, 1))
        # No mode: the draft may change the scale only, a grey or CMYK JPEG stays what it is.
        if image.draft(None, (image.width // wanted, image.height // wanted)):
            scale = wanted  # a JPEG that open_image gave out is decoded already
    upright = _rgb(image)
    if opened.orientation in _TURNS:
        upright = upright.transpose(_TURNS[opened.orientation])
    width, height = opened.width / scale, opened.height / scale
    left = upright.width - width if opened.orientation in (2, 3, 6, 7) else 0.0
    top = upright.height - height if opened.orientation in (3, 4, 7, 8) else 0.0
    return upright, (left, top, left + width, top + height)


def _reduction(width: int, height: int, preprocessing: Preprocessing) -> int:
    """How many times smaller a picture may be and still have the pixels that fitting needs."""
    if preprocessing.fit == "pad":
        return max(width, height) // (_MARGIN * preprocessing.size)
    return min(width, height) // (_MARGIN * _short_side(preprocessing))


def _short_side(preprocessing: Preprocessing) -> int:
    if preprocessing.fit != "crop":
        return preprocessing.size
    return math.floor(preprocessing.size / preprocessing.crop_pct)  # timm rounds down


def _fit(
    image: Image.Image, box: _Box, full: tuple[int, int], preprocessing: Preprocessing
) -> Image.Image:
    """Resize the box of an RGB picture to the square; full: its (width, height) at full scale."""
    size, resample = preprocessing.size, _FILTERS[preprocessing.interpolation]
    if preprocessing.fit == "squash":
        return image.resize((size, size), resample, box)
    if preprocessing.fit == "crop":
        return image.resize((size, size), resample, _middle(box, full, preprocessing))
    scale = size / max(full)
    inner = max(1, round(full[0] * scale)), max(1, round(full[1] * scale))
    mean = [round(255 * channel) for channel in preprocessing.mean]
    ground = Image.new("RGB", (size, size), (mean[0], mean[1], mean[2]))
    ground.paste(
        image.resize(inner, resample, box), ((size - inner[0]) // 2, (size - inner[1]) // 2)
    )
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


def _region(crop: tuple[int, int, int, int] | None, opened: _Opened) -> tuple[int, int, int, int]:
    """The crop, checked, or the whole picture: x, y, width, height."""
    if crop is None:
        return 0, 0, opened.width, opened.height
    x, y, width, height = crop
    inside = x >= 0 and y >= 0 and x + width <= opened.width and y + height <= opened.height
    if not inside or width < 1 or height < 1:
        raise ImageError(
            f"the region {x},{y},{width},{height} is not inside the picture, "
            f"which is {opened.width} x {opened.height} pixels"
        )
    return crop


def _part(whole: _Box, opened: _Opened, region: tuple[int, int, int, int]) -> _Box:
    """Where a region of the full picture lies in a decoded one that fills the box `whole`."""
    x, y = (whole[2] - whole[0]) / opened.width, (whole[3] - whole[1]) / opened.height
    left, top = whole[0] + region[0] * x, whole[1] + region[1] * y
    return left, top, min(whole[2], left + region[2] * x), min(whole[3], top + region[3] * y)


def _rgb(image: Image.Image) -> Image.Image:
    """Any mode to 8-bit RGB; what is transparent lies on white."""
    if image.mode == "RGB" and "transparency" not in image.info:
        image.load()
        return image
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        return _grey(image).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    # By way of RGBA: Pillow warns when a palette with transparency becomes RGB directly.
    rgba = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
    white = Image.new("RGB", image.size, "white")
    white.paste(rgba, mask=rgba)
    return white


def _grey(image: Image.Image) -> Image.Image:
    """Grey of 16 or 32 bits or float to 8 bits: scaled, not cut off.

    Integers are taken as 16 bits unless one is larger, then that one becomes white; floats as
    [0, 1] unless one is larger, then as 0 to 255.
    """
    values = np.nan_to_num(np.asarray(image, dtype=np.float32))
    brightest = float(values.max())
    white = max(brightest, 65535.0)
    if image.mode == "F":
        white = 1.0 if brightest <= 1 else 255.0
    grey = np.rint(np.clip(values * (255 / white), 0, 255))
    return Image.fromarray(grey.astype(np.uint8))


def _from_array(array: np.ndarray) -> Image.Image:
    shaped = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)
    if array.dtype != np.uint8 or not shaped or not array.size:
        raise ImageError(
            f"an array of shape {array.shape} and type {array.dtype} is no picture; "
            "give (height, width, 3) RGB or (height, width) grey, uint8"
        )
    return Image.fromarray(np.ascontiguousarray(array))

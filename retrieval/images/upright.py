"""An opened picture -> decoded, flat, upright; the same choices for embeddings and thumbnails."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import IO

from PIL import AvifImagePlugin, GifImagePlugin, Image, PngImagePlugin, WebPImagePlugin

from retrieval.errors import ImageError
from retrieval.images import colour, greys
from retrieval.images.animation import later_frames
from retrieval.images.facts import PictureFacts
from retrieval.images.jpeg import MAY_LACK, JpegFile, is_complete_enough
from retrieval.images.opened import Opened
from retrieval.images.orientation import TURNS

_ANIMATED: dict[str, Callable[[IO[bytes], str], Image.Image]] = {
    "GIF": GifImagePlugin.GifImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "AVIF": AvifImagePlugin.AvifImageFile,
}


@dataclass(frozen=True)
class LoadedPicture:
    """A decoded picture of mode RGB, L or CMYK, upright; finish: makes it, or a part, sRGB."""

    image: Image.Image
    facts: PictureFacts
    finish: Callable[[Image.Image], Image.Image]


def load_pixels(opened: Opened) -> LoadedPicture:
    """Decode a picture whole. Raises ImageError, and what decoders raise."""
    image = opened.image
    image.load()
    note = _what_it_lacks(opened)
    alpha = colour.is_clear_somewhere(image)
    flat = _flat(opened, image)
    if opened.animated and colour.is_one_colour(flat):
        flat = _first_that_shows(opened) or flat
    if opened.orientation in TURNS:
        flat = flat.transpose(TURNS[opened.orientation])
    if opened.is_file or flat is not image:
        flat.info = {}  # its orientation and profile are used up
    name = colour.name_of(opened.profile)
    facts = PictureFacts(opened.format, opened.frames, opened.depth, alpha, name, note)
    return LoadedPicture(flat, facts, partial(_finish, profile=opened.profile, gamma=opened.gamma))


def _flat(opened: Opened, image: Image.Image) -> Image.Image:
    """A decoded image as RGB, L, or CMYK with a profile that counts; what is clear has a ground."""
    if opened.low is not None:
        image = _of_16_bits(opened, opened.low, image)
    if image.mode in ("RGB", "L") and "transparency" not in image.info:
        return image
    if greys.is_deep(image):
        return greys.to_8_bits(
            image, opened.white, inverted=opened.inverted, unsigned=opened.unsigned
        )
    if image.has_transparency_data:
        return colour.on_ground(image)
    if image.mode == "CMYK" and colour.to_srgb(opened.profile) is not None:
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _of_16_bits(
    opened: Opened, open_low: Callable[[], Image.Image], high: Image.Image
) -> Image.Image:
    """Colours of 16 bits whose high bytes are decoded, as 8 bits: cameras use 12 or 14 of them."""
    brightest = greys.brightest_colour(high)
    white = opened.white or greys.white_of(256 * brightest + 255)
    if white >= 65535 or (not brightest and not opened.white):
        return high
    low = open_low()
    return greys.join_bytes(high, low, white)


def _first_that_shows(opened: Opened) -> Image.Image | None:
    """The first later frame that is not of one colour."""
    plugin = _ANIMATED[opened.format]
    for frame in later_frames(lambda: plugin(io.BytesIO(opened.animated), ""), opened.frames):
        flat = _flat(opened, frame)
        if not colour.is_one_colour(flat):
            return flat.copy()
    return None


def _finish(image: Image.Image, profile: bytes, gamma: float | None) -> Image.Image:
    if profile:
        image = colour.apply_profile(image, profile)
    elif gamma is not None:
        image = colour.by_gamma(image, gamma)
    return image if image.mode == "RGB" else image.convert("RGB")


def _what_it_lacks(opened: Opened) -> str | None:
    """A remark on a JPEG whose file ended early. Raises ImageError when too much is missing."""
    image = opened.image
    if not isinstance(image, JpegFile) or not image.ended_early:
        return None
    if opened.scans is not None:
        if not is_complete_enough(image, opened.scans):
            raise ImageError("truncated (its first scans are not all there)")
        return "lacks its last scans"
    share = image.lacking()
    if share > MAY_LACK:
        raise ImageError(f"truncated (more than {MAY_LACK:.0%} of its rows are missing)")
    return f"lacks its last {max(1, round(100 * share))} % of rows" if share else "lacks its end"

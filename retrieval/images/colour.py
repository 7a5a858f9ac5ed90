"""Colours -> sRGB: profiles that change a picture visibly, and the ground below what is clear.

Most profiles are sRGB under one of its many names; to find that out once a profile, a grid of
colours goes through it. Applying one that is not is cheap after resizing, where pixels are few.
"""

import hashlib
import io
from collections.abc import Iterator
from functools import lru_cache

from PIL import Image, ImageCms

from retrieval.images.greys import STRIP_PIXELS

PLAIN_LEVELS = 8  # of 255: a profile that moves no colour of the grid by more is as good as sRGB
VISIBLE = 16  # levels of brightness by which a pixel stands out from the ground
LEAST_CHANGE = 0.001  # share of the pixels that have to stand out
_MODES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}


@lru_cache(maxsize=32)
def to_srgb(profile: bytes) -> ImageCms.ImageCmsTransform | None:
    """Return the transform from a profile to sRGB; None if it changes nothing or is broken."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = _MODES[source.profile.xcolor_space]
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
        grid = _grid(mode)
        moved = ImageCms.applyTransform(grid, transform)
    except (ImageCms.PyCMSError, KeyError, OSError, ValueError, TypeError):
        return None
    if moved is None:
        return None
    pairs = zip(moved.tobytes(), grid.convert("RGB").tobytes(), strict=True)
    return None if max(abs(a - b) for a, b in pairs) <= PLAIN_LEVELS else transform


def apply_profile(image: Image.Image, profile: bytes) -> Image.Image:
    """Convert an RGB, L or CMYK image to sRGB by its profile, if that changes anything."""
    transform = to_srgb(profile)
    if transform is None:
        return image
    if transform.input_mode == "RGB" and image.mode == "L":
        image = image.convert("RGB")
    if transform.input_mode == "L" and image.mode == "RGB":  # grey that lay on a ground
        red, green, blue = image.split()
        image = red if red == green == blue else image
    if transform.input_mode != image.mode:
        return image
    applied = ImageCms.applyTransform(image, transform)
    return image if applied is None else applied


def name_of(profile: bytes) -> str:
    """Return 16 hex digits of a profile's SHA-256; "" if there is none or it is like sRGB."""
    if not profile or to_srgb(profile) is None:
        return ""
    return hashlib.sha256(profile).hexdigest()[:16]


def by_gamma(image: Image.Image, gamma: float) -> Image.Image:
    """Convert an RGB or L image to sRGB by its encoding exponent (PNG's gAMA)."""
    levels = [_srgb((level / 255) ** (1 / gamma)) for level in range(256)]
    return image.point(levels * len(image.getbands()))


def changes_visibly(gamma: float) -> bool:
    """Tell whether an encoding exponent is plausible and differs from sRGB's 1 / 2.2."""
    return 0.1 <= gamma <= 10 and not 0.36 <= gamma <= 0.56


def on_ground(image: Image.Image) -> Image.Image:
    """Put a picture with transparency on white, or on black if nothing would show on white."""
    picture = _composed(image, "white")
    if _stands_out(picture, 255):
        return picture
    del picture  # one at a time: they are as large as the image
    picture = _composed(image, "black")
    if _stands_out(picture, 0):
        return picture
    del picture
    return _composed(image, "white")


def is_clear_somewhere(image: Image.Image) -> bool:
    """Tell whether any pixel of a picture is not opaque."""
    if not image.has_transparency_data:
        return False
    clear = image.info.get("transparency")
    if image.mode == "P" and clear is not None:
        opacity = clear if isinstance(clear, bytes) else bytes([255] * clear + [0])
        counts = zip(image.histogram(), opacity, strict=False)
        return any(count and level < 255 for count, level in counts)
    if image.mode in ("RGBA", "RGBa", "LA", "La", "PA"):
        strips = (strip.getchannel(strip.getbands()[-1]) for _, strip in _strips(image))
    else:
        strips = (strip.convert("RGBA").getchannel("A") for _, strip in _strips(image))
    return any(strip.getextrema()[0] < 255 for strip in strips)  # type: ignore[operator]


def is_one_colour(image: Image.Image) -> bool:
    """Tell whether all pixels of an RGB or L image have nearly the same colour."""
    extrema = image.getextrema()
    pairs = extrema if isinstance(extrema[0], tuple) else (extrema,)
    return all(high - low <= PLAIN_LEVELS for low, high in pairs)


def _composed(image: Image.Image, ground: str) -> Image.Image:
    """Put a picture on a ground, strip by strip: in memory there is one copy, not three."""
    composed = Image.new("RGB", image.size, ground)
    for top, strip in _strips(image):
        # By way of RGBA: Pillow warns when a palette with transparency becomes RGB directly.
        rgba = (strip.convert("LA") if strip.mode == "La" else strip).convert("RGBA")
        composed.paste(rgba, (0, top), rgba)
    return composed


def _strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """The top and the pixels of strips of a picture, from above."""
    rows = max(1, STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(image.height, top + rows)))


def _stands_out(picture: Image.Image, ground: int) -> bool:
    """Whether enough pixels differ from a grey ground in any channel."""
    least, far = LEAST_CHANGE * picture.width * picture.height, 0
    histogram = picture.histogram()
    for channel in range(0, 768, 256):
        levels = histogram[channel : channel + 256]
        near = levels[255 - VISIBLE :] if ground else levels[: VISIBLE + 1]
        far = max(far, sum(levels) - sum(near))
    return far > least


def _grid(mode: str) -> Image.Image:
    steps = range(0, 256, 51)
    if mode == "L":
        return Image.frombytes("L", (256, 1), bytes(range(256)))
    if mode == "RGB":
        colours = bytes(v for r in steps for g in steps for b in steps for v in (r, g, b))
        return Image.frombytes("RGB", (216, 1), colours)
    inks = bytes(
        v for c in steps for m in steps for y in steps for k in (0, 128) for v in (c, m, y, k)
    )
    return Image.frombytes("CMYK", (432, 1), inks)


def _srgb(light: float) -> int:
    """IEC 61966-2-1, in levels of 255."""
    value = 12.92 * light if light <= 0.0031308 else 1.055 * light ** (1 / 2.4) - 0.055
    return round(255 * min(1.0, value))

"""Bytes -> a picture whose header is read, by the one decoder that the first bytes ask for.

Files come from strangers, and decoding runs in many threads: nothing here changes what Pillow and
Python keep for the whole process. Not Pillow's registry of plugins, nor Image.MAX_IMAGE_PIXELS,
nor the warning filters (warnings.catch_warnings swaps them under the feet of other threads). So
the code in Pillow that warns about valid images is not called: EXIF is read by `orientation`, an
MPO is opened as the JPEG that it begins with. What is left is Pillow's remark on damaged tags of
a TIFF or an APNG: the application's filters decide, and where they make it an exception, it is a
reason like any other.
"""

from __future__ import annotations

import io
import re
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    PngImagePlugin,
    PpmImagePlugin,
    WebPImagePlugin,
)

from retrieval.errors import ImageError
from retrieval.images import boxes, colour, jxl, raws
from retrieval.images.animation import FRAME_BYTES, MAX_CANVAS, gif_frames
from retrieval.images.budget import process_budget
from retrieval.images.formats import HEADER_BYTES, sniff, unread_content
from retrieval.images.greys import is_deep
from retrieval.images.jpeg import Scan, check_scans, coefficient_bytes, open_jpeg
from retrieval.images.orientation import TURNS, orientation, written_orientation
from retrieval.images.png import take_apart
from retrieval.images.tiff import is_raw, open_tiff, pages_of, says_white_is_zero
from retrieval.images.webp import webp_size

_STORED = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2}  # bytes a pixel in Pillow
# What decoders take beside Pillow's picture, in bytes a pixel: canvases, planes, Python's copies.
_BESIDE = {"WEBP": 16, "AVIF": 16, "HEIF": 16, "GIF": 1}
_MOST_JOINED = 100_000_000  # pixels of 16-bit colours whose low bytes are looked at: memory
_FOREIGN = "B" if sys.byteorder == "little" else "L"
_OTHER_BYTES = {
    f"{mode};16{order}": f"{mode};16{other}"
    for mode in ("RGB", "RGBA", "CMYK", "R", "G", "B", "A")
    for order, other in (("B", "L"), ("L", "B"), ("N", _FOREIGN))
} | {"LA;16B": "RGBA"}  # the four bytes of a pixel: Pillow has no other order of it
_WEIGHTS = 50  # bytes that resizing takes for each column and each row
_DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    AssertionError,
    BufferError,
    EOFError,
    MemoryError,
    RuntimeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Warning,
)


@dataclass
class Opened:
    """A picture whose pixels may still wait.

    orientation: how it still has to be turned. format, frames, depth: see PictureFacts. profile: of
    its colours. gamma: the exponent that a PNG was encoded with, where it differs. colours: what a
    PNG says of its primaries, where they differ. white: the sample that is white, where the file
    says so; inverted: it is black; unsigned: of 32 bits without a sign. animated: the bytes in
    which a later frame is looked for. low: opens the same again for the low bytes of 16-bit RGB.
    scans: of a JPEG with several, those that were whole. extra_bytes: memory that decoding takes
    beside the pixels. is_file: whether nobody else holds the image.
    """

    image: Image.Image
    orientation: int = 1
    format: str = ""
    frames: int = 1
    depth: int = 8
    profile: bytes = b""
    gamma: float | None = None
    colours: bytes = b""
    white: float | None = None
    inverted: bool = False
    unsigned: bool = False
    animated: bytes = b""
    low: Callable[[], Image.Image] | None = None
    scans: list[Scan] | None = None
    extra_bytes: int = 0
    is_file: bool = True

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, upright."""
        width, height = self.image.size
        return (height, width) if self.orientation >= 5 else (width, height)

    def bytes_needed(self) -> int:
        """Return the memory that decoding and resizing take, at the image's present scale."""
        mode, (width, height) = self.image.mode, self.image.size
        each = _STORED.get(mode, 4) + _BESIDE.get(self.format, 0)
        if mode not in ("RGB", "L") or self.image.has_transparency_data:
            each += 1 if mode.startswith(("I", "F", "1")) else 4
        if self.orientation in TURNS:
            each += 4
        if self.low is not None:
            each += 8
        if self.animated and width * height <= MAX_CANVAS:
            each += FRAME_BYTES
        return each * width * height + _WEIGHTS * (width + height) + self.extra_bytes


def open_bytes(data: bytes, max_pixels: int) -> Opened:
    """Read the header of an image: its size and mode are known, its pixels not yet decoded.

    Raises ImageError when it is none of our formats or has more than max_pixels.
    """
    kind = sniff(data[:HEADER_BYTES])
    if kind is None:
        other = unread_content(data[:HEADER_BYTES])
        if other:
            raise ImageError(f"a {other} file, a format that this program does not read")
        raise ImageError("not an image this program reads" if data else "empty file")
    opened = _OPENERS[kind](data, max_pixels)
    check_pixels(*opened.image.size, max_pixels)
    return opened


def check_pixels(width: int, height: int, max_pixels: int) -> None:
    """Raise ImageError when a picture of this size has more than max_pixels, or none."""
    if width < 1 or height < 1:
        raise ImageError(f"{width} x {height} pixels, which show nothing")
    if width * height > max_pixels:
        raise ImageError(f"{width * height:,} pixels, more than --max-pixels {max_pixels:,}")


def open_loaded(image: Image.Image) -> Opened:
    """Wrap a PIL image of the caller, with what it still carries of its file."""
    try:
        turn = image.getexif().get(0x0112, 1)
    except _DECODER_ERRORS:  # EXIF that is broken in any way
        turn = 1
    turn = turn if turn in TURNS else 1
    profile = image.info.get("icc_profile")
    return Opened(
        image,
        orientation=turn,
        format=image.format or "",
        profile=profile if isinstance(profile, bytes) else b"",
        gamma=_carried_gamma(image.info),
        inverted=is_deep(image) and says_white_is_zero(image),
        depth=depth_of(image.mode),
        is_file=False,
    )


def depth_of(mode: str) -> int:
    """Return the bits per channel of one of Pillow's modes."""
    return 32 if mode in ("I", "F") else 16 if mode.startswith("I;") else 8


@contextmanager
def decoder_errors_as_image_errors() -> Iterator[None]:
    """Turn whatever a decoder raises into an ImageError with a short reason."""
    try:
        yield
    except MemoryError as error:
        raise ImageError("not enough memory to decode it") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"Pillow refuses its size ({error})") from error
    except _DECODER_ERRORS as error:
        said = " ".join(str(error).split())[:120] or type(error).__name__
        cut = isinstance(error, EOFError) or re.search("truncat|end of file|no data", said.lower())
        raise ImageError(f"{'truncated' if cut else 'damaged or truncated'} ({said})") from error


def _open_jpeg(data: bytes, max_pixels: int) -> Opened:
    image = open_jpeg(data)
    check_pixels(*image.size, max_pixels)
    several, whole = check_scans(image, data)
    opened = Opened(image, written_orientation(image), "JPEG", profile=_profile(image))
    if several:
        opened.scans, opened.extra_bytes = whole, coefficient_bytes(image)
    return opened


def _open_png(data: bytes, _: int) -> Opened:
    png = take_apart(data)
    image = PngImagePlugin.PngImageFile(io.BytesIO(png.still), "")
    opened = Opened(
        image,
        orientation(png.exif, png.xmp),
        "PNG",
        frames=png.frames,
        depth=8 if png.palette else max(8, png.depth),
        profile=png.profile,
        gamma=png.gamma if png.gamma and colour.changes_visibly(png.gamma) else None,
        colours=png.colours,
        animated=png.animated,
    )
    if png.depth == 16 and png.significant and 8 <= png.significant < 16:
        opened.white = (1 << png.significant) - 1
    if png.depth == 16 and _has_low_bytes(image):
        opened.low = lambda: _other_bytes(PngImagePlugin.PngImageFile(io.BytesIO(png.still), ""))
    return opened


def _open_webp(data: bytes, max_pixels: int) -> Opened:
    size = webp_size(data[:30])
    if size:
        check_pixels(*size, max_pixels)
    image = WebPImagePlugin.WebPImageFile(io.BytesIO(data), "")
    opened = Opened(image, written_orientation(image), "WEBP", profile=_profile(image))
    opened.frames = image.n_frames
    opened.animated = data if opened.frames > 1 else b""
    return opened


def _open_avif(data: bytes, _: int) -> Opened:
    # An AVIF is turned by its own boxes (irot, imir), whatever its EXIF says.
    image = AvifImagePlugin.AvifImageFile(io.BytesIO(boxes.without_exif(data)), "")
    image.info.pop("xmp", None)  # nor by its XMP
    opened = Opened(image, written_orientation(image), "AVIF", profile=_profile(image))
    opened.frames, opened.depth = image.n_frames, boxes.avif_depth(data)
    opened.animated = data if opened.frames > 1 else b""
    return opened


def _open_heif(data: bytes, _: int) -> Opened:
    from pillow_heif import HeifImageFile  # libheif is large, and few folders need it

    image = HeifImageFile(io.BytesIO(data), "")
    opened = Opened(image, 1, "HEIF", profile=_profile(image), frames=image.n_frames)
    # libheif turns by the boxes. Where there are none, EXIF (or XMP) counts: docs/decisions.md.
    written = image.info.get("original_orientation")
    if not boxes.turns(data) and written in TURNS:
        opened.orientation = written
    opened.depth = image.info.get("bit_depth", 8)
    return opened


def _open_gif(data: bytes, _: int) -> Opened:
    image = GifImagePlugin.GifImageFile(io.BytesIO(data), "")
    frames = gif_frames(data)
    return Opened(image, 1, "GIF", frames=frames, animated=data if frames > 1 else b"")


def _open_tiff(data: bytes, max_pixels: int) -> Opened:
    if is_raw(data, pages_of(data)):
        return _open_raw(data, max_pixels)
    image, pages = open_tiff(data)
    opened = Opened(image, 1, "TIFF", pages, max(8, image.depth), _profile(image))
    opened.extra_bytes = 2 * image.strip_bytes
    opened.white, opened.inverted = image.white, image.inverted
    opened.unsigned = image.is_unsigned
    if image.depth == 16 and _has_low_bytes(image):
        opened.low = lambda: _other_bytes(open_tiff(data)[0])
    return opened


def _open_raw(data: bytes, max_pixels: int) -> Opened:
    raw = raws.RawFile.open(data)
    check_pixels(raw.width, raw.height, max_pixels)
    jpeg, turn = raw.preview()
    if jpeg and sniff(jpeg[:HEADER_BYTES]) == "JPEG":
        try:
            opened = _open_jpeg(jpeg, max_pixels)
        except _DECODER_ERRORS:  # a preview that is broken; there is still the raw
            opened = None
        if opened is not None and raw.is_full_size(*opened.image.size):
            opened.format = "RAW"
            opened.orientation = opened.orientation if opened.orientation != 1 else turn
            return opened
    with process_budget().holding(raws.DEVELOPING_BYTES * raw.width * raw.height):
        return Opened(raw.develop(), 1, "RAW", depth=16)


def _open_jxl(data: bytes, max_pixels: int) -> Opened:
    width, height = jxl.jxl_size(data)
    check_pixels(width, height, max_pixels)
    with process_budget().holding(jxl.DECODING_BYTES * width * height):
        image, profile = jxl.decode_jxl(data)
    if isinstance(image, bytes):
        opened = _open_jpeg(image, max_pixels)
        opened.format = "JXL"
        return opened
    return Opened(image, 1, "JXL", depth=depth_of(image.mode), profile=profile)


def _open_ppm(data: bytes, _: int) -> Opened:
    image = PpmImagePlugin.PpmImageFile(io.BytesIO(data), "")
    # Pillow scales what is deeper than 8 bits to 16, by the largest value that the file names.
    deep = image.mode == "I"
    return Opened(image, 1, "PPM", depth=16 if deep else 8, white=65535 if deep else None)


def _open_bmp(data: bytes, _: int) -> Opened:
    return Opened(BmpImagePlugin.BmpImageFile(io.BytesIO(data), ""), 1, "BMP")


def _carried_gamma(info: dict[str | tuple[int, int], Any]) -> float | None:
    """The exponent of a PNG that has neither a profile nor sRGB, where it differs."""
    gamma = info.get("gamma")
    if not isinstance(gamma, float) or {"icc_profile", "srgb"} & set(info):
        return None
    return gamma if colour.changes_visibly(gamma) else None


def _profile(image: Image.Image) -> bytes:
    profile = image.info.get("icc_profile")
    return profile if isinstance(profile, bytes) else b""


def _has_low_bytes(image: Image.Image) -> bool:
    """Whether Pillow takes the high bytes of samples, and can be made to take the low ones too."""
    if image.width * image.height > _MOST_JOINED:
        return False
    modes = {_raw_mode(tile) for tile in image.tile}  # type: ignore[attr-defined]
    return bool(modes) and modes <= set(_OTHER_BYTES)


def _raw_mode(tile: Any) -> str:
    return str(tile.args if isinstance(tile.args, str) else tile.args[0])


def _other_bytes(image: Image.Image) -> Image.Image:
    """Decode colours of 16 bits by the low bytes of samples, where Pillow takes the high."""
    tiles = image.tile  # type: ignore[attr-defined]
    is_grey = _raw_mode(tiles[0]).startswith("LA")
    for n, tile in enumerate(tiles):
        swapped = _OTHER_BYTES[_raw_mode(tile)]
        args = swapped if isinstance(tile.args, str) else (swapped, *tile.args[1:])
        tiles[n] = tile._replace(args=args)
    image.load()
    if is_grey:
        grey = image.getchannel("G")
        return Image.merge("RGBA", (grey, grey, grey, image.getchannel("A")))
    return image


Opener = Callable[[bytes, int], Opened]
_OPENERS: dict[str, Opener] = {
    "JPEG": _open_jpeg,
    "PNG": _open_png,
    "WEBP": _open_webp,
    "AVIF": _open_avif,
    "HEIF": _open_heif,
    "GIF": _open_gif,
    "BMP": _open_bmp,
    "TIFF": _open_tiff,
    "PPM": _open_ppm,
    "RAW": _open_raw,
    "JXL": _open_jxl,
}

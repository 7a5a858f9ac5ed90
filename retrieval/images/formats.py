"""Read a file, tell its format by its first bytes, and open it with that format's decoder alone.

Files come from strangers, and decoding runs in many threads: nothing here changes what Pillow and
Python keep for the whole process. Not Pillow's registry of plugins, nor Image.MAX_IMAGE_PIXELS,
nor the warning filters (warnings.catch_warnings swaps them under the feet of other threads). So
the code in Pillow that warns about valid images is not called: EXIF is read by `orientation`, an
MPO is opened as the JPEG that it begins with. What is left is Pillow's remark on damaged tags of
a TIFF or an APNG: the application's filters decide, and where they make it an exception, it is a
reason like any other.
"""

import io
import os
import re
import stat
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from retrieval.errors import ImageError

MAX_FILE_BYTES = 1 << 30
HEADER_BYTES = 64
_SUFFIX = re.compile(r"\.(jpe?g|jpe|jfif|mpo|a?png|webp|avif|gif|bmp|tiff?|p[pgbn]m|hei[cf]|hif)")

_SIGNATURES = (
    ("JPEG", re.compile(rb"\xff\xd8\xff")),
    ("PNG", re.compile(rb"\x89PNG\r\n\x1a\n")),
    ("WEBP", re.compile(rb"RIFF....WEBPVP8", re.DOTALL)),
    ("GIF", re.compile(rb"GIF8[79]a")),
    ("TIFF", re.compile(rb"II[*+]\0|MM\0[*+]")),
    # "BM" and "P5" may begin any text, so the size of the header and a number must follow them.
    ("BMP", re.compile(rb"BM.{12}[\x0c\x10\x28\x34\x38\x40\x6c\x7c]\0\0\0", re.DOTALL)),
    ("PPM", re.compile(rb"P[1-6]\s*#|P[1-6]\s+\d")),
)
# As pillow_heif accepts them.
_HEIF_BRANDS = re.compile(rb"hei[cxms]|hev[cxms]|m[is]f1")
_AVIF_EXIF = re.compile(rb"(infe\x02.{7})Exif", re.DOTALL)
_EXIF_ORIENTATION = 0x0112
_EXIF_INTEGERS = {3: "H", 4: "I"}  # SHORT, as an orientation should be, and LONG
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


def sniff(header: bytes) -> str | None:
    """Name the format of a file that begins with these bytes; 32 are enough, 64 are better.

    Returns "JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "PPM" (PGM and PBM too), "HEIF", or
    None when it is none of them.

    >>> sniff(b"GIF89a")
    'GIF'
    """
    if header[4:8] == b"ftyp":
        return _sniff_ftyp(header)
    return next((name for name, signature in _SIGNATURES if signature.match(header)), None)


def has_image_suffix(path: Path) -> bool:
    """Whether the name says that this is an image of one of our formats."""
    return _SUFFIX.fullmatch(path.suffix.lower()) is not None


def read_bytes(path: Path) -> tuple[bytes, os.stat_result]:
    """Read one file whole.

    Returns its bytes and its status from just before they were read. Raises ImageError when it is
    gone, closed to us, empty, larger than MAX_FILE_BYTES or no regular file. Never waits.
    """
    try:
        with _open_regular(path) as file:
            status = os.fstat(file.fileno())
            if status.st_size > MAX_FILE_BYTES:
                raise ImageError(f"{status.st_size:,} bytes, more than {MAX_FILE_BYTES:,}")
            data = file.readall()
    except (OSError, ValueError) as error:
        raise ImageError(os_reason(error)) from error
    if not data:
        raise ImageError("empty file")
    return data, status


def read_header(path: Path) -> bytes:
    """First bytes of a file, or none when it cannot be read or is no regular file."""
    try:
        with _open_regular(path) as file:
            return file.read(HEADER_BYTES) or b""
    except (OSError, ValueError, ImageError):
        return b""


def open_lazily(data: bytes, max_pixels: int) -> Image.Image:
    """Read the header of an image: its size and mode are known, its pixels not yet decoded.

    Raises ImageError when it is none of our formats or has more than max_pixels.
    """
    kind = sniff(data[:HEADER_BYTES])
    if kind is None:
        raise ImageError("not an image this program reads" if data else "empty file")
    if kind == "AVIF":
        # An AVIF is turned by its own boxes (irot, imir), whatever its EXIF says, and libavif fails
        # the whole image when that is broken: give the item a name that it passes over.
        data = _AVIF_EXIF.sub(rb"\1skip", data, count=1)
    image = _plugin(kind)(io.BytesIO(data), "")
    pixels = image.width * image.height
    if pixels > max_pixels:
        raise ImageError(f"{pixels:,} pixels, more than --max-pixels {max_pixels:,}")
    return image


def orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8, of an image; 1 where there is none, or none that can be read.

    TIFF and HEIC decoders turn their images themselves, for them it is 1.
    """
    if image.format in ("TIFF", "HEIF"):
        return 1
    try:
        return _exif_orientation(_exif_block(image))
    except (ValueError, struct.error):
        return 1


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


def os_reason(error: OSError | ValueError) -> str:
    """Say in a few words why the system would not open something."""
    if isinstance(error, FileNotFoundError):
        return "does not exist"
    if isinstance(error, PermissionError):
        return "no permission to read it"
    if isinstance(error, IsADirectoryError):
        return "a folder, not an image"
    return getattr(error, "strerror", None) or str(error)


class JpegFile(JpegImagePlugin.JpegImageFile):
    """A JPEG, or the first picture of an MPO, that never looks at its EXIF by itself.

    Pillow would, for the resolution, and warn of EXIF that is broken.
    """

    def getexif(self) -> Image.Exif:
        """Nothing: see `orientation`."""
        return Image.Exif()


class _TiffFile(TiffImagePlugin.TiffImageFile):
    def getexif(self) -> Image.Exif:
        """Only the orientation, which Pillow applies in load(): other tags may be broken."""
        exif = Image.Exif()
        exif[_EXIF_ORIENTATION] = self.tag_v2.get(_EXIF_ORIENTATION, 1)
        return exif

    def load_prepare(self) -> None:
        """As Pillow's, without its Image.MAX_IMAGE_PIXELS."""
        if self._im is None:
            self.im = Image.new(self.mode, self._tile_size, None).im
        super().load_prepare()


_Plugin = Callable[[IO[bytes], str], Image.Image]
_PLUGINS: dict[str, _Plugin] = {
    "JPEG": JpegFile,
    "PNG": PngImagePlugin.PngImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "AVIF": AvifImagePlugin.AvifImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "TIFF": _TiffFile,
    "PPM": PpmImagePlugin.PpmImageFile,
}


def _plugin(kind: str) -> _Plugin:
    if kind == "HEIF":
        from pillow_heif import HeifImageFile  # libheif is large, and few folders need it

        return HeifImageFile
    return _PLUGINS[kind]


def _sniff_ftyp(header: bytes) -> str | None:
    """AVIF or HEIF by the brands of an ISO container (ISO/IEC 14496-12, box ftyp)."""
    size = int.from_bytes(header[:4], "big")
    brands = {header[at : at + 4] for at in (8, *range(16, min(size, len(header)), 4))}
    if header[8:12] in (b"mif1", b"msf1", b"avif", b"avis") and brands & {b"avif", b"avis"}:
        return "AVIF"
    return "HEIF" if _HEIF_BRANDS.match(header, 8) else None


def _open_regular(path: Path) -> io.FileIO:
    # O_NONBLOCK: opening a pipe waits for a writer. It means nothing to a regular file.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise ImageError("a folder, not an image" if stat.S_ISDIR(mode) else "not a regular file")
    return io.FileIO(descriptor, "rb")


def _exif_block(image: Image.Image) -> bytes:
    block = image.info.get("exif")
    if block is None and "Raw profile type exif" in image.info:  # PNG as ImageMagick 6 wrote it
        block = bytes.fromhex("".join(image.info["Raw profile type exif"].split("\n")[3:]))
    return block.removeprefix(b"Exif\0\0").removeprefix(b"Exif\0\0") if block else b""


def _exif_orientation(exif: bytes) -> int:
    """Tag 0x0112 of the first directory (Exif 2.32, 4.6.2); 1 without it."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return 1
    (directory,) = struct.unpack_from(order + "I", exif, 4)
    (entries,) = struct.unpack_from(order + "H", exif, directory)
    for at in range(directory + 2, directory + 2 + 12 * entries, 12):
        tag, kind = struct.unpack_from(order + "HH", exif, at)
        if tag == _EXIF_ORIENTATION and kind in _EXIF_INTEGERS:
            (value,) = struct.unpack_from(order + _EXIF_INTEGERS[kind], exif, at + 8)
            return value if 1 <= value <= 8 else 1
    return 1

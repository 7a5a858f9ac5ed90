"""TIFFs: which of several pictures is the main one, whether it is a camera's raw, what is white."""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from PIL import ExifTags, Image, ImageFile, TiffImagePlugin

from retrieval.errors import ImageError
from retrieval.images.orientation import xmp_orientation

UNREAD = "a kind of TIFF that this program does not read"
MAX_PAGES, MAX_ENTRIES = 10_000, 200_000  # directories, and entries of all of them, looked at
MAX_SUBDIRECTORIES = 32  # of one directory
MUCH_SMALLER = 0.4  # a first page of less of the largest one's pixels is not the main picture
MAX_TIFF_SCANNED = 40_000_000_000  # pixels of the largest page times scans of JPEGs within

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_NEW_SUBFILE, _OLD_SUBFILE, _MAX_SAMPLE, _SUBDIRECTORIES = 254, 255, 281, 330
_PLANAR, _SAMPLE_FORMAT = 284, 339
_XMP, _DNG_VERSION = 700, 50706
_WANTED = {
    _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _NEW_SUBFILE, _OLD_SUBFILE, _MAX_SAMPLE,
    _SUBDIRECTORIES, _DNG_VERSION,
}  # fmt: skip
_REDUCED, _MASK = 1, 4  # bits of NewSubfileType
_RAW_PHOTOMETRIC = {32803, 34892}  # colour filter array, LinearRaw
# Those of Kodak, Sony, Epson, Samsung, Nikon and Pentax.
_RAW_COMPRESSION = {262, 32767, 32769, 32770, 34713, 65535}
_JPEG_COMPRESSION = {6, 7}
_INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_UNSIGNED, _PLANES = 1, 2
_UNREAD = re.compile("unknown pixel mode|samples per pixel|not yet support")


@dataclass(frozen=True)
class Page:
    """One directory of a TIFF: where it lies, and its tags of those wanted here, by number."""

    offset: int
    tags: dict[int, list[int]]

    def tag(self, number: int, default: int = 0) -> int:
        """First value of a tag."""
        return self.tags.get(number, [default])[0]

    @property
    def pixels(self) -> int:
        """Width times height."""
        return self.tag(_WIDTH) * self.tag(_HEIGHT)

    @property
    def is_reduced(self) -> bool:
        """Whether the page is a smaller version or the mask of another picture."""
        return bool(self.tag(_NEW_SUBFILE) & (_REDUCED | _MASK)) or self.tag(_OLD_SUBFILE) == 2

    @property
    def is_raw(self) -> bool:
        """Whether the page holds what a sensor gave, or belongs to a file that does."""
        return (
            self.tag(_PHOTOMETRIC) in _RAW_PHOTOMETRIC
            or self.tag(_COMPRESSION) in _RAW_COMPRESSION
            or _DNG_VERSION in self.tags
        )


def pages_of(data: bytes) -> list[Page]:
    """List all directories of a TIFF, nested ones too, as far as they can be read.

    Source: TIFF 6.0, section 2; BigTIFF; Adobe's TIFF technical note 1 for the trees.
    """
    order = "<" if data[:1] == b"I" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    pages: list[Page] = []
    seen: set[int] = set()
    budget = MAX_ENTRIES
    try:
        waiting = [*struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)]
        while waiting and len(pages) < MAX_PAGES:
            offset = waiting.pop()
            if not offset or offset in seen:
                continue
            seen.add(offset)
            tags, following, count = _directory(data, offset, order, big=big, most=budget)
            budget -= count
            pages.append(Page(offset, tags))
            waiting.append(following)  # the tree below comes before the next page
            waiting += reversed(tags.get(_SUBDIRECTORIES, []))
    except (struct.error, OverflowError):
        pass
    return pages


def is_raw(data: bytes, pages: list[Page]) -> bool:
    """Tell whether a TIFF is a camera's raw file: DNG, NEF, ARW, CR2, PEF, SRW, 3FR and so on."""
    return data[8:10] == b"CR" or any(page.is_raw for page in pages)


def main_page(pages: list[Page]) -> Page | None:
    """Pick the main picture: the first neither called reduced nor much smaller than another."""
    whole = [page for page in pages if not page.is_reduced and page.pixels] or [
        page for page in pages if page.pixels
    ]
    if not whole:
        return None
    largest = max(page.pixels for page in whole)
    return next(page for page in whole if page.pixels >= MUCH_SMALLER * largest)


def says_white_is_zero(image: Image.Image) -> bool:
    """Tell whether an image is a TIFF opened by Pillow whose 0 is white."""
    is_tiff = isinstance(image, TiffImagePlugin.TiffImageFile)
    return is_tiff and image.tag_v2.get(_PHOTOMETRIC) == 0  # type: ignore[attr-defined]


def open_tiff(data: bytes) -> tuple[TiffFile, int]:
    """Open the main picture of a TIFF, its header read; also return the number of pages.

    Raises ImageError when it is of a kind that is not read.
    """
    pages = pages_of(data)
    main = main_page(pages)
    if data[:4] == b"MM\0+":
        raise ImageError(f"{UNREAD} (BigTIFF in big-endian order)")
    compression = main.tag(_COMPRESSION, 1) if main is not None else 1
    if compression not in TiffImagePlugin.COMPRESSION_INFO:
        raise ImageError(f"{UNREAD} (compression {compression})")
    stream = io.BytesIO(data)
    if main is not None and main is not pages[0]:
        big = data[2:4] == b"+\0"
        stream.seek(8 if big else 4)
        order = "<" if data[:1] == b"I" else ">"
        stream.write(struct.pack(order + ("Q" if big else "I"), main.offset))
        stream.seek(0)
    if main is not None and compression in _JPEG_COMPRESSION:
        _check_scans(data, main)
    try:
        image = TiffFile(stream, "")
    except (SyntaxError, OSError) as error:
        if not _UNREAD.search(str(error)):
            raise
        raise ImageError(f"{UNREAD} ({error})") from error
    return image, max(1, sum(not page.is_reduced for page in pages))


class TiffFile(TiffImagePlugin.TiffImageFile):
    """One picture of a TIFF, without Pillow's looks at what may be broken and does not count.

    inverted: its 0 is white and Pillow does not know.
    """

    inverted = False

    def getexif(self) -> Image.Exif:
        """Return the orientation, which Pillow applies in load(): other tags may be broken."""
        exif = Image.Exif()
        orientation = self.tag_v2.get(ExifTags.Base.Orientation)
        xmp = self.info.get("xmp")
        if orientation is None and isinstance(xmp, bytes):
            orientation = xmp_orientation(xmp)
        exif[ExifTags.Base.Orientation] = orientation or 1
        return exif

    def load_prepare(self) -> None:
        """Open as Pillow does, without its Image.MAX_IMAGE_PIXELS."""
        if self._im is None:
            self.im = Image.new(self.mode, self._tile_size, None).im
        super().load_prepare()

    @property
    def depth(self) -> int:
        """Bits a sample."""
        bits = self.tag_v2.get(_BITS, (1,))
        return max(bits) if isinstance(bits, tuple) and bits else 8

    @property
    def white(self) -> int | None:
        """The sample that is white (or black, where inverted), where the file says so."""
        value = self.tag_v2.get(_MAX_SAMPLE)
        value = max(value) if isinstance(value, tuple) and value else value
        if isinstance(value, int) and 0 < value < (1 << min(self.depth, 32)) - 1:
            return value
        return (1 << self.depth) - 1 if 8 < self.depth < 16 else None

    @property
    def is_unsigned(self) -> bool:
        """Whether its samples have 32 bits without a sign, which Pillow takes for one."""
        return self.depth == 32 and self.tag_v2.get(_SAMPLE_FORMAT, (_UNSIGNED,))[0] == _UNSIGNED

    @property
    def strip_bytes(self) -> int:
        """Memory that libtiff takes for one strip or tile."""
        width, height = self._tile_size
        if TiffImagePlugin.TILEWIDTH in self.tag_v2:
            across = self.tag_v2.get(TiffImagePlugin.TILEWIDTH, 0)
            down = self.tag_v2.get(TiffImagePlugin.TILELENGTH, 0)
        else:
            across, down = width, self.tag_v2.get(TiffImagePlugin.ROWSPERSTRIP, height)
        if not isinstance(across, int) or not isinstance(down, int):
            return 0
        samples = max(4, int(self.tag_v2.get(TiffImagePlugin.SAMPLESPERPIXEL, 1)))
        return max(across, 0) * max(0, min(down, height)) * samples * max(1, self.depth // 8)

    def _setup(self) -> None:
        if self.depth > 8 and self.tag_v2.get(_PHOTOMETRIC, 0) == 0:
            self.inverted = _PHOTOMETRIC in self.tag_v2
            self.tag_v2[_PHOTOMETRIC] = 1
        if self.tag_v2.get(TiffImagePlugin.SAMPLESPERPIXEL, 1) == 1 and _PLANAR in self.tag_v2:
            self.tag_v2[_PLANAR] = 1  # one sample is one plane; Pillow would forget how it is kept
        super()._setup()
        if self._planar_configuration == _PLANES and self.depth == 16 and not self.use_load_libtiff:
            self.tile = self._tiles_of_16_bits()

    def _tiles_of_16_bits(self) -> list[ImageFile._Tile]:
        """The tiles of colours that are kept apart, which Pillow reads as if they had 8 bits."""
        order = "L" if self.tag_v2.prefix == b"II" else "B"
        tiles = []
        for tile in self.tile:
            args = cast("tuple[str, int, int]", tile.args)
            band = args[0]
            if band == "a" or self.mode == "CMYK":  # which Pillow cannot take apart
                raise SyntaxError("unknown pixel mode")
            if band in self.getbands():  # others mean nothing
                tiles.append(tile._replace(args=(f"{band};16{order}", *args[1:])))
        return tiles


def _check_scans(data: bytes, main: Page) -> None:
    """Refuse JPEGs of very many scans within a TIFF; each strip or tile of it has at least one."""
    scans = data.count(b"\xff\xda")
    if scans > 1000 and scans * main.pixels > MAX_TIFF_SCANNED and scans > main.pixels // 64:
        raise ImageError(f"{scans:,} JPEG scans, which would take hours to decode")


def _directory(
    data: bytes, offset: int, order: str, *, big: bool, most: int
) -> tuple[dict[int, list[int]], int, int]:
    """Tags wanted of one directory, the offset of the next one, and the number of entries."""
    (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, offset)
    if count > most:
        raise struct.error("too many entries")
    size, at = (20, offset + 8) if big else (12, offset + 2)
    tags = {}
    for entry in range(at, at + count * size, size):
        number, kind = struct.unpack_from(order + "HH", data, entry)
        if number in _WANTED and kind in _INTEGERS:
            tags[number] = list(_values(data, entry, kind, order, big=big))
    (following,) = struct.unpack_from(order + ("Q" if big else "I"), data, at + count * size)
    return {number: values for number, values in tags.items() if values}, following, count


def _values(data: bytes, entry: int, kind: int, order: str, *, big: bool) -> Iterator[int]:
    (count,) = struct.unpack_from(order + ("Q" if big else "I"), data, entry + 4)
    code, inline, at = _INTEGERS[kind], 8 if big else 4, entry + (12 if big else 8)
    if count * struct.calcsize(order + code) > inline:
        (at,) = struct.unpack_from(order + ("Q" if big else "I"), data, at)
    try:
        yield from struct.unpack_from(f"{order}{min(count, MAX_SUBDIRECTORIES)}{code}", data, at)
    except struct.error:
        return

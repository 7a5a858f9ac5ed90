"""Image files that Pillow does not write: odd TIFFs and PNGs, raws, profiles."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

SHORT, LONG, BYTE = 3, 4, 1
WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, STRIPS, SAMPLES = 256, 257, 258, 259, 262, 273, 277
ROWS, COUNTS, MAX_SAMPLE, SUBFILE, SUBDIRECTORIES, SAMPLE_FORMAT = 278, 279, 281, 254, 330, 339
ORIENTATION, XMP, DNG_VERSION, JPEG, CFA, PLANAR = 274, 700, 50706, 7, 32803, 284


@dataclass
class Page:
    """A directory of a TIFF: pixels as they are stored, and tags beside those made of them."""

    pixels: np.ndarray | bytes
    tags: dict[int, list[int] | bytes] = field(default_factory=dict)
    below: list[Page] = field(default_factory=list)
    size: tuple[int, int] = (0, 0)


def tiff(*pages: Page, order: str = "<", big: bool = False) -> bytes:
    """A TIFF of these pages; big: with offsets of 64 bits."""
    writer = _Writer(order, big=big)
    writer.chain(list(pages))
    return writer.data


class _Writer:
    def __init__(self, order: str, *, big: bool) -> None:
        self.order, self.big = order, big
        mark = b"II" if order == "<" else b"MM"
        version = (43, 8, 0) if big else (42,)
        self.offset = order + ("Q" if big else "I")
        self.data = mark + struct.pack(f"{order}{len(version)}H", *version)
        self.data += struct.pack(self.offset, 0)

    def chain(self, pages: list[Page]) -> None:
        link = len(self.data) - struct.calcsize(self.offset)
        for page in pages:
            at, link_of_next = self.directory(page)
            self.patch(link, at)
            link = link_of_next

    def patch(self, link: int, at: int) -> None:
        value = struct.pack(self.offset, at)
        self.data = self.data[:link] + value + self.data[link + len(value) :]

    def append(self, data: bytes) -> int:
        self.data += b"\0" * (len(self.data) % 2)
        at = len(self.data)
        self.data += data
        return at

    def directory(self, page: Page) -> tuple[int, int]:
        tags = self.tags_of(page)
        if page.below:
            tags[SUBDIRECTORIES] = [self.directory(below)[0] for below in page.below]
        entries = b""
        size = 8 if self.big else 4
        for number in sorted(tags):
            value = tags[number]
            kind = BYTE if isinstance(value, bytes) else LONG if max(value) > 65535 else SHORT
            kind = LONG if number in (STRIPS, COUNTS, SUBDIRECTORIES) else kind
            packed = (
                value
                if isinstance(value, bytes)
                else struct.pack(f"{self.order}{len(value)}{'I' if kind == LONG else 'H'}", *value)
            )
            where = (
                packed.ljust(size, b"\0")
                if len(packed) <= size
                else struct.pack(self.offset, self.append(packed))
            )
            entries += struct.pack(self.order + "HH", number, kind)
            entries += struct.pack(self.offset, len(value)) + where
        at = self.append(struct.pack(self.order + ("Q" if self.big else "H"), len(tags)) + entries)
        link = len(self.data)
        self.data += struct.pack(self.offset, 0)
        return at, link

    def tags_of(self, page: Page) -> dict[int, list[int] | bytes]:
        pixels = page.pixels
        if isinstance(pixels, bytes):
            data, (width, height), samples, bits = pixels, page.size, 3, 8
        else:
            data = pixels.astype(pixels.dtype.newbyteorder(self.order)).tobytes()
            (height, width), bits = pixels.shape[:2], 8 * pixels.dtype.itemsize
            samples = pixels.shape[2] if pixels.ndim == 3 else 1
        tags: dict[int, list[int] | bytes] = {
            WIDTH: [width],
            HEIGHT: [height],
            BITS: [bits] * samples,
            COMPRESSION: [1],
            PHOTOMETRIC: [2 if samples >= 3 else 1],
            STRIPS: [self.append(data)],
            SAMPLES: [samples],
            ROWS: [height],
            COUNTS: [len(data)],
        }
        return tags | page.tags


def chunk(kind: bytes, body: bytes, *, wrong: bool = False) -> bytes:
    """A chunk of a PNG, perhaps with a wrong checksum."""
    checksum = zlib.crc32(kind + body) ^ wrong
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)


def png(pixels: np.ndarray, *beside: bytes, colour: int) -> bytes:
    """A PNG of samples as they are stored, of a type of colour, and chunks before its pixels."""
    (height, width), bits = pixels.shape[:2], 8 * pixels.dtype.itemsize
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(row.dtype.newbyteorder(">")).tobytes() for row in pixels)
    chunks = (chunk(b"IHDR", header), *beside, chunk(b"IDAT", zlib.compress(rows)))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + chunk(b"IEND", b"")


def jpeg(image: Image.Image, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "JPEG", **({"quality": 95} | options))  # type: ignore[arg-type]
    return stream.getvalue()


def camera_raw(preview: Image.Image | None = None, size: tuple[int, int] = (320, 240)) -> bytes:
    """A DNG: a thumbnail first, what the sensor gave below it, and perhaps a JPEG preview."""
    width, height = size
    sensor = Page(
        np.full((height, width), 900, np.uint16),
        {PHOTOMETRIC: [CFA], 33421: [2, 2], 33422: bytes([0, 1, 1, 2]), SUBFILE: [0]},
    )
    below = [sensor]
    if preview is not None:
        tags: dict[int, list[int] | bytes] = {COMPRESSION: [JPEG], PHOTOMETRIC: [6], SUBFILE: [1]}
        below.append(Page(jpeg(preview), tags, size=preview.size))
    thumbnail = np.zeros((24, 32, 3), np.uint8)
    tags = {SUBFILE: [1], DNG_VERSION: bytes([1, 4, 0, 0]), 271: b"Maker\0", 272: b"Model\0"}
    return tiff(Page(thumbnail, tags, below))


# Columns of the matrices to XYZ, D50: red, green, blue.
SRGB = ((0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141))
PROPHOTO = ((0.7977, 0.2880, 0.0), (0.1352, 0.7119, 0.0), (0.0313, 0.0001, 0.8249))


def profile(primaries: tuple[tuple[float, float, float], ...], gamma: float) -> bytes:
    """An ICC profile of a matrix and an exponent; of grey without a matrix (ICC.1:2001-04)."""

    def number(value: float) -> bytes:
        return struct.pack(">i", round(value * 65536))

    def xyz(values: tuple[float, float, float]) -> bytes:
        return b"XYZ \0\0\0\0" + b"".join(map(number, values))

    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))
    name = b"made for a test\0"
    tags = [
        (b"desc", b"desc\0\0\0\0" + struct.pack(">I", len(name)) + name + bytes(78)),
        (b"cprt", b"text\0\0\0\0nobody's\0"),
        (b"wtpt", xyz((0.9642, 1.0, 0.8249))),
        *zip((b"rXYZ", b"gXYZ", b"bXYZ"), map(xyz, primaries), strict=bool(primaries)),
        *((kind, curve) for kind in ((b"rTRC", b"gTRC", b"bTRC") if primaries else (b"kTRC",))),
    ]
    at, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for kind, data in tags:
        padded = data + b"\0" * (-len(data) % 4)
        table += struct.pack(">4sII", kind, at + len(body), len(data))
        body += padded
    header = struct.pack(
        ">I4sI4s4s4s12s4s4sIIIQI12s4s44s", at + len(body), bytes(4), 0x02100000, b"mntr",
        b"RGB " if primaries else b"GRAY",
        b"XYZ ", bytes(12), b"acsp", bytes(4), 0, 0, 0, 0, 0,
        number(0.9642) + number(1.0) + number(0.8249), bytes(4), bytes(44),
    )  # fmt: skip
    return header + struct.pack(">I", len(tags)) + table + body

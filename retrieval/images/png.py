"""A PNG without what stands beside its pixels: no text, profile or checksum there can fail it.

Pillow gets the critical chunks and the transparency. What else counts (orientation, profile, bits
that matter) is read here, within bounds; a chunk with a wrong checksum is passed over, as libpng
does with ancillary ones (PNG 3rd edition, 5.4 and 13.2).
"""

import struct
import zlib
from dataclasses import dataclass, field

from retrieval.errors import ImageError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_SIDE_BYTES = 4 << 20  # of a profile or a packet, unpacked
MAX_UNPACKED = 32 << 20  # of all of them
MAX_CHUNKS = 1_000_000
_KEPT = (b"tRNS", b"acTL", b"fcTL", b"fdAT")
_GREY, _RGB, _PALETTE = 0, 2, 3  # types of colour
_CLEAR_BYTES = {_GREY: (2, 2), _RGB: (6, 6), _PALETTE: (1, 256)}  # least and most of tRNS
_RAW = (b"Raw profile type exif", b"Raw profile type APP1", b"Raw profile type xmp")
_XMP_HEAD = b"http://ns.adobe.com/xap/1.0/\0"
_SRGB_CODE = b"\x01\x0d"  # primaries and transfer function, by ITU-T H.273
_SRGB_POINTS = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)  # of 100,000


@dataclass
class PngFile:
    """A PNG taken apart.

    still: the file with what is needed for its own picture. animated: with its frames too, or b"".
    frames: how many. depth: bits a sample. significant: how many of them count, by sBIT, or None.
    gamma: by gAMA where there is neither a profile nor sRGB, else None. colours: what cICP says, or
    cHRM where there is no profile nor sRGB, if that is other than sRGB, else b"".
    """

    still: bytes = b""
    animated: bytes = b""
    frames: int = 0
    depth: int = 8
    colour: int = _RGB
    significant: int | None = None
    exif: bytes = b""
    xmp: bytes = b""
    profile: bytes = b""
    gamma: float | None = None
    colours: bytes = b""
    coded: bytes = field(default=b"", repr=False)
    srgb: bool = field(default=False, repr=False)
    unpacked: int = field(default=0, repr=False)

    @property
    def palette(self) -> bool:
        """Whether its samples are indices of colours."""
        return self.colour == _PALETTE


def take_apart(data: bytes) -> PngFile:
    """Walk the chunks of a PNG once. Raises ImageError when there are too many of them."""
    png, view = PngFile(), memoryview(data)
    still: list[memoryview] = []  # pieces of the file
    animated: list[memoryview] = []
    start, at, first, controls = 0, len(SIGNATURE), b"", 0
    for _ in range(MAX_CHUNKS):
        if at + 8 > len(data):
            break
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if kind[:1].islower() and end <= len(data):  # ancillary
            still.append(view[start:at])
            animated.append(view[start:at])
            start = end
            if kind in _KEPT and _is_whole(view, at, end) and _makes_sense(png, kind, length):
                animated.append(view[at:end])
                still += [view[at:end]] if kind == b"tRNS" else []
            _look(png, kind, view[at:end])
        elif kind == b"IHDR" and length >= 13 and at + 18 <= len(data):
            png.depth, png.colour = data[at + 16], data[at + 17]
        controls += kind == b"fcTL"
        first = first or (kind if kind in (b"fcTL", b"IDAT") else b"")
        at = end
        if kind == b"IEND":
            break
    else:
        raise ImageError(f"more than {MAX_CHUNKS:,} chunks")
    png.frames = min(png.frames, controls)
    png.frames += first == b"IDAT" or not png.frames  # a picture for who shows no animations
    png.still = b"".join([*still, view[start:]]) if still else data
    png.animated = b"".join([*animated, view[start:]]) if png.frames > 1 else b""
    if png.profile or png.srgb:
        png.gamma, png.colours = None, b""
    if png.coded:  # it goes before all others (PNG 3rd edition, 4.3)
        png.colours = b"" if png.coded[:2] == _SRGB_CODE else png.coded
    return png


def _makes_sense(png: PngFile, kind: bytes, length: int) -> bool:
    """Whether a chunk that is kept has a length that it may have (PNG 3rd edition, 11.3.1)."""
    least, most = _CLEAR_BYTES.get(png.colour, (1, 0)) if kind == b"tRNS" else (0, length)
    return least <= length <= most


def _look(png: PngFile, kind: bytes, chunk: memoryview) -> None:
    """Take from an ancillary chunk what is needed of it, if it is whole and not too long."""
    reader = _READERS.get(kind)
    if reader is not None and len(chunk) <= MAX_SIDE_BYTES and _is_whole(chunk, 0, len(chunk)):
        reader(png, bytes(chunk[8:-4]))


def _frames(png: PngFile, body: bytes) -> None:
    png.frames = min(int.from_bytes(body[:4], "big"), MAX_CHUNKS)


def _is_whole(data: memoryview, at: int, end: int) -> bool:
    """Whether the checksum of the chunk at `at` is right."""
    return zlib.crc32(data[at + 4 : end - 4]) == int.from_bytes(data[end - 4 : end], "big")


def _profile(png: PngFile, body: bytes) -> None:
    name, _, rest = body.partition(b"\0")
    if len(name) < 80 and rest[:1] == b"\0":
        png.profile = _inflated(png, rest[1:])


def _exif(png: PngFile, body: bytes) -> None:
    png.exif = body


def _significant(png: PngFile, body: bytes) -> None:
    colours = body[:3] if png.colour & _RGB else body[:1]
    png.significant = max(colours, default=0) or None


def _gamma(png: PngFile, body: bytes) -> None:
    value = int.from_bytes(body[:4], "big")
    png.gamma = value / 100_000 if value else None


def _srgb(png: PngFile, _: bytes) -> None:
    png.srgb = True


def _chromaticities(png: PngFile, body: bytes) -> None:
    if len(body) == 32:
        found = struct.unpack(">8I", body)
        near = all(abs(a - b) <= 500 for a, b in zip(found, _SRGB_POINTS, strict=True))
        png.colours = b"" if near else body


def _code_points(png: PngFile, body: bytes) -> None:
    png.coded = body


def _packed_text(png: PngFile, body: bytes) -> None:
    key, _, rest = body.partition(b"\0")
    if key in _RAW:
        _unhex(png, _inflated(png, rest[1:]))


def _text(png: PngFile, body: bytes) -> None:
    key, _, rest = body.partition(b"\0")
    if key in _RAW:
        _unhex(png, rest)


def _unhex(png: PngFile, text: bytes) -> None:
    """EXIF or XMP as ImageMagick writes them: three lines, then hexadecimal digits."""
    try:
        body = bytes.fromhex(text.decode("ascii").split("\n", 3)[-1])
    except ValueError:
        return
    if body.startswith((b"<", _XMP_HEAD)):
        png.xmp = png.xmp or body
    else:
        png.exif = png.exif or body


def _unicode_text(png: PngFile, body: bytes) -> None:
    key, _, rest = body.partition(b"\0")
    if key != b"XML:com.adobe.xmp" or len(rest) < 2:
        return
    _, _, text = rest[2:].partition(b"\0")[2].partition(b"\0")
    png.xmp = _inflated(png, text) if rest[0] else text


def _inflated(png: PngFile, packed: bytes) -> bytes:
    """What zlib packed, or nothing where it is broken or longer than MAX_SIDE_BYTES."""
    stream = zlib.decompressobj()
    if png.unpacked > MAX_UNPACKED:
        return b""
    try:
        text = stream.decompress(packed, MAX_SIDE_BYTES)
    except zlib.error:
        png.unpacked += MAX_SIDE_BYTES  # so much it may have been
        return b""
    png.unpacked += len(text)
    return text if stream.eof else b""


_READERS = {
    b"acTL": _frames,
    b"iCCP": _profile,
    b"eXIf": _exif,
    b"sBIT": _significant,
    b"gAMA": _gamma,
    b"cHRM": _chromaticities,
    b"cICP": _code_points,
    b"sRGB": _srgb,
    b"zTXt": _packed_text,
    b"tEXt": _text,
    b"iTXt": _unicode_text,
}

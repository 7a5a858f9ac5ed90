"""Which way up a picture is, by the EXIF or the XMP of its file."""

import re
import struct

from PIL import Image

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
XMP_BYTES = 1 << 20  # of a packet are looked at
_TAG = 0x0112
_INTEGERS = {3: "H", 4: "I"}  # SHORT, as an orientation should be, and LONG
_XMP = re.compile(rb"tiff:Orientation\s*(?:=\s*[\"']|>)\s*([1-8])\b")


def orientation(exif: bytes, xmp: bytes) -> int:
    """Return the orientation, 1 to 8, by EXIF, else by XMP; 1 if neither tells it."""
    return exif_orientation(exif) or xmp_orientation(xmp) or 1


def exif_orientation(exif: bytes) -> int | None:
    """Read tag 0x0112 of the first directory (Exif 2.32, 4.6.2), 1 to 8, or None."""
    exif = exif.removeprefix(b"Exif\0\0").removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return None
    try:
        (directory,) = struct.unpack_from(order + "I", exif, 4)
        (entries,) = struct.unpack_from(order + "H", exif, directory)
        for at in range(directory + 2, directory + 2 + 12 * entries, 12):
            tag, kind = struct.unpack_from(order + "HH", exif, at)
            if tag == _TAG and kind in _INTEGERS:
                (value,) = struct.unpack_from(order + _INTEGERS[kind], exif, at + 8)
                return value if 1 <= value <= 8 else None
    except struct.error:
        return None
    return None


def xmp_orientation(xmp: bytes) -> int | None:
    """Read tiff:Orientation of an XMP packet (XMP part 2, 3.3), 1 to 8, or None."""
    found = _XMP.search(xmp[:XMP_BYTES])
    return int(found[1]) if found else None


def written_orientation(image: Image.Image) -> int:
    """Return the orientation by what Pillow read beside an image: info's exif and xmp."""
    info = image.info
    exif = info.get("exif")
    if not isinstance(exif, bytes):
        exif = _unpacked_profile(info.get("Raw profile type exif"))
    xmp = info.get("xmp") or info.get("XML:com.adobe.xmp") or b""
    return orientation(exif, xmp.encode() if isinstance(xmp, str) else bytes(xmp))


def _unpacked_profile(text: object) -> bytes:
    """EXIF as ImageMagick 6 wrote it into a PNG: three lines, then hexadecimal digits."""
    if not isinstance(text, str):
        return b""
    try:
        return bytes.fromhex("".join(text.split("\n")[3:]))
    except ValueError:
        return b""

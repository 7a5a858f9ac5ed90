"""HEIF and AVIF: what the boxes of an ISO container say beside the decoders (ISO/IEC 14496-12)."""

import re

_META_BYTES, _MAX_BOXES = 4 << 20, 10_000  # that are looked at
_AVIF_EXIF = re.compile(rb"(infe\x02.{7})Exif", re.DOTALL)


def turns(data: bytes) -> bool:
    """Tell whether a file turns or mirrors its picture (ISO/IEC 23008-12, 6.5.10)."""
    meta = _meta(data)
    return b"irot" in meta or b"imir" in meta


def without_exif(data: bytes) -> bytes:
    """Rename an AVIF's EXIF to a name that libavif passes over.

    It would fail the whole picture where that is broken.
    """
    return _AVIF_EXIF.sub(rb"\1skip", data, count=1)


def avif_depth(data: bytes) -> int:
    """Return the bits per channel by the codec's configuration (AV1 in ISOBMFF, 2.3.3)."""
    meta = _meta(data)
    at = meta.find(b"av1C")
    flags = meta[at + 6] if 0 <= at < len(meta) - 6 else 0
    return 8 if not flags & 0x40 else 12 if flags & 0x20 else 10


def _meta(data: bytes) -> bytes:
    """Return the box that describes the items of a file (8.11), wherever it is."""
    at = 0
    for _ in range(_MAX_BOXES):
        size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16], "big")
        if kind == b"meta":
            return data[at : at + min(size or len(data), _META_BYTES)]
        if size < 8 or at + size >= len(data):
            break
        at += size
    return b""

"""The size of a WebP picture, from the first bytes of its file."""

from __future__ import annotations

SIDE = 0x3FFF  # the lower 14 bits


def webp_size(head: bytes) -> tuple[int, int] | None:
    """Read width and height in pixels from 30 bytes; None where they are not a WebP's.

    Source: RFC 9649, sections 2.5 to 2.7.
    """
    if len(head) < 30 or head[:4] != b"RIFF" or head[8:12] != b"WEBP":
        return None
    kind = head[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(head[24:27], "little"), 1 + int.from_bytes(head[27:30], "little")
    if kind == b"VP8L" and head[20] == 0x2F:
        bits = int.from_bytes(head[21:25], "little")
        return 1 + (bits & SIDE), 1 + (bits >> 14 & SIDE)
    if kind == b"VP8 " and head[23:26] == b"\x9d\x01\x2a":
        width, height = (int.from_bytes(head[at : at + 2], "little") for at in (26, 28))
        return width & SIDE, height & SIDE
    return None

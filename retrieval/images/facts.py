"""What a picture's file tells beside its pixels."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PictureFacts:
    """What decoding a file tells beside its pixels.

    format: of its bytes, as `sniff` names it. frames: pictures in it, frames or pages. depth: bits
    a channel that it stores. alpha: whether it has transparency. profile: first 16 hex digits of
    the SHA-256 of a colour profile other than sRGB, or "". note: what a user should know of it,
    such as that its last rows are lacking. perceptual: a hash of the upright picture, or b"".
    """

    format: str = ""
    frames: int = 1
    depth: int = 8
    alpha: bool = False
    profile: str = ""
    note: str | None = None
    perceptual: bytes = b""

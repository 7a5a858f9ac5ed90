"""Cameras' raw files, through rawpy (LibRaw) where the extra `raw` is installed."""

from __future__ import annotations

import io
import re
from functools import lru_cache
from typing import Any

from PIL import Image

from retrieval.errors import ImageError
from retrieval.libraries import distribution, is_installed

RAW_SUFFIX = re.compile(
    r"\.(3fr|arw|cr[23]|crw|dcr|dng|erf|fff|gpr|iiq|kdc|mef|mos|mrw|nef|nrw|orf|pef|raf|rw[2l]|"
    r"sr[2fw]|x3f)"
)
SIGNATURES = re.compile(rb"FUJIFILMCCD-RAW|II(RO|RS|U\0)|MMOR|\0MRM|FOVb|....ftypcrx ", re.DOTALL)
RAW_NEEDED = "a camera raw; to read such files, `pip install '{distribution}[raw]'`"
FULL_SIZE = 0.8  # a preview of so much of the raw's longer side is taken in its place
DEVELOPING_BYTES = 24  # a pixel: samples, LibRaw's own picture, the result
_TURNS = {3: 3, 5: 8, 6: 6}  # LibRaw's flip -> EXIF's orientation


@lru_cache(maxsize=1)
def are_readable() -> bool:
    """Tell whether the extra `raw` is installed."""
    return is_installed("rawpy")


class RawFile:
    """A raw that is open: its size is known, nothing developed. raw: rawpy's."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self.width, self.height, self._flip = raw.sizes.width, raw.sizes.height, raw.sizes.flip

    @classmethod
    def open(cls, data: bytes) -> RawFile:
        """Read a raw's header. Raises ImageError."""
        if not are_readable():
            raise ImageError(RAW_NEEDED.format(distribution=distribution()))
        import rawpy

        raw = rawpy.RawPy()
        try:
            raw.open_buffer(io.BytesIO(data))
            return cls(raw)
        except _errors() as error:
            raise ImageError(f"a camera raw that cannot be read ({_said(error)})") from error

    def preview(self) -> tuple[bytes | None, int]:
        """The embedded JPEG of nearly full size, if there is one, and how the raw is turned."""
        import rawpy

        try:
            thumb = self._raw.extract_thumb()
        except _errors():
            return None, 1
        if thumb.format != rawpy.ThumbFormat.JPEG:
            return None, 1
        return thumb.data, _TURNS.get(self._flip, 1)

    def is_full_size(self, width: int, height: int) -> bool:
        """Whether a preview of this size shows what the raw does."""
        return max(width, height) >= FULL_SIZE * max(self.width, self.height)

    def develop(self) -> Image.Image:
        """The picture as the camera's white balance has it, upright, 8-bit RGB."""
        try:
            pixels = self._raw.postprocess(use_camera_wb=True, output_bps=8)
        except _errors() as error:
            raise ImageError(f"a camera raw that cannot be developed ({_said(error)})") from error
        return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def _errors() -> tuple[type[Exception], ...]:
    """What LibRaw raises."""
    import rawpy

    return rawpy.LibRawError, ValueError


def _said(error: Exception) -> str:
    said = error.args[0] if error.args else error
    return (said.decode(errors="replace") if isinstance(said, bytes) else str(said))[:120]

"""JPEGs: how many scans one has, before it is decoded, and how much of it its file lacks."""

import io
import math
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, cast

import numpy as np
from PIL import Image, JpegImagePlugin

from retrieval.errors import ImageError

MAX_SCANS = 100  # of a component; encoders write 3 to 20
MAX_JPEG_SCANNED = 4_000_000_000  # pixels times scans
FEW_SCANS = 20  # are taken whatever the size
MAY_LACK = 0.05  # share of the rows
_EOI = b"\xff\xd9"
_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")
_SOS, _ALONE = 0xDA, (0x01, 0xD8)
# What Pillow reads beyond the end of: JFIF's, Adobe's and Photoshop's segments, pieces of profiles.
_CUT_SHORT = re.compile(
    rb"\xff(\xe0\0[\6-\x08]JFIF|\xee\0[\7\x08]Adobe|\xe2\0[\x0e\x0f]ICC_PROFILE\0|"
    rb"\xed..Photoshop 3)",
    re.DOTALL,
)
_UNTOUCHED = 3  # level of what no row was written to


@dataclass(frozen=True)
class Scan:
    """One scan: indices of its components, first and last coefficient, whether it only refines."""

    components: bytes
    first: int
    last: int
    refines: bool


class JpegFile(JpegImagePlugin.JpegImageFile):
    """A JPEG, or the first picture of an MPO, that never looks at its EXIF by itself.

    Pillow would, for the resolution, and warn of EXIF that is broken. Where the file ends early,
    what is there is decoded; `lacking` says what is not.
    """

    ended_early = False
    _untouched_rows = 0

    def getexif(self) -> Image.Exif:
        """Return no EXIF: `orientation` reads what is needed of it."""
        return Image.Exif()

    def load_prepare(self) -> None:
        """Prepare as Pillow does; a file cut off begins at a level that tells unwritten rows."""
        if self._im is None and not _ends_well(self.fp):
            level = _UNTOUCHED if self.mode == "L" else (_UNTOUCHED,) * len(self.getbands())
            self.im = Image.new(self.mode, self.size, level).im
        super().load_prepare()

    def load_read(self, read_bytes: int) -> bytes:
        """Read more of the file; after an early end, once, the marker that ends libjpeg's work."""
        part = cast("IO[bytes]", self.fp).read(read_bytes)
        if part or self.ended_early:
            return part
        self.ended_early = True
        self._untouched_rows = _rows_from_bottom(self, np.array(_UNTOUCHED), 0)
        return _EOI

    def lacking(self) -> float:
        """Share of the rows that the file lacks, once it is loaded; at most all that may lack.

        libjpeg fills what is missing with grey. A row counts where neither it had been written
        when the file ended nor anything but grey is in it now.
        """
        grey = np.array(128) if self.mode in ("L", "RGB") else np.array([127, 128])
        rows = min(self._untouched_rows, _rows_from_bottom(self, grey, 1))
        return rows / self.height


def open_jpeg(data: bytes) -> JpegFile:
    """Open a JPEG and read its header, passing over side segments that are cut short.

    Raises what Pillow does.
    """
    try:
        return JpegFile(io.BytesIO(data), "")
    except (SyntaxError, LookupError, struct.error):
        return JpegFile(io.BytesIO(_CUT_SHORT.sub(_without_name, data)), "")


def check_scans(image: JpegFile, data: bytes) -> tuple[bool, list[Scan]]:
    """Count the scans of a JPEG whose header is read, and refuse one that has too many.

    Returns whether it is decoded in several scans, and those that were whole. Raises ImageError.
    """
    if not _has_several_scans(image, data):
        return False, []
    pixels, whole = image.width * image.height, []
    counts = dict.fromkeys(range(256), 0)
    for scans, (scan, ended) in enumerate(_scans(data), start=1):
        for component in scan.components:
            counts[component] += 1
        many = max(counts[component] for component in scan.components or b"\0")
        if many > MAX_SCANS or (scans > FEW_SCANS and scans * pixels > MAX_JPEG_SCANNED):
            raise ImageError(
                f"{scans:,} scans or more, which would take hours to decode; save it again with "
                "another program"
            )
        if ended:
            whole.append(scan)
    return True, whole


def coefficient_bytes(image: JpegFile) -> int:
    """Return the memory in which libjpeg holds all coefficients of a JPEG of several scans."""
    sampling = [h * v for _, h, v, _ in image.layer] or [1]
    return math.ceil(2 * image.width * image.height * sum(sampling) / max(sampling))


def is_complete_enough(image: JpegFile, whole: list[Scan]) -> bool:
    """Tell whether complete scans give the brightness and mean colours of all blocks."""
    ids = [component for component, *_ in image.layer]
    luminance = {
        n for scan in whole if ids[0] in scan.components for n in range(scan.first, scan.last + 1)
    }
    coloured = {c for scan in whole if scan.first == 0 for c in scan.components}
    return luminance >= set(range(64)) and coloured >= set(ids)


def _without_name(segment: re.Match[bytes]) -> bytes:
    """The beginning of a segment whose name nobody knows."""
    return segment[0][:4].ljust(len(segment[0]), b"\0")


def _has_several_scans(image: JpegFile, data: bytes) -> bool:
    """Whether libjpeg reads more than one scan: progressive, or not all components in the first."""
    if image.info.get("progressive"):
        return True
    header = data[: cast("IO[bytes]", image.fp).tell()][
        -8 - 2 * image.layers :
    ]  # it stands behind the first SOS
    return header[:2] != b"\xff\xda" or header[4:5] != bytes([image.layers])


def _scans(data: bytes) -> Iterator[tuple[Scan, bool]]:
    """The scans of a JPEG and whether a marker follows on each, up to its end (ITU T.81, B.2)."""
    at, waiting = 2, None
    while found := _MARKER.search(data, at):
        marker, at = found[1][0], found.end()
        if waiting is not None:
            yield waiting, True
            waiting = None
        if marker == _EOI[1]:
            return
        if marker in _ALONE:
            continue
        body = data[at + 2 : at + int.from_bytes(data[at : at + 2], "big")]
        at += max(2, len(body) + 2)
        if marker == _SOS and body:
            tail = body[1 + 2 * body[0] :] + bytes(3)
            waiting = Scan(body[1 : 1 + 2 * body[0] : 2], tail[0], tail[1], tail[2] >> 4 > 0)
    if waiting is not None:
        yield waiting, False


def _ends_well(file: object) -> bool:
    """Whether the last two bytes are JPEG's end marker."""
    view = file.getbuffer()  # type: ignore[attr-defined]  # always a BytesIO here
    return bytes(view[-2:]) == _EOI


def _rows_from_bottom(image: JpegFile, level: np.ndarray, tolerance: int) -> int:
    """How many of the last rows are of one level; those beyond what may lack are not looked at."""
    rows = math.ceil(MAY_LACK * image.height) + 1
    top = max(0, image.height - rows)
    core = image.im.crop((0, top, *image.size))
    strip = np.asarray(Image.Image()._new(core), np.int16)
    off = np.abs(strip[..., None] - level.reshape(-1)).min(axis=-1) > tolerance
    written = np.flatnonzero(off.reshape(len(strip), -1).any(axis=1))
    return len(strip) - 1 - int(written[-1]) if len(written) else len(strip)

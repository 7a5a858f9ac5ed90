"""JPEG XL, through pillow-jxl-plugin's decoder where the extra `jxl` is installed."""

from functools import lru_cache
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from typing import Any

from PIL import Image

from retrieval.errors import ImageError
from retrieval.libraries import distribution, is_installed

JXL_NEEDED = "a JPEG XL; to read such files, `pip install '{distribution}[jxl]'`"
CONTAINER = b"\0\0\0\x0cJXL \r\n\x87\n"
CODESTREAM = b"\xff\x0a"
DECODING_BYTES = 28  # a pixel: float planes of libjxl, its result, Python's and Pillow's copies
_PACKAGE = "pillow_jxl"
_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}
_MAX_BOXES = 10_000


@lru_cache(maxsize=1)
def is_readable() -> bool:
    """Whether the extra is installed."""
    return is_installed(_PACKAGE)


def jxl_size(data: bytes) -> tuple[int, int]:
    """Read width and height from the header (ISO/IEC 18181-1, SizeHeader). Raises ImageError."""
    bits = _Bits(_codestream(data)[2:40])
    if bits.take(1):  # small: multiples of 8
        height = 8 * (bits.take(5) + 1)
        ratio = bits.take(3)
        width = 0 if ratio else 8 * (bits.take(5) + 1)
    else:
        height = bits.take((9, 13, 18, 30)[bits.take(2)]) + 1
        ratio = bits.take(3)
        width = 0 if ratio else bits.take((9, 13, 18, 30)[bits.take(2)]) + 1
    if ratio:
        across, down = _RATIOS[ratio]
        width = height * across // down
    return width, height


def decode_jxl(data: bytes) -> tuple[bytes | Image.Image, bytes]:
    """Decode to the packed JPEG or else the picture, and the profile. Raises ImageError.

    The decoder turns the picture upright by what the codestream says.
    """
    if not is_readable():
        raise ImageError(JXL_NEEDED.format(distribution=distribution()))
    try:
        is_jpeg, info, pixels, profile, _ = _decoder()(num_threads=0)(data)
    except Exception as error:  # the extension has errors of its own
        raise ImageError("damaged or truncated (libjxl refuses it)") from error
    if is_jpeg:
        return bytes(pixels), b""
    mode = "F" if info.mode == "F;16" else info.mode
    try:
        image = Image.frombytes(mode, (info.width, info.height), bytes(pixels))
    except ValueError as error:
        raise ImageError(f"a kind of JPEG XL that this program does not read ({error})") from error
    return image, bytes(profile or b"")


@lru_cache(maxsize=1)
def _decoder() -> Any:
    """The decoder alone: importing the package would add it to Pillow's registry for everybody."""
    package = find_spec(_PACKAGE)
    places = list(package.submodule_search_locations or ()) if package else []
    spec = PathFinder.find_spec(_PACKAGE, places)
    if spec is None or spec.loader is None:
        raise ImageError("the package pillow-jxl-plugin has no decoder; install it again")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Decoder


def _codestream(data: bytes) -> bytes:
    """The beginning of the codestream: the file's own, or that of the first box that has some."""
    if data.startswith(CODESTREAM):
        return data[:64]
    at = 0
    for _ in range(_MAX_BOXES):
        size, kind, header = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8], 8
        if size == 1:
            size, header = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        if kind in (b"jxlc", b"jxlp"):
            start = at + header + (4 if kind == b"jxlp" else 0)
            if data[start : start + 2] == CODESTREAM:
                return data[start : start + 64]
        if size < header or at + size >= len(data):
            break
        at += size
    raise ImageError("damaged or truncated (no codestream)")


class _Bits:
    """Bits of a codestream, the lowest of each byte first."""

    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data, "little"), 8 * len(data)

    def take(self, count: int) -> int:
        if count > self._left:
            raise ImageError("damaged or truncated (its header ends early)")
        value = self._value & ((1 << count) - 1)
        self._value >>= count
        self._left -= count
        return value

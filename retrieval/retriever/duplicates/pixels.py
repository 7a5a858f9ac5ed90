"""Files -> a hash of all that they show: frames or pages and their time, depth, transparency.

Files of equal hashes show the same, however they are compressed. What cannot be compared to the
last bit (an animation of too many frames, 10 bits a channel that are decoded to 8) has a hash that
only the same content has.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from PIL import (
    AvifImagePlugin,
    GifImagePlugin,
    Image,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from retrieval.errors import ImageError
from retrieval.images import greys, read_bytes
from retrieval.images.animation import later_frames
from retrieval.images.budget import process_budget
from retrieval.images.colour import name_of
from retrieval.images.greys import STRIP_PIXELS
from retrieval.images.opened import Opened, decoder_errors_as_image_errors, open_bytes
from retrieval.images.orientation import TURNS
from retrieval.loader import TOO_SLOW, default_workers
from retrieval.progress import Progress
from retrieval.threads import map_ahead


def _heif(stream: io.BytesIO) -> Image.Image:
    from pillow_heif import HeifImageFile

    return HeifImageFile(stream, "")


_FRAMES: dict[str, Callable[[io.BytesIO], Image.Image]] = {
    "GIF": lambda stream: GifImagePlugin.GifImageFile(stream, ""),
    "PNG": lambda stream: PngImagePlugin.PngImageFile(stream, ""),
    "WEBP": lambda stream: WebPImagePlugin.WebPImageFile(stream, ""),
    "AVIF": lambda stream: AvifImagePlugin.AvifImageFile(stream, ""),
    "TIFF": lambda stream: TiffImagePlugin.TiffImageFile(stream, ""),
    "HEIF": _heif,
}


def hash_pixels(picture: Image.Image) -> str:
    """Hash a picture's width, height and pixels by SHA-256, hex, strip by strip."""
    digest = hashlib.sha256(f"{picture.width} {picture.height} ".encode())
    rows = max(1, STRIP_PIXELS // picture.width)
    for top in range(0, picture.height, rows):
        bottom = min(picture.height, top + rows)
        digest.update(picture.crop((0, top, picture.width, bottom)).tobytes())
    return digest.hexdigest()


def hash_files(
    files: Sequence[tuple[Path, str]], *, max_pixels: int, progress: Progress | None = None
) -> list[tuple[str, str | None]]:
    """Hash what each file shows: a hash and None, or "" and why it cannot be used.

    files: path and SHA-256 of the content that was indexed. They are decoded whole, one a core at
    a time, with the limits that indexing has.
    """
    hash_file = partial(_hash_file, max_pixels=max_pixels)
    found = []
    with closing(map_ahead(hash_file, files, late=_late, workers=default_workers())) as hashes:
        for hashed in hashes:
            found.append(hashed)
            if progress:
                progress("decoding", len(found), len(files))
    return found


def _late(_: tuple[Path, str]) -> tuple[str, str | None]:
    return "", TOO_SLOW


def hash_shown(data: bytes, max_pixels: int) -> str:
    """Hash all that an encoded image shows. Raises ImageError when it cannot be decoded."""
    with decoder_errors_as_image_errors():
        opened = open_bytes(data, max_pixels)
        facts = [opened.frames, opened.depth, name_of(opened.profile), opened.format == "RAW"]
        facts += [opened.white, opened.inverted, opened.gamma, opened.colours]
        with process_budget().holding(2 * opened.bytes_needed()):
            opened.image.load()
            facts += _first(opened)
        whole = opened.depth == 8 or greys.is_deep(opened.image) or opened.low is not None
        if opened.frames > 1:
            later = list(_later(opened, data))
            whole = whole and len(later) == opened.frames - 1
            facts += later
        if not whole:
            facts.append(hashlib.sha256(data).hexdigest())
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def _first(opened: Opened) -> Iterator[str]:
    """The first frame or the main page, and the low bytes of one of 16-bit RGB."""
    images = [opened.image]
    if opened.low is not None:
        low = opened.low()
        low.load()
        images.append(low)
    for image in images:
        turned = (
            image.transpose(TURNS[opened.orientation]) if opened.orientation in TURNS else image
        )
        yield hash_pixels(_as_shown(turned))


def _later(opened: Opened, data: bytes) -> Iterator[str]:
    """The frames or pages behind the first, as far as they can be decoded within bounds."""
    with process_budget().holding(2 * opened.bytes_needed()):
        for frame in later_frames(lambda: _FRAMES[opened.format](io.BytesIO(data)), opened.frames):
            shown_for = round(frame.info.get("duration") or 0)  # ms
            yield f"{hash_pixels(_as_shown(frame))} {shown_for}"


def _as_shown(image: Image.Image) -> Image.Image:
    """RGB, RGBA where some of it is clear, and deep greys as they are."""
    if greys.is_deep(image):
        return image
    if not image.has_transparency_data:
        return image.convert("RGB")
    rgba = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
    alpha = rgba.getchannel("A")
    if alpha.getextrema()[0] == 255:
        return rgba.convert("RGB")
    nothing = Image.new("RGBA", rgba.size)  # what is below clear pixels does not show
    nothing.paste(rgba, mask=alpha.point(lambda a: 255 if a else 0))
    return nothing


def _hash_file(file: tuple[Path, str], *, max_pixels: int) -> tuple[str, str | None]:
    path, sha256 = file
    try:
        data, _ = read_bytes(path)
        if hashlib.sha256(data).hexdigest() != sha256:
            return "", "changed since it was indexed"
        return hash_shown(data, max_pixels), None
    except ImageError as error:
        return "", str(error)

"""What stands beside the pixels never fails a picture, and what a cut took is told."""

from __future__ import annotations

import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from retrieval.errors import ImageError
from retrieval.images import decode, open_image
from retrieval.images.png import MAX_SIDE_BYTES, MAX_UNPACKED, take_apart
from tests.retrieval.files import chunk, png
from tests.retrieval.test_decoding import SQUASH, encoded, quarters
from tests.retrieval.test_images import difference, turned
from tests.samples import picture

MEGABYTES = 1_500_000


def png_with(*chunks: bytes, image: Image.Image | None = None, behind: bool = False) -> bytes:
    data = encoded(image or quarters(), "PNG")
    at = len(data) - 12 if behind else 33
    return data[:at] + b"".join(chunks) + data[at:]


BESIDE = {
    "a large profile": chunk(b"iCCP", b"press\0\0" + zlib.compress(os.urandom(MEGABYTES))),
    "large packed text": chunk(b"zTXt", b"workflow\0\0" + zlib.compress(b"{}" * MEGABYTES)),
    "large unicode text": chunk(b"iTXt", b"w\0\1\0\0\0" + zlib.compress(b"{}" * MEGABYTES)),
    "a bomb of text": chunk(b"zTXt", b"w\0\0" + zlib.compress(bytes(100_000_000))),
    "text that is no zlib": chunk(b"zTXt", b"w\0\0" + b"none"),
    "text packed in another way": chunk(b"zTXt", b"w\0\7" + b"none"),
    "a profile packed in another way": chunk(b"iCCP", b"x\0\7" + b"none"),
    "short facts": b"".join(chunk(k, b"") for k in (b"gAMA", b"cHRM", b"sRGB", b"pHYs", b"acTL")),
    "an unknown chunk": chunk(b"prVt", os.urandom(100)),
}
WRONG = [b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"pHYs", b"gAMA", b"tIME", b"tRNS", b"eXIf", b"acTL"]


@pytest.mark.parametrize("what", BESIDE)
@pytest.mark.parametrize("behind", [False, True])
def test_a_png_is_read_whatever_stands_beside_its_pixels(what: str, behind: bool) -> None:
    data = png_with(BESIDE[what], behind=behind)
    assert difference(open_image(data)[0], quarters()) == 0


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_checksum_of_an_ancillary_chunk_fails_no_png(kind: bytes) -> None:
    body = turned(6).tobytes()[6:] if kind == b"eXIf" else b"Comment\0hi there, you"
    data = png_with(chunk(kind, body, wrong=True))
    assert open_image(data)[1:] == (80, 40)
    assert difference(open_image(data)[0], quarters()) == 0


def test_a_wrong_checksum_of_a_critical_chunk_fails_a_png() -> None:
    data = bytearray(encoded(quarters(), "PNG"))
    data[29] ^= 1  # of IHDR
    with pytest.raises(ImageError, match="damaged"):
        open_image(bytes(data))


def test_many_small_chunks_do_not_hide_the_orientation_of_a_png() -> None:
    exif = chunk(b"eXIf", turned(6).tobytes()[6:])
    data = png_with(*[chunk(b"tEXt", b"a\0b")] * 2000, exif)
    assert open_image(data)[1:] == (40, 80)


def test_broken_frames_of_a_png_leave_its_own_picture() -> None:
    frames = chunk(b"acTL", struct.pack(">II", 3, 0)) + chunk(b"fcTL", bytes(26))
    assert difference(open_image(png_with(frames))[0], quarters()) == 0


@pytest.mark.parametrize("colour", [0, 2, 3, 6])
@pytest.mark.parametrize("length", [0, 1, 3, 300])
def test_transparency_of_a_length_that_means_nothing_fails_no_png(colour: int, length: int) -> None:
    channels = {2: 3, 6: 4}.get(colour, 1)
    pixels = np.full((8, 8, channels), 255, np.uint8)
    palette = [chunk(b"PLTE", bytes([255]) * 768)] if colour == 3 else []
    data = png(pixels, *palette, chunk(b"tRNS", b"\xff" * length), colour=colour)
    assert difference(open_image(data)[0], np.full((8, 8, 3), 255, np.uint8)) == 0


def test_much_packed_text_of_a_png_is_unpacked_within_bounds() -> None:
    hidden = zlib.compress(b"\n" * 4_000_000)
    data = png_with(*[chunk(b"zTXt", b"Raw profile type exif\0\0" + hidden)] * 60)
    assert difference(open_image(data)[0], quarters()) == 0
    assert take_apart(data).unpacked <= MAX_UNPACKED + MAX_SIDE_BYTES


def test_a_still_picture_before_an_animation_is_not_taken_for_its_only_frame() -> None:
    white = Image.new("RGB", (80, 40), "white")
    data = encoded(white, "PNG", save_all=True, default_image=True, append_images=[quarters()])
    assert difference(open_image(data)[0], quarters()) == 0
    assert decode(data, SQUASH).facts.frames == 2


@pytest.mark.parametrize(
    "segment",
    [b"\xff\xe0\0\6JFIF", b"\xff\xe0\0\7JFIF\0", b"\xff\xee\0\7Adobe",
     b"\xff\xe2\0\x0eICC_PROFILE\0", b"\xff\xe2\0\x0fICC_PROFILE\0\1",
     b"\xff\xed\0\x16Photoshop 3.0\x008BIM\3\xed"],
)  # fmt: skip
def test_a_segment_that_is_cut_short_fails_no_jpeg(segment: bytes) -> None:
    data = encoded(quarters(), "JPEG", quality=95, exif=turned(3))
    image = open_image(data[:2] + segment + data[2:])[0]
    assert difference(image, quarters().rotate(180)) < 4


@pytest.mark.parametrize("marker", [0xE1, 0xE2, 0xED, 0xEE, 0xFE])
def test_a_segment_full_of_noise_fails_no_jpeg(marker: int) -> None:
    data = encoded(picture(1), "JPEG", quality=95)
    for body in (os.urandom(60_000), b"ICC_PROFILE\0\1\2" + os.urandom(50), b"Exif\0\0" + b"x"):
        segment = struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body
        assert difference(open_image(data[:2] + segment + data[2:])[0], picture(1)) < 6


# --- JPEGs that lack their end


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("bytes_lacking", [2, 10, 60])
def test_a_jpeg_that_lacks_its_last_bytes_is_read_and_marked(mode: str, bytes_lacking: int) -> None:
    image = picture(1, 1200, 800).convert(mode)
    data = encoded(image, "JPEG", quality=95)
    found = decode(data[:-bytes_lacking], SQUASH)
    assert difference(found.pixels, decode(data, SQUASH).pixels) < 3
    assert found.facts.note is not None
    assert found.facts.note.startswith("lacks its")
    assert decode(data, SQUASH).facts.note is None


def test_a_small_jpeg_without_its_end_marker_lacks_nothing_else() -> None:
    data = encoded(picture(1), "JPEG", quality=95)
    image, *_ = open_image(data[:-2])
    assert difference(image, open_image(data)[0]) == 0


def test_a_jpeg_that_lacks_a_twentieth_of_its_rows_says_how_many() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1600, 800), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), "JPEG", quality=80)
    note = decode(data[: -len(data) // 50], SQUASH).facts.note
    assert note in ("lacks its last 2 % of rows", "lacks its last 3 % of rows")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_jpeg_that_lacks_more_is_refused(share: float) -> None:
    data = encoded(picture(1, 1200, 800), "JPEG", quality=95)
    for target in (None, 64):
        with pytest.raises(ImageError, match=r"^truncated"):
            open_image(data[: int(len(data) * (1 - share))], target=target)


def test_a_black_end_of_a_picture_is_not_taken_for_a_missing_one() -> None:
    image = picture(1, 800, 600)
    image.paste((0, 0, 0), (0, 300, 800, 600))
    data = encoded(image, "JPEG", quality=95)
    assert difference(open_image(data[:-2])[0], image) < 4


def test_a_jpeg_with_bytes_behind_its_end_lacks_nothing() -> None:
    data = encoded(picture(1), "JPEG", quality=95) + os.urandom(100)
    assert decode(data, SQUASH).facts.note is None


def test_a_progressive_jpeg_that_lacks_its_last_scan_is_read_and_marked() -> None:
    image = picture(2, 900, 600)
    data = encoded(image, "JPEG", quality=92, progressive=True)
    last = data.rindex(b"\xff\xda")
    found = decode(data[: last + 40], SQUASH)
    assert found.facts.note == "lacks its last scans"
    assert difference(found.pixels, decode(data, SQUASH).pixels) < 4
    with pytest.raises(ImageError, match=r"^truncated"):
        decode(data[: data.index(b"\xff\xda") + 60], SQUASH)


def test_an_image_in_memory_is_not_asked_what_it_lacks() -> None:
    stream = io.BytesIO(encoded(picture(1), "JPEG"))
    with Image.open(stream) as image:
        assert decode(image, SQUASH).facts.note is None

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from retrieval.errors import ImageError
from retrieval.images import Preprocessing, decode, fit_square, open_image, sniff, thumbnail
from tests.samples import picture

SQUASH = Preprocessing(64, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
FORMATS = ["JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "PPM", "HEIF"]


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    if kind == "HEIF":
        pillow_heif.from_pillow(image).save(stream, quality=95)
    else:
        image.save(stream, kind, **options)
    return stream.getvalue()


def rgb(image: Image.Image) -> list[tuple[int, ...]]:
    """The colours of the four quarters, in reading order."""
    w, h = image.size
    places = [
        (w // 4, h // 4),
        (3 * w // 4, h // 4),
        (w // 4, 3 * h // 4),
        (3 * w // 4, 3 * h // 4),
    ]
    return [image.getpixel(place) for place in places]  # type: ignore[misc]


def quarters() -> Image.Image:
    image = Image.new("RGB", (80, 40), "white")
    image.paste((255, 0, 0), (0, 0, 40, 20))
    image.paste((0, 255, 0), (40, 0, 80, 20))
    image.paste((0, 0, 255), (0, 20, 40, 40))
    return image


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_is_told_and_decoded(kind: str) -> None:
    data = encoded(picture(0), kind)
    assert sniff(data[:32]) == kind
    image, width, height = open_image(data)
    assert (image.mode, width, height) == ("RGB", 80, 60)
    difference = np.abs(np.asarray(image, int) - np.asarray(picture(0), int))
    assert difference.mean() < 8


def test_the_first_frame_of_an_animation_is_used() -> None:
    data = encoded(quarters(), "GIF", save_all=True, append_images=[picture(3, 80, 40)])
    assert rgb(open_image(data)[0])[0] == (255, 0, 0)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_exif_orientation_is_applied(kind: str, orientation: int) -> None:
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(quarters(), kind, exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    image, width, height = open_image(data)
    assert image.size == (width, height) == upright.size
    assert np.abs(np.array(rgb(image)) - np.array(rgb(upright))).max() <= 2


def test_grey_of_16_bits_is_scaled_not_cut_off(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 256, dtype=np.uint16).reshape(16, 16)
    for kind in ("PNG", "TIFF"):
        pixels = np.asarray(open_image(encoded(Image.fromarray(ramp), kind))[0])
        assert np.abs(pixels[..., 0].astype(int) - np.rint(ramp / 257)).max() <= 1


def test_cmyk_palette_one_bit_and_float_become_rgb() -> None:
    red = Image.new("RGB", (8, 8), (200, 30, 40))
    cmyk = open_image(encoded(red.convert("CMYK"), "TIFF"))[0].getpixel((3, 3))
    assert cmyk == (200, 30, 40)
    palette = open_image(encoded(red.quantize(4), "PNG"))[0].getpixel((3, 3))
    assert palette == (200, 30, 40)
    assert open_image(encoded(Image.new("1", (8, 8), 1), "PNG"))[0].getpixel((3, 3)) == (255,) * 3
    half = Image.fromarray(np.full((8, 8), 0.5, np.float32))
    assert open_image(encoded(half, "TIFF"))[0].getpixel((3, 3)) == (128, 128, 128)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_lies_on_white(mode: str) -> None:
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 0)).convert(mode)
    data = encoded(image, "PNG", **({"transparency": 0} if mode == "P" else {}))
    assert open_image(data)[0].getpixel((3, 3)) == (255, 255, 255)


@pytest.mark.parametrize("size", [(1000, 700), (1201, 803), (4000, 3000), (640, 3001)])
def test_reduced_decoding_gives_nearly_the_pixels_of_full_decoding(size: tuple[int, int]) -> None:
    image = picture(1, *size)
    data = encoded(image, "JPEG", quality=92)
    full = image.resize((64, 64), Image.Resampling.BICUBIC)
    reduced = decode(data, SQUASH)
    assert (reduced.width, reduced.height) == size
    difference = np.abs(reduced.pixels.astype(int) - np.asarray(full, int))
    assert difference.mean() < 1.5
    assert open_image(data, target=64)[0].size < image.size


def test_crop_is_timms_own_evaluation_transform() -> None:
    from timm.data import create_transform

    crop = Preprocessing(64, SQUASH.mean, SQUASH.std, fit="crop", crop_pct=0.875)
    for size in ((120, 90), (90, 121), (300, 200)):
        theirs = create_transform(
            64, mean=(0, 0, 0), std=(1, 1, 1), crop_pct=0.875, interpolation="bicubic"
        )(picture(2, *size))
        ours = np.asarray(fit_square(picture(2, *size), crop), float)
        difference = np.abs(ours - theirs.permute(1, 2, 0).numpy() * 255)
        assert difference.mean() < 2


def test_pad_keeps_the_whole_picture_on_the_mean_colour() -> None:
    pad = Preprocessing(64, (0.5, 0.5, 0.5), SQUASH.std, fit="pad")
    pixels = np.asarray(fit_square(Image.new("RGB", (80, 40), "red"), pad))
    assert (pixels[16:48] == [255, 0, 0]).all()
    assert (pixels[:16] == 128).all()


def test_a_region_is_cut_from_the_upright_picture() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encoded(quarters().rotate(90, expand=True), "PNG", exif=exif)
    pixels = decode(turned, SQUASH, crop=(42, 2, 30, 16)).pixels
    assert (pixels == [0, 255, 0]).all()


def test_a_region_outside_is_refused_with_the_pictures_size() -> None:
    with pytest.raises(
        ImageError, match="inside the picture, which is 80 x 60 pixels; give a smaller"
    ):
        decode(encoded(picture(0), "PNG"), SQUASH, crop=(70, 0, 20, 10))


@pytest.mark.parametrize("kind", FORMATS)
def test_a_truncated_file_fails_with_a_reason(kind: str) -> None:
    data = encoded(picture(0, 400, 300), kind)
    with pytest.raises(ImageError, match=r"\w"):
        decode(data[: len(data) // 2], SQUASH)


def test_a_bomb_is_refused_before_it_is_decoded() -> None:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk
    bomb += struct.pack(">I", zlib.crc32(chunk))
    idat = b"IDAT" + zlib.compress(bytes(100))
    bomb += struct.pack(">I", len(idat) - 4) + idat + struct.pack(">I", zlib.crc32(idat))
    with pytest.raises(ImageError, match=r"3,600,000,000 pixels, more than --max-pixels"):
        decode(bomb, SQUASH)


def test_max_pixels_may_be_raised_beyond_pillows_own_limit() -> None:
    from PIL import Image as module

    wide = encoded(Image.new("1", (16_000, 12_000)), "PNG")
    assert decode(wide, SQUASH, max_pixels=192_000_000).pixels.shape == (64, 64, 3)
    assert module.MAX_IMAGE_PIXELS is not None


def test_a_missing_file_a_folder_and_an_empty_file_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(ImageError, match="does not exist"):
        decode(tmp_path / "none.jpg", SQUASH)
    with pytest.raises(ImageError, match="a folder"):
        decode(tmp_path, SQUASH)
    with pytest.raises(ImageError, match="empty file"):
        decode(tmp_path / "empty.jpg", SQUASH)


def test_arrays_and_pictures_are_taken_as_they_are() -> None:
    pixels = np.asarray(picture(0))
    assert (decode(pixels, SQUASH).pixels == decode(picture(0), SQUASH).pixels).all()
    for wrong in (pixels.astype(float), pixels[..., :2], np.zeros((0, 3, 3), np.uint8)):
        with pytest.raises(ImageError, match="uint8"):
            decode(wrong, SQUASH)


def test_a_thumbnail_is_small_and_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert thumbnail(encoded(picture(0, 800, 600), "JPEG", exif=exif), 100).size == (75, 100)


@given(st.binary(max_size=64))
def test_sniffing_never_fails(header: bytes) -> None:
    assert sniff(header) in {*FORMATS, "RAW", "JXL", None}


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(FORMATS), st.data())
def test_damaged_content_raises_image_error_alone(kind: str, data: st.DataObject) -> None:
    content = bytearray(encoded(picture(0), kind))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        pixels = decode(bytes(content), SQUASH, max_pixels=1_000_000).pixels
    except ImageError:
        return
    assert pixels.shape == (64, 64, 3)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 300), st.integers(1, 300), st.sampled_from(["squash", "crop", "pad"]),
    st.floats(0.5, 1),
)  # fmt: skip
def test_any_picture_becomes_the_square(width: int, height: int, fit: str, crop: float) -> None:
    wanted = Preprocessing(32, SQUASH.mean, SQUASH.std, fit=fit, crop_pct=crop)  # type: ignore[arg-type]
    assert fit_square(Image.new("RGB", (width, height)), wanted).size == (32, 32)


def test_an_unknown_interpolation_is_refused() -> None:
    with pytest.raises(ValueError, match="interpolation"):
        Preprocessing(64, SQUASH.mean, SQUASH.std, interpolation="magic")

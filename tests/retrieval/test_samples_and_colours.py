"""What samples mean: deep greys, colour profiles, and the ground below what is clear."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from retrieval.images import decode, open_image, thumbnail
from tests.retrieval.files import (
    BITS,
    COUNTS,
    MAX_SAMPLE,
    PHOTOMETRIC,
    PLANAR,
    PROPHOTO,
    SAMPLE_FORMAT,
    SAMPLES,
    SRGB,
    STRIPS,
    Page,
    chunk,
    png,
    profile,
    tiff,
)
from tests.retrieval.test_decoding import SQUASH, encoded, quarters
from tests.retrieval.test_images import difference
from tests.samples import picture

GREY = np.asarray(picture(4).convert("L"))
DEEP = GREY.astype(np.uint16)


def grey(data: object) -> np.ndarray:
    return np.asarray(open_image(data)[0])[..., 0]  # type: ignore[arg-type]


# --- more than 8 bits


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bits", [16, 12])
def test_a_tiff_whose_white_is_zero_is_not_inverted(order: str, bits: int) -> None:
    most = (1 << bits) - 1
    stored = (most - (DEEP.astype(int) * most // 255)).astype(np.uint16)
    tags = {PHOTOMETRIC: [0]} | ({MAX_SAMPLE: [most]} if bits == 12 else {})
    assert difference(grey(tiff(Page(stored, tags), order=order)), GREY) < 1


def test_floats_whose_white_is_zero_are_not_inverted() -> None:
    stored = 1 - GREY.astype(np.float32) / 255
    tags = {PHOTOMETRIC: [0], SAMPLE_FORMAT: [3]}
    assert difference(grey(tiff(Page(stored, tags))), GREY) < 1


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("kind", ["TIFF", "PNG"])
def test_fewer_bits_in_a_file_of_16_keep_their_shades(kind: str, bits: int) -> None:
    stored = (DEEP.astype(int) * ((1 << bits) - 1) // 255).astype(np.uint16)
    stored[0, 0] = (1 << bits) - 1
    data = tiff(Page(stored)) if kind == "TIFF" else encoded(Image.fromarray(stored), "PNG")
    assert difference(grey(data)[1:], GREY[1:]) < 1


def test_the_largest_sample_that_a_tiff_names_is_white() -> None:
    data = tiff(Page(DEEP, {MAX_SAMPLE: [1000]}))
    assert difference(grey(data), GREY * (255 / 1000)) < 1


def test_the_bits_that_a_png_names_say_what_is_white() -> None:
    stream = io.BytesIO()
    info = PngInfo()
    info.add(b"sBIT", bytes([12]))
    Image.fromarray(DEEP).save(stream, "PNG", pnginfo=info)
    assert difference(grey(stream.getvalue()), GREY / 16) < 1


def test_an_image_of_mode_i_with_small_values_is_not_black() -> None:
    assert difference(grey(Image.fromarray(GREY).convert("I")), GREY) == 0


def test_a_pgm_is_scaled_by_the_largest_value_that_it_names() -> None:
    data = b"P5 %d %d 4095\n" % GREY.shape[::-1] + (DEEP * 16).astype(">u2").tobytes()
    assert difference(grey(data), GREY) < 1
    dark = b"P5 %d %d 65535\n" % GREY.shape[::-1] + DEEP.astype(">u2").tobytes()
    assert grey(dark).max() == 1


@pytest.mark.parametrize("order", ["<", ">"])
def test_colours_of_12_bits_in_a_tiff_of_16_are_not_black(order: str) -> None:
    colours = np.asarray(picture(5)).astype(np.uint16) * 16
    assert difference(open_image(tiff(Page(colours), order=order))[0], picture(5)) < 1


def test_colours_of_12_bits_in_a_compressed_tiff_and_a_png_are_not_black() -> None:
    colours = np.asarray(picture(5)).astype(">u2") * 16
    data = png(colours, colour=2)
    assert difference(open_image(data)[0], picture(5)) < 1
    assert decode(data, SQUASH).facts.depth == 16


@pytest.mark.parametrize("opaque", [4095, 65535])
def test_colours_of_12_bits_with_transparency_are_not_black(opaque: int) -> None:
    colours = np.full((60, 80, 4), opaque, np.uint16)
    colours[..., :3] = np.asarray(picture(5)).astype(np.uint16) * 16
    colours[0, 0, 3] = 0
    data = tiff(Page(colours, {338: [2]}))
    image = np.asarray(open_image(data)[0])
    assert difference(image[1:], np.asarray(picture(5))[1:]) < 1
    assert tuple(image[0, 0]) == (255, 255, 255)


def test_full_colours_of_16_bits_are_as_they_were() -> None:
    colours = np.asarray(picture(5)).astype(np.uint16) * 257
    assert difference(open_image(tiff(Page(colours)))[0], picture(5)) == 0


def planes(pixels: np.ndarray, order: str = "<", extra: list[int] | None = None) -> bytes:
    """A TIFF of 16 bits whose colours lie one behind the other."""
    stored = np.moveaxis(pixels, 2, 0).astype(order + "u2").tobytes()
    size, count = len(stored) // pixels.shape[2], pixels.shape[2]
    places = [8 + n * size for n in range(count)]
    tags = {BITS: [16] * count, PLANAR: [2], STRIPS: places, COUNTS: [size] * count}
    tags |= {SAMPLES: [count]} | ({338: extra} if extra else {})
    return tiff(Page(stored, dict(tags), size=(pixels.shape[1], pixels.shape[0])), order=order)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("scale", [257, 16])
def test_colours_of_16_bits_in_planes_of_their_own_are_read(order: str, scale: int) -> None:
    data = planes(np.asarray(picture(5)).astype(np.uint16) * scale, order)
    assert difference(open_image(data)[0], picture(5)) < 1


@pytest.mark.parametrize("meaning", [0, 2])
def test_a_fourth_plane_is_transparency_or_nothing(meaning: int) -> None:
    pixels = np.asarray(picture(5).convert("RGBA")).astype(np.uint16) * 257
    data = planes(pixels, extra=[meaning])
    assert difference(open_image(data)[0], picture(5)) < 1


@pytest.mark.parametrize("order", ["<", ">"])
def test_one_channel_in_a_plane_of_its_own_is_grey_as_any_other(order: str) -> None:
    inverted = {PLANAR: [2], PHOTOMETRIC: [0]}
    for page in (
        Page(255 - GREY, inverted),
        Page(DEEP * 257, {PLANAR: [2]}),
        Page(65535 - DEEP * 257, inverted),
        Page(GREY.astype(np.float32) / 255, {PLANAR: [2], SAMPLE_FORMAT: [3]}),
    ):
        assert difference(grey(tiff(page, order=order)), GREY) < 1


def test_grey_of_32_bits_has_no_sign_unless_it_says_so() -> None:
    stored = GREY.astype(np.uint32) * 0x01010101
    stored[0, :2] = 0xFFFFFFFF, 0
    assert difference(grey(tiff(Page(stored)))[1:], GREY[1:]) < 1
    assert difference(grey(tiff(Page(~stored, {PHOTOMETRIC: [0]})))[1:], GREY[1:]) < 1


@pytest.mark.parametrize("opaque", [4095, 65535])
def test_grey_of_12_bits_with_transparency_is_not_black(opaque: int) -> None:
    stored = np.dstack([DEEP * 16, np.full_like(DEEP, opaque)])
    data = png(stored.astype(">u2"), colour=4)
    assert difference(grey(data), GREY) < 1
    brighter = png(stored.astype(">u2"), chunk(b"sBIT", bytes([12, 16])), colour=4)
    assert difference(grey(brighter), GREY) < 1


def test_the_depth_of_a_file_is_a_fact() -> None:
    assert decode(tiff(Page(DEEP)), SQUASH).facts.depth == 16
    assert decode(encoded(picture(1), "JPEG"), SQUASH).facts.depth == 8
    assert decode(encoded(Image.new("1", (8, 8)), "PNG"), SQUASH).facts.depth == 8
    assert decode(encoded(Image.fromarray(DEEP * 257), "PNG"), SQUASH).facts.depth == 16


# --- profiles


def with_profile(image: Image.Image, wanted: bytes, kind: str) -> bytes:
    """The image as the numbers of another profile, with that profile."""
    there = ImageCms.ImageCmsProfile(io.BytesIO(wanted))
    numbers = ImageCms.profileToProfile(image, ImageCms.createProfile("sRGB"), there)
    assert numbers is not None
    options = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}}
    return encoded(numbers, kind, icc_profile=wanted, **options.get(kind, {}))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize(("primaries", "gamma"), [(PROPHOTO, 1.8), (SRGB, 1.0)])
def test_a_profile_that_changes_a_picture_visibly_is_applied(
    kind: str, primaries: tuple[tuple[float, float, float], ...], gamma: float
) -> None:
    wanted = profile(primaries, gamma)
    image = picture(6, 200, 150)
    data = with_profile(image, wanted, kind)
    assert difference(open_image(data)[0], image) < 6
    assert difference(thumbnail(data, 200), image) < 6
    assert difference(decode(data, SQUASH).pixels, decode(image, SQUASH).pixels) < 6
    with Image.open(io.BytesIO(data)) as opened:
        assert difference(opened, image) > 8  # its numbers are others
        opened.load()
        assert difference(decode(opened, SQUASH).pixels, decode(image, SQUASH).pixels) < 6


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_a_profile_of_grey_is_applied_with_and_without_transparency(mode: str) -> None:
    linear = Image.fromarray((255 * (GREY / 255) ** 2.2).round().astype(np.uint8))
    data = encoded(linear.convert(mode), "PNG", icc_profile=profile((), 1.0))
    assert difference(grey(data), GREY) < 4
    assert difference(open_image(encoded(picture(1), "PNG", icc_profile=profile((), 1.0)))[0],
                      picture(1)) == 0  # fmt: skip


def test_a_profile_other_than_srgb_is_a_fact() -> None:
    image = picture(6)
    facts = decode(with_profile(image, profile(PROPHOTO, 1.8), "PNG"), SQUASH).facts
    assert len(facts.profile) == 16
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert decode(encoded(image, "PNG", icc_profile=srgb), SQUASH).facts.profile == ""
    assert decode(encoded(image, "PNG", icc_profile=profile(SRGB, 2.2)), SQUASH).facts.profile == ""


def test_a_plain_profile_changes_no_pixel() -> None:
    image = picture(7)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert difference(open_image(encoded(image, "PNG", icc_profile=srgb))[0], image) == 0


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_a_broken_profile_fails_no_picture(kind: str) -> None:
    whole = profile(PROPHOTO, 1.8)
    for broken in (b"no profile", whole[:200], whole[:300] + bytes(len(whole) - 300)):
        data = encoded(picture(7), kind, icc_profile=broken)
        assert difference(open_image(data)[0], picture(7)) < 8


def test_a_profile_of_another_colour_model_is_passed_over() -> None:
    data = encoded(picture(7).convert("CMYK"), "TIFF", icc_profile=profile(PROPHOTO, 1.8))
    assert difference(open_image(data)[0], picture(7)) < 2


def test_a_linear_png_without_a_profile_is_shown_by_its_gamma() -> None:
    image = picture(8)
    linear = ((np.asarray(image) / 255) ** 2.2 * 255).round().astype(np.uint8)
    info = PngInfo()
    info.add(b"gAMA", struct.pack(">I", 100_000))
    data = encoded(Image.fromarray(linear), "PNG", pnginfo=info)
    assert difference(open_image(data)[0], image) < 8
    usual = PngInfo()
    usual.add(b"gAMA", struct.pack(">I", 45_455))
    assert difference(open_image(encoded(image, "PNG", pnginfo=usual))[0], image) == 0


# --- the ground


def logo(colour: tuple[int, int, int]) -> Image.Image:
    image = Image.new("RGBA", (80, 60), (*colour, 0))
    image.paste((*colour, 255), (20, 15, 60, 45))
    return image


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "TIFF", "AVIF"])
def test_white_on_clear_lies_on_black(kind: str) -> None:
    data = encoded(logo((255, 255, 255)), kind, **({"lossless": True} if kind == "WEBP" else {}))
    for image in (open_image(data)[0], thumbnail(data, 80)):
        assert min(image.getpixel((40, 30))) > 240  # type: ignore[arg-type, type-var]
        assert max(image.getpixel((3, 3))) < 16  # type: ignore[arg-type, type-var]


def test_anything_else_on_clear_lies_on_white() -> None:
    for colour in ((0, 0, 0), (200, 30, 30), (255, 255, 0)):
        assert open_image(encoded(logo(colour), "PNG"))[0].getpixel((3, 3)) == (255, 255, 255)


def test_white_on_clear_lies_on_black_however_it_is_given() -> None:
    image = logo((255, 255, 255))
    expected = decode(encoded(image, "PNG"), SQUASH).pixels
    assert (decode(image, SQUASH).pixels == expected).all()
    assert (decode(np.asarray(image), SQUASH).pixels == expected).all()
    assert (decode(image.convert("LA"), SQUASH).pixels == expected).all()


def test_what_is_clear_everywhere_is_white() -> None:
    data = encoded(Image.new("RGBA", (8, 8), (0, 0, 0, 0)), "PNG")
    assert open_image(data)[0].getpixel((3, 3)) == (255, 255, 255)


def test_transparency_is_a_fact_where_anything_is_clear() -> None:
    assert decode(encoded(logo((1, 2, 3)), "PNG"), SQUASH).facts.alpha
    assert not decode(encoded(quarters().convert("RGBA"), "PNG"), SQUASH).facts.alpha
    assert not decode(encoded(quarters(), "JPEG"), SQUASH).facts.alpha

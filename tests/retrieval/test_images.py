"""Images from strangers: damaged, odd, hostile, and in many threads at once."""

from __future__ import annotations

import io
import os
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from retrieval.errors import ImageError, ImgretError
from retrieval.images import (
    Preprocessing,
    decode,
    find_images,
    fit_square,
    open_image,
    read_bytes,
    sniff,
)
from tests.retrieval.test_decoding import FORMATS, SQUASH, encoded, quarters, rgb
from tests.samples import picture

ORIENTATION = 0x0112


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


def difference(a: object, b: object) -> float:
    return float(np.abs(np.asarray(a, int) - np.asarray(b, int)).mean())


def squashed_to(size: int, fit: str = "squash", crop_pct: float = 1.0) -> Preprocessing:
    return Preprocessing(size, SQUASH.mean, SQUASH.std, fit=fit, crop_pct=crop_pct)  # type: ignore[arg-type]


# --- what a format's first bytes are


@pytest.mark.parametrize(
    ("header", "kind"),
    [
        (b"P5 3 2 255\n" + bytes(6), "PPM"),
        (b"P1\n# made by hand\n2 2\n", "PPM"),
        (b"II*\0\x08\0\0\0", "TIFF"),
        (b"MM\0+\0\x08\0\0", "TIFF"),
        (b"\0\0\0\x20ftypmif1\0\0\0\0mif1avifmiaf", "AVIF"),
        (b"\0\0\0\x20ftypmif1\0\0\0\0mif1heicmiaf", "HEIF"),
        (b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2avc1", None),
        (b"BMW owners' club, minutes of the meeting", None),
        (b"P5 is a path integral, P6 is not", None),
        (b"RIFF\x24\x08\0\0WAVEfmt ", None),
        (b"%PDF-1.7", None),
        (b"", None),
    ],
)
def test_formats_are_told_from_what_only_begins_like_them(header: bytes, kind: str | None) -> None:
    assert sniff(header) == kind


# --- upright, once


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_heic_is_turned_once(orientation: int) -> None:
    stream, exif = io.BytesIO(), turned(orientation)
    pillow_heif.from_pillow(quarters()).save(stream, quality=95, exif=exif.tobytes())
    expected = quarters()
    expected.getexif()[ORIENTATION] = orientation
    ImageOps.exif_transpose(expected, in_place=True)
    image, width, height = open_image(stream.getvalue())
    assert image.size == (width, height) == expected.size
    assert difference(rgb(image), rgb(expected)) < 3


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(1203, 805), (806, 1607)])
def test_reduced_decoding_is_turned_and_placed_like_full_decoding(
    orientation: int, size: tuple[int, int]
) -> None:
    data = encoded(picture(orientation, *size), "JPEG", quality=92, exif=turned(orientation))
    full, width, height = open_image(data)
    small, *full_size = open_image(data, target=64)
    assert full.size == (width, height) == tuple(full_size)
    assert small.width < full.width
    assert min(small.size) >= 2 * 64
    assert difference(decode(data, SQUASH).pixels, fit_square(full, SQUASH)) < 0.6


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
@pytest.mark.parametrize("damage", ["no header", "offset out of the file", "cut off"])
def test_broken_exif_does_not_fail_an_image(kind: str, damage: str) -> None:
    exif = turned(3)
    exif[0x010F] = "a camera with a long name"
    data = encoded(quarters(), kind, exif=exif)
    at = data.index(b"MM\0*")
    broken = {
        "no header": b"XXXXXXXX",
        "offset out of the file": b"MM\0*\x7f\xff\xff\xff",
        "cut off": b"MM\0*" + struct.pack(">I", 60),
    }[damage]
    data = data[:at] + broken + data[at + 8 :]
    if kind == "PNG":
        data = with_png_checksums(data)
    assert open_image(data)[1:] == (80, 40)


def with_png_checksums(data: bytes) -> bytes:
    at, parts = 8, [data[:8]]
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        chunk = data[at + 4 : at + 8 + length]
        parts.append(struct.pack(">I", length) + chunk + struct.pack(">I", zlib.crc32(chunk)))
        at += 12 + length
    return b"".join(parts)


def test_a_tiff_with_a_broken_exif_directory_is_decoded() -> None:
    exif = turned(6)
    exif[0x8768] = 0x7FFFFFF0  # an unknown number, which becomes an address far behind the end
    data = encoded(quarters(), "TIFF", exif=exif).replace(b"\x68\x87\x04\0", b"\x69\x87\x04\0")
    assert b"\x69\x87\x04\0\x01\0\0\0\xf0\xff\xff\x7f" in data
    assert open_image(data)[0].size == (40, 80)


# --- regions


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_a_region_of_a_large_jpeg_has_all_the_pixels_it_needs(orientation: int) -> None:
    data = encoded(picture(5, 2405, 1803), "JPEG", quality=92, exif=turned(orientation))
    full, *_ = open_image(data)
    x, y, w, h = 300, 201, 500, 402
    ours = decode(data, SQUASH, crop=(x, y, w, h)).pixels
    theirs = fit_square(full.crop((x, y, x + w, y + h)), SQUASH)
    assert difference(ours, theirs) < 0.6


def test_a_region_keeps_its_shape_when_padded() -> None:
    pixels = decode(np.asarray(quarters()), squashed_to(40, "pad"), crop=(0, 0, 40, 20)).pixels
    assert (pixels[10:30] == [255, 0, 0]).all()
    assert not (pixels[:10] == [255, 0, 0]).all(axis=2).any()


@pytest.mark.parametrize("crop", [(-1, 0, 5, 5), (0, 0, 0, 5), (0, 0, 81, 5), (79, 39, 2, 1)])
def test_an_impossible_region_is_refused(crop: tuple[int, int, int, int]) -> None:
    with pytest.raises(ImageError, match="80 x 40 pixels"):
        decode(encoded(quarters(), "PNG"), SQUASH, crop=crop)


@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_reduced_decoding_serves_every_fit(fit: str) -> None:
    wanted = squashed_to(64, fit, 0.875)
    data = encoded(picture(6, 1501, 1003), "JPEG", quality=92)
    assert difference(decode(data, wanted).pixels, fit_square(open_image(data)[0], wanted)) < 0.8


# --- modes


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_a_reduced_jpeg_keeps_its_colour_model(mode: str) -> None:
    image = picture(7, 900, 700).convert(mode)
    data = encoded(image, "JPEG", quality=92)
    assert difference(decode(data, SQUASH).pixels, fit_square(image.convert("RGB"), SQUASH)) < 3


@pytest.mark.parametrize("mode", ["LAB", "YCbCr"])
def test_tiffs_of_other_colour_spaces_become_rgb(mode: str) -> None:
    data = encoded(picture(8).convert(mode), "TIFF")
    try:
        Image.open(io.BytesIO(data)).load()
    except OSError:
        pytest.skip(f"this Pillow cannot read its own TIFF of {mode}")
    assert difference(open_image(data)[0], picture(8)) < 4


def test_grey_of_16_bits_keeps_its_shades_in_either_byte_order_and_in_pgm() -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    expected = np.rint(ramp / 257)
    big_endian = Image.frombytes("I;16B", (16, 16), ramp.astype(">u2").tobytes())
    pgm = b"P5 16 16 65535\n" + ramp.astype(">u2").tobytes()
    for source in (encoded(big_endian, "TIFF"), pgm):
        assert difference(np.asarray(open_image(source)[0])[..., 0], expected) < 0.01


def test_a_palette_with_a_transparency_for_each_colour_lies_on_white() -> None:
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([10, 20, 30, 40, 50, 60])
    data = encoded(palette, "PNG", transparency=bytes([255, 0]))
    assert open_image(data)[0].getpixel((0, 0)) == (255, 255, 255)


def test_one_transparent_colour_of_an_rgb_png_lies_on_white() -> None:
    data = encoded(quarters(), "PNG", transparency=(255, 0, 0))
    assert rgb(open_image(data)[0])[:2] == [(255, 255, 255), (0, 255, 0)]


# --- hostile files


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "PPM", "HEIF"])
def test_a_truncated_file_is_called_truncated(kind: str) -> None:
    data = encoded(picture(0, 400, 300), kind)
    with pytest.raises(ImageError, match=r"^truncated"):
        open_image(data[: len(data) * 3 // 4])


def test_a_bmp_that_claims_to_be_huge_is_refused_at_once() -> None:
    data = bytearray(encoded(quarters(), "BMP"))
    data[18:26] = struct.pack("<ii", 60_000, 60_000)
    with pytest.raises(
        ImageError, match="3,600,000,000 pixels, more than --max-pixels 200,000,000"
    ):
        open_image(bytes(data))


@pytest.mark.parametrize("kind", FORMATS)
def test_max_pixels_is_the_limit_of_every_format(kind: str) -> None:
    data = encoded(quarters(), kind)
    assert open_image(data, max_pixels=3200)[1:] == (80, 40)
    with pytest.raises(ImageError, match="3,200 pixels, more than --max-pixels 3,199"):
        open_image(data, max_pixels=3199)


@pytest.mark.parametrize("kind", sorted({*FORMATS} - {"WEBP"}))  # Pillow asks in WebP's own decoder
def test_pillows_own_limit_has_no_say(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(quarters(), kind)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert decode(data, SQUASH).width == 80


def test_only_our_formats_are_opened_though_pillow_knows_more() -> None:
    for kind in ("ICO", "PCX", "TGA"):
        with pytest.raises(ImageError, match="not an image this program reads"):
            open_image(encoded(quarters(), kind))


def test_pillows_registry_stays_as_it_was() -> None:
    before = set(Image.OPEN)
    open_image(encoded(quarters(), "HEIF"))
    assert set(Image.OPEN) == before


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(FORMATS), st.binary(max_size=200))
def test_random_bytes_behind_a_valid_beginning_raise_image_error_alone(
    kind: str, tail: bytes
) -> None:
    data = encoded(Image.new("RGB", (2, 2)), kind)[:48] + tail
    try:
        open_image(data, max_pixels=10_000)
    except ImageError:
        return


def test_a_pipe_and_a_folder_are_refused_at_once_and_closed_again(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    before = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else 0
    for _ in range(5):
        for path, reason in ((tmp_path / "pipe.jpg", "not a regular file"), (tmp_path, "a folder")):
            with pytest.raises(ImageError, match=reason):
                read_bytes(path)
    if before:
        assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_file_of_more_than_a_gibibyte_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "vast.jpg").open("wb") as file:
        file.truncate((1 << 30) + 1)
    with pytest.raises(ImageError, match="1,073,741,825 bytes, more than"):
        read_bytes(tmp_path / "vast.jpg")


# --- the interface


def test_the_stamp_read_with_the_bytes_is_the_files(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(quarters(), "PNG"))
    data, stamp = read_bytes(path)
    assert data == path.read_bytes()
    assert (stamp.mtime_ns, stamp.etag) == (path.stat().st_mtime_ns, None)


def test_pixels_are_ready_for_torch() -> None:
    pixels = decode(encoded(picture(0), "JPEG"), SQUASH).pixels
    assert pixels.shape == (64, 64, 3)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable


def test_an_opened_image_may_be_decoded_again() -> None:
    data = encoded(picture(1, 1200, 900), "JPEG", quality=92)
    opened = open_image(data, target=64)[0]
    assert difference(decode(opened, SQUASH).pixels, decode(data, SQUASH).pixels) == 0


def test_an_mpo_gives_its_first_picture() -> None:
    data = encoded(quarters(), "MPO", save_all=True, append_images=[picture(3)], quality=95)
    assert open_image(data)[1:] == (80, 40)
    assert difference(open_image(data)[0], quarters()) < 4


def test_many_threads_decode_as_one_does() -> None:
    sources = [encoded(picture(n, 400, 300), kind) for n, kind in enumerate(FORMATS)] * 4
    alone = [decode(source, SQUASH).pixels for source in sources]
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(lambda source: decode(source, SQUASH).pixels, sources))
    assert all((a == b).all() for a, b in zip(alone, together, strict=True))


@pytest.mark.parametrize(
    "wrong", [{"size": 0}, {"fit": "stretch"}, {"crop_pct": 0.0}, {"crop_pct": 1.2}]
)
def test_preprocessing_that_means_nothing_is_refused(wrong: dict[str, object]) -> None:
    settings = {"size": 64, "mean": SQUASH.mean, "std": SQUASH.std} | wrong
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Preprocessing(**settings)  # type: ignore[arg-type]


@settings(max_examples=40, deadline=None)
@given(st.integers(60, 200), st.integers(60, 200), st.integers(16, 48), st.floats(0.6, 1.0))
def test_crop_cuts_the_middle_as_torchvision_does(
    width: int, height: int, size: int, crop_pct: float
) -> None:
    from torchvision import transforms
    from torchvision.transforms import InterpolationMode

    image = picture(width, width, height)
    theirs = transforms.Compose(
        [
            transforms.Resize(int(size / crop_pct), InterpolationMode.BICUBIC),
            transforms.CenterCrop(size),
        ]
    )(image)
    assert difference(fit_square(image, squashed_to(size, "crop", crop_pct)), theirs) < 1.0


# --- finding


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    (root / "sub" / "deep").mkdir(parents=True)
    for name in ("b.jpg", "a.jpg", "sub/d.png", "sub/c.png", "sub/deep/e.webp"):
        picture(0).save(root / name)
    return root


def found(*roots: Path, **options: object) -> list[str]:
    files = find_images(roots, **options)  # type: ignore[arg-type]
    return [file.path.relative_to(file.root).as_posix() for file in files]


def test_a_folders_files_come_by_name_then_those_below(folder: Path) -> None:
    assert found(folder) == ["a.jpg", "b.jpg", "sub/c.png", "sub/d.png", "sub/deep/e.webp"]


def test_a_found_file_has_the_size_and_time_of_the_file(folder: Path) -> None:
    first = next(find_images([folder]))
    status = (folder / "a.jpg").stat()
    assert (first.path, first.root, first.error) == (folder / "a.jpg", folder, None)
    assert (first.size, first.mtime_ns) == (status.st_size, status.st_mtime_ns)


def test_a_glob_is_tried_on_the_path_below_the_given_folder(folder: Path) -> None:
    assert found(folder, exclude=["sub/deep/"]) == ["a.jpg", "b.jpg", "sub/c.png", "sub/d.png"]
    assert found(folder, exclude=["sub/*.png"]) == ["a.jpg", "b.jpg", "sub/deep/e.webp"]
    assert found(folder, exclude=["a.*", "deep"]) == ["b.jpg", "sub/c.png", "sub/d.png"]


def test_a_missing_path_is_told_before_anything_is_found(folder: Path) -> None:
    with pytest.raises(ImgretError, match="does not exist"):
        find_images([folder, folder / "nothing"])


def test_a_file_given_twice_and_by_its_folder_comes_once(folder: Path) -> None:
    odd_way = folder / "sub" / ".." / "a.jpg"
    files = [file.path for file in find_images([folder, folder / "a.jpg", odd_way])]
    assert sum(path.name == "a.jpg" for path in files) == 1
    assert len(files) == 5


def test_what_a_folder_hides_or_excludes_is_found_when_it_is_given(folder: Path) -> None:
    (folder / "sub").rename(folder / ".sub")
    assert found(folder, folder / ".sub") == ["a.jpg", "b.jpg", "c.png", "d.png", "deep/e.webp"]


def test_a_link_to_itself_and_a_link_up_end(folder: Path) -> None:
    (folder / "self.jpg").symlink_to("self.jpg")
    (folder / "sub" / "up").symlink_to("..")
    files = list(find_images([folder]))
    assert [file.path.name for file in files if file.error] == ["self.jpg"]
    assert len(files) == 6


def test_a_linked_file_is_an_image_under_its_own_name(folder: Path) -> None:
    (folder / "z.jpg").symlink_to("a.jpg")
    assert "z.jpg" in found(folder)


def test_a_broken_link_without_an_image_suffix_is_nothing(folder: Path) -> None:
    (folder / "broken").symlink_to("nowhere")
    assert len(found(folder)) == 5


def test_a_folder_whose_name_is_not_utf8_is_one_failure(folder: Path) -> None:
    (folder / "sub").rename(folder / os.fsdecode(b"caf\xe9"))
    files = list(find_images([folder]))
    assert [file.error for file in files] == [None, None, "its name is not valid UTF-8; rename it"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list every folder")
def test_a_folder_that_may_not_be_listed_is_a_failure(folder: Path) -> None:
    (folder / "sub").chmod(0)
    try:
        files = list(find_images([folder]))
    finally:
        (folder / "sub").chmod(0o755)
    assert files[-1].path == folder / "sub"
    assert "cannot be listed" in str(files[-1].error)


def test_a_folder_that_vanishes_meanwhile_is_a_failure_and_the_rest_is_found(folder: Path) -> None:
    (folder / "tail").mkdir()
    picture(1).save(folder / "tail" / "f.jpg")
    files = find_images([folder])
    first = next(files)
    (folder / "sub").rename(folder.parent / "elsewhere")
    rest = list(files)
    assert first.path.name == "a.jpg"
    assert [file.path.name for file in rest] == ["b.jpg", "sub", "f.jpg"]
    assert "cannot be listed" in str(rest[1].error)


@pytest.mark.parametrize("how", [{}, {"lossless": True}, {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0"}])
@pytest.mark.parametrize("size", [(1, 1), (37, 211), (16383, 2)])
def test_the_size_of_a_webp_is_read_from_its_first_bytes(
    how: dict[str, object], size: tuple[int, int]
) -> None:
    from io import BytesIO

    from retrieval.images.webp import webp_size

    stream = BytesIO()
    Image.new("RGB", size).save(stream, "WEBP", **how)
    assert webp_size(stream.getvalue()[:30]) == size
    assert webp_size(stream.getvalue()[:29]) is None
    assert webp_size(b"RIFX" + stream.getvalue()[4:30]) is None

"""One picture, one embedding, however it is given."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from retrieval.errors import ImageError, QueryError
from retrieval.images import decode, open_image
from tests.retrieval.files import PHOTOMETRIC, Page, chunk, png, tiff
from tests.retrieval.test_decoding import SQUASH, encoded, quarters
from tests.samples import picture


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    """A JPEG of a phone that was held upright: stored lying, with its EXIF orientation."""
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "phone.jpg"
    picture(3, 400, 300).save(path, quality=95, exif=exif)
    return path


def same(source: object, other: object, tolerance: float = 0.0) -> bool:
    a, b = (decode(s, SQUASH) for s in (source, other))  # type: ignore[arg-type]
    close = np.abs(a.pixels.astype(int) - b.pixels).mean() <= tolerance
    return close and (a.width, a.height) == (b.width, b.height)


def test_bytes_and_open_files_are_pictures_as_paths_are(photograph: Path) -> None:
    data = photograph.read_bytes()
    for source in (str(photograph), data, bytearray(data), memoryview(data), io.BytesIO(data)):
        assert same(source, photograph)
    with photograph.open("rb") as file:
        assert same(file, photograph)
        assert same(file, photograph)  # and again, wherever it stands
        assert file.tell() == 0


def test_a_buffer_that_was_just_written_is_read_from_its_beginning() -> None:
    stream = io.BytesIO()
    quarters().save(stream, "PNG")
    assert same(stream, quarters())


def test_a_file_that_cannot_seek_is_read_as_it_comes(photograph: Path) -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def seek(self, *_: int) -> int:
            raise io.UnsupportedOperation

    assert same(Pipe(photograph.read_bytes()), photograph)


def test_a_file_that_gives_a_part_at_a_time_is_read_to_its_end(photograph: Path) -> None:
    class Socket:
        def __init__(self, data: bytes) -> None:
            self.stream = io.BytesIO(data)

        def read(self, size: int = -1) -> memoryview:
            return memoryview(self.stream.read(min(size, 1000)))

    assert same(Socket(photograph.read_bytes()), photograph)


def test_an_image_that_pil_opened_is_turned_as_its_file_is(photograph: Path) -> None:
    with Image.open(photograph) as image:
        assert same(image, photograph)
    assert same(Image.open(io.BytesIO(photograph.read_bytes())), photograph)


def test_a_decoded_image_is_turned_by_the_exif_that_it_still_carries(photograph: Path) -> None:
    image = Image.open(photograph)
    image.load()
    assert same(image, photograph, 1.0)
    assert same(ImageOps.exif_transpose(image), photograph, 1.0)
    assert image.size == (400, 300)  # what was given stays as it was


def test_an_orientation_set_in_memory_counts() -> None:
    image = quarters()
    image.getexif()[0x0112] = 8
    assert same(image, ImageOps.exif_transpose(image))


def test_what_open_image_gave_is_not_turned_again(photograph: Path) -> None:
    opened = open_image(photograph)[0]
    assert opened.size == (300, 400)
    assert same(opened, photograph, 1.0)


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "PNG"])
def test_an_image_that_pil_opened_has_the_same_main_picture_as_its_file(kind: str) -> None:
    empty = Image.new("RGB", (80, 40), "white")
    data = encoded(empty, kind, save_all=True, append_images=[quarters()])
    assert same(Image.open(io.BytesIO(data)), data)


def test_a_frame_that_the_user_chose_is_taken() -> None:
    data = encoded(quarters(), "GIF", save_all=True, append_images=[picture(5, 80, 40)])
    image = Image.open(io.BytesIO(data))
    image.seek(1)
    assert not same(image, data, 5)


def test_an_image_of_a_format_that_is_not_read_is_taken_from_pil() -> None:
    assert same(Image.open(io.BytesIO(encoded(quarters(), "TGA"))), quarters())


def test_arrays_of_one_or_four_channels_are_pictures() -> None:
    rgb = picture(1)
    grey, rgba = np.asarray(rgb.convert("L")), np.asarray(rgb.convert("RGBA"))
    assert same(grey[..., None], rgb.convert("L"))
    assert same(rgba, rgb)
    assert same(grey.astype(np.uint16) * 257, rgb.convert("L"))


def test_grey_of_16_bits_may_be_of_either_byte_order() -> None:
    grey = np.asarray(picture(1).convert("L")).astype(np.uint16) * 257
    assert same(grey.astype(">u2"), grey.astype("<u2"))


def test_a_decoded_image_keeps_what_its_file_says_of_its_samples() -> None:
    grey = np.asarray(picture(4).convert("L"))
    linear = png(grey, chunk(b"gAMA", struct.pack(">I", 100_000)), colour=0)
    srgb = png(grey, chunk(b"gAMA", struct.pack(">I", 100_000)), chunk(b"sRGB", b"\0"), colour=0)
    inverted = tiff(Page(65535 - grey.astype(np.uint16) * 257, {PHOTOMETRIC: [0]}))
    for data in (linear, srgb, inverted):
        loaded = Image.open(io.BytesIO(data))
        loaded.load()
        assert same(loaded, data)


def test_a_clear_pixel_of_an_rgba_array_lies_on_the_ground() -> None:
    array = np.zeros((8, 8, 4), np.uint8)
    array[:4, :, 3] = 255
    pixels = np.asarray(open_image(array)[0])
    assert (pixels[:4] == 0).all()
    assert (pixels[4:] == 255).all()


def test_tensors_of_uint8_are_pictures_with_the_channels_first_or_last() -> None:
    array = np.array(picture(2))
    tensor = torch.from_numpy(array)
    assert same(tensor, array)
    assert same(tensor.permute(2, 0, 1), array)
    assert same(tensor[..., :1], array[..., 0])
    assert same(tensor[..., 0], array[..., 0])
    assert same(torch.nn.Parameter(tensor, requires_grad=False), array)


@pytest.mark.parametrize(
    "source",
    [None, 7, {"path": "x.jpg"}, np.zeros((4, 4, 3), np.float32), np.zeros((2, 4, 4, 3), np.uint8),
     torch.zeros(3, 4, 4), torch.zeros(3, 4, 4, dtype=torch.bfloat16)],
)  # fmt: skip
def test_what_is_no_picture_is_named_in_one_sentence(source: object) -> None:
    with pytest.raises((ImageError, QueryError), match=r"is not a picture[;.] [Gg]ive") as raised:
        decode(source, SQUASH)  # type: ignore[arg-type]
    kind = "of shape" if hasattr(source, "shape") else type(source).__name__
    assert kind in str(raised.value)
    assert "damaged" not in str(raised.value)


def test_what_only_looks_like_a_picture_is_named_too() -> None:
    class Later:
        async def read(self, _: int) -> bytes:
            return b""

    class Never:
        def read(self, _: int) -> None:
            """As a socket that does not wait."""

    empty = torch.zeros(3, 4, 4, dtype=torch.uint8, device="meta")
    for source, said in ((Never(), "Never whose read"), (empty, "on meta is not a picture")):
        with pytest.raises(ImageError, match=said):
            decode(source, SQUASH)  # type: ignore[arg-type]
    with pytest.warns(RuntimeWarning), pytest.raises(ImageError, match="gives coroutine"):
        decode(Later(), SQUASH)  # type: ignore[arg-type]
    with pytest.raises(ImageError, match="0 x 5 pixels, which show nothing"):
        decode(Image.new("RGB", (0, 5)), SQUASH)


def test_a_file_opened_as_text_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("no picture")
    with (tmp_path / "x.txt").open() as file, pytest.raises(ImageError, match="'rb'"):
        decode(file, SQUASH)  # type: ignore[arg-type]


def test_max_pixels_holds_for_everything_that_is_given(photograph: Path) -> None:
    array = np.zeros((300, 400, 3), np.uint8)
    loaded = Image.open(photograph)
    loaded.load()
    for source in (
        photograph, photograph.read_bytes(), io.BytesIO(photograph.read_bytes()), loaded,
        Image.open(io.BytesIO(photograph.read_bytes())), Image.fromarray(array), array,
        torch.from_numpy(array),
    ):  # fmt: skip
        with pytest.raises(ImageError, match="120,000 pixels, more than --max-pixels 119,999"):
            decode(source, SQUASH, max_pixels=119_999)
        assert decode(source, SQUASH, max_pixels=120_000).width in (300, 400)


def test_a_tensor_of_very_many_pixels_is_refused_before_it_is_copied() -> None:
    many = torch.zeros(1, 1, 3, dtype=torch.uint8).expand(2_000_000, 2_000_000, 3)
    with pytest.raises(ImageError, match="4,000,000,000,000 pixels, more than"):
        decode(many, SQUASH)  # type: ignore[arg-type]

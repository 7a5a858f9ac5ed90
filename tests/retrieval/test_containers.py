"""Files that hold several pictures: the main one is taken, not the first."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retrieval.errors import ImageError
from retrieval.images import decode, open_image, thumbnail
from tests.retrieval.files import (
    COMPRESSION,
    DNG_VERSION,
    ORIENTATION,
    SAMPLE_FORMAT,
    SUBFILE,
    Page,
    camera_raw,
    jpeg,
    tiff,
)
from tests.retrieval.test_decoding import SQUASH, encoded, quarters
from tests.retrieval.test_images import difference
from tests.samples import picture

MAIN = np.asarray(quarters())
SMALL = np.zeros((8, 16, 3), np.uint8)
needs_rawpy = pytest.mark.skipif(find_spec("rawpy") is None, reason="needs the extra raw")
needs_jxl = pytest.mark.skipif(find_spec("pillow_jxl") is None, reason="needs the extra jxl")


def shown(data: bytes) -> Image.Image:
    return open_image(data)[0]


@pytest.mark.parametrize(("order", "big"), [("<", False), (">", False), ("<", True)])
def test_a_tiff_that_begins_with_its_thumbnail_is_its_main_picture(order: str, big: bool) -> None:
    for first in (Page(SMALL, {SUBFILE: [1]}), Page(SMALL)):
        data = tiff(first, Page(MAIN), order=order, big=big)
        assert difference(shown(data), MAIN) == 0
        assert decode(data, SQUASH).width == 80


def test_a_thumbnail_that_is_not_small_is_known_by_its_tag() -> None:
    other = np.asarray(picture(1, 80, 40))
    assert difference(shown(tiff(Page(other, {SUBFILE: [1]}), Page(MAIN))), MAIN) == 0
    assert difference(shown(tiff(Page(other, {255: [2]}), Page(MAIN))), MAIN) == 0
    assert difference(shown(tiff(Page(other, {SUBFILE: [4]}), Page(MAIN))), MAIN) == 0


def test_a_main_picture_below_its_thumbnail_is_found() -> None:
    data = tiff(Page(SMALL, {SUBFILE: [1]}, below=[Page(MAIN)]))
    assert difference(shown(data), MAIN) == 0


def test_a_document_is_its_first_page_and_a_pyramid_its_largest_level() -> None:
    second = np.asarray(picture(2, 100, 40))
    assert difference(shown(tiff(Page(MAIN), Page(second))), MAIN) == 0
    levels = [
        Page(MAIN),
        Page(MAIN[::2, ::2], {SUBFILE: [1]}),
        Page(MAIN[::4, ::4], {SUBFILE: [1]}),
    ]
    assert difference(shown(tiff(*levels)), MAIN) == 0
    assert decode(tiff(*levels), SQUASH).facts.frames == 1
    assert decode(tiff(Page(MAIN), Page(second)), SQUASH).facts.frames == 2


def test_a_main_picture_is_turned_by_its_own_tag() -> None:
    data = tiff(Page(SMALL, {ORIENTATION: [3]}), Page(MAIN, {ORIENTATION: [6]}))
    assert open_image(data)[1:] == (40, 80)


def test_a_chain_of_directories_that_loops_ends() -> None:
    data = bytearray(tiff(Page(SMALL), Page(MAIN)))
    at = int.from_bytes(data[4:8], "little")
    entries = int.from_bytes(data[at : at + 2], "little")
    second = int.from_bytes(data[at + 2 + 12 * entries :][:4], "little")
    link = second + 2 + 12 * int.from_bytes(data[second : second + 2], "little")
    data[link : link + 4] = at.to_bytes(4, "little")
    assert difference(shown(bytes(data)), MAIN) == 0


def test_a_tiff_that_lacks_its_directory_is_not_called_a_kind_that_is_not_read() -> None:
    data = encoded(picture(1), "TIFF", compression="tiff_lzw")
    for lacking in (1, 60):
        with pytest.raises(ImageError, match="truncated"):
            open_image(data[:-lacking])


def test_a_tiff_of_a_kind_that_is_not_read_is_not_called_damaged() -> None:
    floats = Page(MAIN.astype(np.float32) / 255, {SAMPLE_FORMAT: [3, 3, 3]})
    jbig = tiff(Page(MAIN, {COMPRESSION: [34661]}))
    for data in (tiff(floats), jbig, tiff(Page(MAIN), order=">", big=True)):
        with pytest.raises(ImageError, match="a kind of TIFF that this program does not read"):
            shown(data)


# --- raws of cameras


@needs_rawpy
def test_a_raw_is_developed_where_it_has_no_full_preview() -> None:
    data = camera_raw()
    assert open_image(data)[1:] == (320, 240)
    assert thumbnail(data, 100).size == (100, 75)
    facts = decode(data, SQUASH).facts
    assert (facts.format, facts.depth) == ("RAW", 16)


@needs_rawpy
def test_the_full_size_preview_of_a_raw_is_what_it_shows() -> None:
    preview = picture(4, 320, 240)
    assert difference(shown(camera_raw(preview)), preview) < 4
    assert difference(shown(camera_raw(picture(4, 160, 120))), Image.new("RGB", (320, 240))) < 256
    assert open_image(camera_raw(picture(4, 160, 120)))[1:] == (320, 240)  # too small: developed


@needs_rawpy
def test_a_raw_that_libraw_refuses_has_its_reason() -> None:
    broken = b"FUJIFILMCCD-RAW 0201" + bytes(1000)
    with pytest.raises(ImageError, match="a camera raw that cannot be read"):
        shown(broken)


@needs_rawpy
def test_max_pixels_holds_for_a_raw() -> None:
    with pytest.raises(ImageError, match="76,800 pixels, more than --max-pixels 1,000"):
        open_image(camera_raw(), max_pixels=1000)


WITHOUT_EXTRAS = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("rawpy", "pillow_jxl"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
from pathlib import Path
from retrieval.errors import ImageError
from retrieval.images import find_images, open_image
passed = []
print([f.path.name for f in find_images([Path(sys.argv[1])], passed_over=passed.append)])
print(sorted(passed))
for name in sys.argv[2:]:
    try:
        open_image(Path(sys.argv[1]) / name)
    except ImageError as error:
        print(error)
"""


def test_without_the_extras_raws_and_jxl_are_passed_over_and_queries_told_what_to_do(
    tmp_path: Path,
) -> None:
    folder = tmp_path
    for name in ("a.NEF", "b.dng", "scan.tif"):
        (folder / name).write_bytes(camera_raw(picture(4, 320, 240)))
    (folder / "c.jxl").write_bytes(b"\xff\x0a" + bytes(100))
    (folder / "no-suffix").write_bytes(b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(100))
    (folder / "d.jpg").write_bytes(jpeg(picture(1)))
    command = [sys.executable, "-c", WITHOUT_EXTRAS, str(folder), "a.NEF", "scan.tif", "c.jxl"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert said[0] == "['d.jpg', 'scan.tif']"
    assert said[1] == "['.NEF', '.dng', '.jxl', '.jxl']"
    assert said[2] == said[3] == "a camera raw; to read such files, `pip install 'imgret[raw]'`"
    assert said[4] == "a JPEG XL; to read such files, `pip install 'imgret[jxl]'`"


def test_a_dng_version_alone_tells_a_raw_from_a_tiff() -> None:
    from retrieval.images.tiff import is_raw, pages_of

    data = tiff(Page(SMALL, {DNG_VERSION: bytes([1, 4, 0, 0])}))
    assert is_raw(data, pages_of(data))
    assert not is_raw(tiff(Page(MAIN)), pages_of(tiff(Page(MAIN))))


# --- JPEG XL


def jxl(image: Image.Image, **options: object) -> bytes:
    from pillow_jxl.pillow_jxl import Encoder

    encoder = Encoder(mode=image.mode, lossless=True, quality=100, decoding_speed=0, effort=3,
                      use_container=bool(options.get("use_container")), use_original_profile=False,
                      num_threads=0)  # fmt: skip
    beside = {"exif": None, "jumb": None, "xmp": None, "compress": False}
    return bytes(encoder(image.tobytes(), *image.size, jpeg_encode=False, **beside))


@needs_jxl
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
@pytest.mark.parametrize("use_container", [False, True])
def test_a_jxl_is_read(mode: str, use_container: bool) -> None:
    data = jxl(quarters().convert(mode), use_container=use_container)
    expected = quarters().convert("L" if mode == "L" else "RGB").convert("RGB")
    assert difference(shown(data), expected) == 0
    assert decode(data, SQUASH).facts.format == "JXL"


@needs_jxl
@pytest.mark.parametrize("size", [(8, 8), (1, 1), (80, 40), (1000, 3), (640, 480), (333, 4097)])
def test_the_size_of_a_jxl_is_known_before_it_is_decoded(size: tuple[int, int]) -> None:
    from retrieval.images.jxl import jxl_size

    data = jxl(Image.new("RGB", size))
    assert jxl_size(data) == size
    with pytest.raises(ImageError, match="--max-pixels 0"):
        open_image(data, max_pixels=0)


@needs_jxl
def test_a_jpeg_packed_as_jxl_is_what_it_was() -> None:
    from pillow_jxl.pillow_jxl import Encoder

    exif = Image.Exif()
    exif[0x0112] = 6
    data = jpeg(picture(1, 200, 150), exif=exif)
    encoder = Encoder(mode="RGB", lossless=True, quality=100, decoding_speed=0, effort=3,
                      use_container=True, use_original_profile=False, num_threads=0)  # fmt: skip
    packed = bytes(encoder(data, 200, 150, jpeg_encode=True))
    assert open_image(packed)[1:] == (150, 200)
    assert difference(shown(packed), shown(data)) < 1


@needs_jxl
def test_a_jxl_cut_off_is_refused() -> None:
    data = jxl(picture(1, 200, 150))
    for part in (data[:3], data[: len(data) // 2]):
        with pytest.raises(ImageError, match="truncated"):
            shown(part)


# --- animations


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "AVIF"])
@pytest.mark.parametrize("ground", ["white", "black", (40, 40, 200)])
def test_an_animation_is_its_first_frame_that_shows_something(kind: str, ground: object) -> None:
    empty = Image.new("RGB", (80, 40), ground)  # type: ignore[arg-type]
    frames = [empty.copy(), quarters(), picture(3, 80, 40)]
    data = encoded(empty, kind, save_all=True, append_images=frames, duration=100)
    assert difference(shown(data), quarters()) < 12
    assert difference(thumbnail(data, 80), quarters()) < 12
    assert decode(data, SQUASH).facts.frames in (3, 4)  # an encoder may join what is alike


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_a_first_frame_that_is_all_clear_is_passed_over(kind: str) -> None:
    clear = Image.new("RGBA", (80, 40), (0, 0, 0, 0))
    data = encoded(clear, kind, save_all=True, append_images=[quarters().convert("RGBA")])
    assert difference(shown(data), quarters()) < 12


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_an_animation_of_one_colour_is_its_first_frame(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("white", "red")]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    assert shown(data).getpixel((3, 3)) == (255, 255, 255)


def test_frames_that_cannot_be_decoded_leave_the_first() -> None:
    data = encoded(
        Image.new("RGB", (80, 40), "white"),
        "GIF",
        save_all=True,
        append_images=[picture(3, 80, 40)],
    )
    assert shown(data[:-300]).getpixel((3, 3)) == (255, 255, 255)

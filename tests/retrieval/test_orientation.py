"""Upright by EXIF, by XMP, and by the boxes of HEIC."""

from __future__ import annotations

import io

import pillow_heif
import pytest
from PIL import Image, ImageOps

from retrieval.images import open_image
from tests.retrieval.files import XMP, Page, tiff
from tests.retrieval.test_decoding import encoded, quarters
from tests.retrieval.test_images import difference, turned

PACKET = (
    b'<?xpacket begin=""?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf='
    b'"http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description xmlns:tiff='
    b'"http://ns.adobe.com/tiff/1.0/" %s</rdf:RDF></x:xmpmeta>'
)


def packet(orientation: int, *, as_element: bool = False) -> bytes:
    said = b'tiff:Orientation="%d"/>' % orientation
    if as_element:
        said = b"><tiff:Orientation>%d</tiff:Orientation></rdf:Description>" % orientation
    return PACKET % said


def upright(orientation: int) -> Image.Image:
    image = quarters()
    image.getexif()[0x0112] = orientation
    return ImageOps.exif_transpose(image)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "PNG"])
def test_a_picture_is_turned_by_its_xmp(kind: str, orientation: int) -> None:
    if kind == "PNG":
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", packet(orientation).decode(), zip=orientation % 2 == 0)
        data = encoded(quarters(), "PNG", pnginfo=info)
    else:
        data = encoded(quarters(), kind, xmp=packet(orientation), quality=95)
    image, width, height = open_image(data)
    assert (width, height) == image.size == upright(orientation).size
    assert difference(image, upright(orientation)) < 4


@pytest.mark.parametrize("name", ["xmp", "APP1"])
@pytest.mark.parametrize("is_packed", [False, True])
def test_xmp_as_imagemagick_writes_it_into_a_png_turns_it(name: str, *, is_packed: bool) -> None:
    from PIL.PngImagePlugin import PngInfo

    body = (b"http://ns.adobe.com/xap/1.0/\0" if name == "APP1" else b"") + packet(6)
    info = PngInfo()
    text = f"\n{name}\n{len(body):8}\n{body.hex()}\n"
    info.add_text(f"Raw profile type {name}", text, zip=is_packed)
    assert open_image(encoded(quarters(), "PNG", pnginfo=info))[1:] == (40, 80)


def test_an_element_of_xmp_counts_as_an_attribute_does() -> None:
    data = encoded(quarters(), "JPEG", xmp=packet(6, as_element=True))
    assert open_image(data)[1:] == (40, 80)


def test_a_tiff_is_turned_by_its_xmp_where_it_has_no_tag() -> None:
    import numpy as np

    data = tiff(Page(np.asarray(quarters()), {XMP: packet(6)}))
    image, width, height = open_image(data)
    assert (width, height) == image.size == (40, 80)
    assert difference(image, upright(6)) == 0


def test_exif_comes_before_xmp() -> None:
    data = encoded(quarters(), "JPEG", xmp=packet(6), exif=turned(3))
    assert open_image(data)[1:] == (80, 40)


def test_an_orientation_that_means_nothing_turns_nothing() -> None:
    for data in (
        encoded(quarters(), "JPEG", xmp=packet(9)),
        encoded(quarters(), "JPEG", exif=turned(0)),
    ):
        assert open_image(data)[1:] == (80, 40)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_heic_without_a_box_is_turned_by_its_exif(orientation: int) -> None:
    stream = io.BytesIO()
    heif = pillow_heif.from_pillow(quarters())
    heif.save(stream, quality=95, exif=turned(orientation).tobytes())
    data = stream.getvalue().replace(b"irot", b"free").replace(b"imir", b"free")
    image, width, height = open_image(data)
    assert (width, height) == image.size == upright(orientation).size
    assert difference(image, upright(orientation)) < 4


def test_the_box_of_a_heic_comes_before_its_exif() -> None:
    stream = io.BytesIO()
    pillow_heif.from_pillow(quarters()).save(stream, quality=95, exif=turned(6).tobytes())
    data = stream.getvalue()
    assert b"irot" in data
    assert open_image(data)[1:] == (40, 80)

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import pytest

from retrieval.images import ImageFile, Preprocessing, find_images
from retrieval.loader import load_image, load_images
from tests.samples import picture

SQUASH = Preprocessing(32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.fixture
def files(pictures: Path) -> list[ImageFile]:
    return list(find_images([pictures]))


def test_images_come_in_order_with_their_pixels_and_hashes(files: list[ImageFile]) -> None:
    for file, loaded in zip(files, load_images(files, SQUASH, workers=4), strict=True):
        assert loaded.file == file
        assert loaded.sha256 == hashlib.sha256(file.path.read_bytes()).hexdigest()
        assert (loaded.width, loaded.height, loaded.error) == (80, 60, None)
        assert loaded.pixels is not None
        assert loaded.pixels.shape == (32, 32, 3)


def test_a_failure_is_a_value(files: list[ImageFile]) -> None:
    files[3].path.write_text("no image")
    files[5].path.unlink()
    loaded = list(load_images(files, SQUASH))
    assert len(loaded) == len(files)
    assert loaded[3].error == "not an image this program reads"
    assert loaded[3].sha256 != ""
    assert (loaded[5].error, loaded[5].sha256) == ("does not exist", "")
    assert sum(item.error is None for item in loaded) == len(files) - 2


def test_known_content_is_hashed_and_not_decoded(files: list[ImageFile]) -> None:
    known = load_image(files[0], SQUASH).sha256
    loaded = load_image(files[0], SQUASH, is_known=lambda sha256: sha256 == known)
    assert (loaded.pixels, loaded.error, loaded.sha256) == (None, None, known)


def test_only_so_many_are_loaded_ahead(files: list[ImageFile]) -> None:
    started = []

    def watched() -> object:
        for file in files:
            started.append(file)
            yield file

    stream = load_images(watched(), SQUASH, ahead=5)  # type: ignore[arg-type]
    next(stream)
    assert len(started) <= 6
    stream.close()


def test_stopping_early_leaves_no_threads(files: list[ImageFile]) -> None:
    before = set(threading.enumerate())
    stream = load_images(files, SQUASH, workers=3)
    next(stream)
    stream.close()
    for thread in set(threading.enumerate()) - before:
        thread.join(timeout=300)
        assert not thread.is_alive()


def test_a_region_is_cut_before_fitting(tmp_path: Path) -> None:
    image = picture(0, 64, 64)
    image.paste((255, 0, 0), (16, 16, 48, 48))
    image.save(tmp_path / "x.png")
    file = next(find_images([tmp_path / "x.png"]))
    pixels = load_image(file, SQUASH, crop=(16, 16, 32, 32)).pixels
    assert pixels is not None
    assert (pixels == [255, 0, 0]).all()


def test_a_picture_that_takes_too_long_is_a_failure_and_the_rest_goes_on(tmp_path: Path) -> None:
    from tests.retrieval.test_costs import blank_png

    for name in ("a.png", "c.png"):
        picture(0).save(tmp_path / name)
    (tmp_path / "b.png").write_bytes(blank_png(5000, 5000, 16, 6))
    files = list(find_images([tmp_path]))
    loaded = list(load_images(files, SQUASH, workers=1, cpu_seconds=0.2))
    assert [item.error is None for item in loaded] == [True, False, True]
    assert "seconds to decode" in str(loaded[1].error)
    assert loaded[1].sha256 == hashlib.sha256(files[1].path.read_bytes()).hexdigest()


def test_the_facts_of_a_file_come_with_its_pixels(files: list[ImageFile]) -> None:
    facts = load_image(files[0], SQUASH).facts
    assert facts is not None
    assert (facts.format, facts.frames, facts.depth, facts.alpha) == ("JPEG", 1, 8, False)
    assert load_image(files[0], SQUASH, is_known=lambda _: True).facts is None

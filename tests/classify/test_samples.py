"""imgret sample's pictures: the same for the same seed, of the right classes, on any ground."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from classify.samples import CLASSES, make_samples
from classify.samples.renderer import render_scene
from retrieval.errors import ImgretError
from tests.samples import files_of_at_most

SIZE = 40
EACH = 12  # pictures a class to learn from, and as many to test with


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pictures a class to train and one to test."""
    folder = tmp_path_factory.mktemp("samples") / "small"
    make_samples(folder, train=2, test=1, size=SIZE, seed=3)
    return folder


@pytest.fixture(scope="module")
def many() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """2 * EACH pictures of each class: pictures (n, h, w, 3), covers (n, h, w), labels (n,)."""
    drawn = [
        (*render_scene(name, SIZE, np.random.default_rng([n, label])), label)
        for n in range(2 * EACH)
        for label, name in enumerate(CLASSES)
    ]
    pictures, covers, labels = zip(*drawn, strict=True)
    return np.stack([np.asarray(p) for p in pictures]), np.stack(covers), np.array(labels)


def contents(folder: Path) -> dict[str, bytes]:
    """Each picture's bytes, by its path below the folder."""
    found = sorted(folder.rglob("*.jpg"))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def nearest_mean_accuracy(values: np.ndarray, labels: np.ndarray) -> float:
    """Learn from the first half and test on the second. values: (n, d), labels: (n,)."""
    values = (values - values.mean(0)) / (values.std(0) + 1e-9)
    half = len(values) // 2
    means = np.stack([values[:half][labels[:half] == n].mean(0) for n in range(len(CLASSES))])
    distances = ((values[half:, None] - means[None]) ** 2).sum(2)
    return float((distances.argmin(1) == labels[half:]).mean())


def shape(cover: np.ndarray) -> list[float]:
    """How long a silhouette is, how much of its frame it fills, and how much of it is hole."""
    rows, columns = np.nonzero(cover > 0.5)
    spread = np.sqrt(np.maximum(np.linalg.eigvalsh(np.cov(rows, columns)), 0))
    frame = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
    outside = Image.fromarray(np.pad(cover > 0.5, 1).astype(np.uint8)).copy()
    ImageDraw.floodfill(outside, (0, 0), 2)
    hole = (np.asarray(outside) == 0).sum()
    return [spread[0] / spread[1], len(rows) / frame, hole / (len(rows) + hole)]


def test_each_class_has_a_folder_in_each_split_with_its_pictures(small: Path) -> None:
    names = [(path.parent.parent.name, path.parent.name) for path in small.rglob("*.jpg")]
    assert set(names) == {(split, name) for split in ("train", "test") for name in CLASSES}
    assert all(names.count(("train", name)) == 2 for name in CLASSES)
    assert all(names.count(("test", name)) == 1 for name in CLASSES)
    assert sorted(CLASSES) == ["bolt", "carton_box", "cement_bag", "nut", "washer"]


def test_all_pictures_are_jpegs_in_colour_of_the_size_asked_for(small: Path) -> None:
    for path in small.rglob("*.jpg"):
        with Image.open(path) as image:
            image.load()
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (SIZE, SIZE))


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(
    small: Path, tmp_path: Path
) -> None:
    make_samples(tmp_path / "again", train=2, test=1, size=SIZE, seed=3)
    make_samples(tmp_path / "other", train=2, test=1, size=SIZE, seed=4)
    first, again, other = (contents(f) for f in (small, tmp_path / "again", tmp_path / "other"))
    assert again == first
    assert not set(other.values()) & set(first.values())


def test_no_picture_is_there_twice(small: Path) -> None:
    found = contents(small)
    assert len(set(found.values())) == len(found) == 15


def test_more_images_extend_a_folder_and_change_none_of_it(tmp_path: Path) -> None:
    first = make_samples(tmp_path / "parts", train=1, test=1, size=SIZE)
    before = contents(tmp_path / "parts")
    more = make_samples(tmp_path / "parts", train=2, test=1, size=SIZE)
    after = contents(tmp_path / "parts")
    assert (first.written, more.written, more.images) == (10, 5, 15)
    assert {name: after[name] for name in before} == before
    assert len(after) == 15


def test_fewer_images_take_none_away(small: Path) -> None:
    before = contents(small)
    again = make_samples(small, train=1, test=0, size=SIZE, seed=3)
    assert (again.written, again.images) == (0, 5)
    assert contents(small) == before
    assert tomllib.loads((small / "sample.toml").read_text())["train"] == 2


def test_an_interrupted_run_goes_on_to_the_same_pictures(small: Path, tmp_path: Path) -> None:
    def interrupt(what: str, done: int, total: int | None) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_samples(tmp_path / "s", train=2, test=1, size=SIZE, seed=3, progress=interrupt)
    there = contents(tmp_path / "s")
    assert 4 <= len(there) < 15
    done = make_samples(tmp_path / "s", train=2, test=1, size=SIZE, seed=3)
    assert done.written == 15 - len(there)
    assert contents(tmp_path / "s") == contents(small)
    assert not list(tmp_path.rglob(".imgret-part-*"))


def test_progress_counts_up_to_all_pictures(tmp_path: Path) -> None:
    told: list[tuple[str, int, int | None]] = []
    make_samples(
        tmp_path / "s", train=1, test=0, size=SIZE, progress=lambda *step: told.append(step)
    )
    assert told == [("rendering", n, 5) for n in range(6)]


def test_a_folder_with_other_things_in_it_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(
        ImgretError, match="not empty, and `imgret sample` did not write its content"
    ):
        make_samples(tmp_path, train=1, test=0, size=SIZE)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


HUGE = "size = 64\nseed = 0\ntrain = 1\ntest = 0\n" + "#" * (1 << 16)


@pytest.mark.parametrize("text", ["", "size = 'large'", "size = [", HUGE], ids=range(4))
def test_a_settings_file_that_is_not_ours_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "sample.toml").write_text(text)
    with pytest.raises(ImgretError, match="did not write its content"):
        make_samples(tmp_path, train=1, test=0, size=SIZE)


@pytest.mark.parametrize("other", [{"size": SIZE + 1, "seed": 3}, {"size": SIZE, "seed": 4}])
def test_other_settings_than_those_of_the_folder_are_refused(
    small: Path, other: dict[str, int]
) -> None:
    with pytest.raises(ImgretError, match=f"size {SIZE}, seed 3, version 1. Give that"):
        make_samples(small, train=2, test=1, **other)


def test_the_settings_are_noted_in_the_folder(small: Path) -> None:
    noted = tomllib.loads((small / "sample.toml").read_text())
    assert {"size": SIZE, "seed": 3, "train": 2, "test": 1}.items() <= noted.items()


@pytest.mark.parametrize(
    "wrong", [{"size": 31}, {"size": 5000}, {"train": -1}, {"train": 0, "test": 0}, {"seed": -1}]
)
def test_numbers_out_of_range_are_refused_before_anything_is_written(
    tmp_path: Path, wrong: dict[str, int]
) -> None:
    with pytest.raises(ImgretError):
        make_samples(tmp_path / "s", **wrong)
    assert not (tmp_path / "s").exists()


def test_a_file_in_the_place_of_the_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ImgretError, match=r"file is a file\. Name a new or empty folder"):
        make_samples(tmp_path / "file", train=1, test=0, size=SIZE)


def test_a_full_disk_is_said_and_no_half_picture_stays(tmp_path: Path) -> None:
    (tmp_path / "s" / "test" / "bolt").mkdir(parents=True)
    (tmp_path / "s" / "sample.toml").write_text(
        f"version = 1\nsize = {SIZE}\nseed = 0\ntrain = 0\ntest = 1\n"
    )
    error = pytest.raises(ImgretError, match=r"s cannot be written \(File too large\)")
    with files_of_at_most(100), error:
        make_samples(tmp_path / "s", train=0, test=1, size=SIZE)
    assert not list((tmp_path / "s" / "test" / "bolt").iterdir())


def test_each_part_fills_some_of_its_picture_and_stands_out(
    many: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    pictures, covers, _ = many
    shares = covers.mean((1, 2))
    assert shares.min() > 0.01
    assert shares.max() < 0.9
    inside, outside = covers > 0.9, covers < 0.1
    apart = [
        np.abs(p[i].mean(0) - p[o].mean(0)).max() + abs(p[i].std() - p[o].std())
        for p, i, o in zip(pictures.astype(float), inside, outside, strict=True)
    ]
    assert np.mean(np.array(apart) > 12) > 0.95


def test_washers_and_nuts_show_what_is_behind_their_hole(
    many: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    _, covers, labels = many
    holes = {
        name: np.mean([shape(cover)[2] > 0.02 for cover in covers[labels == label]])
        for label, name in enumerate(CLASSES)
    }
    assert holes["washer"] > 0.5
    assert holes["nut"] > 0.15
    assert max(holes[name] for name in ("bolt", "carton_box", "cement_bag")) < 0.1


def test_the_background_does_not_tell_the_class_and_the_shape_does(
    many: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    pictures, covers, labels = many
    edge = np.ones((SIZE, SIZE), bool)
    edge[3:-3, 3:-3] = False
    border = pictures[:, edge].astype(float) / 255
    by_border = np.concatenate([border.mean(1), border.std(1)], 1)
    by_shape = np.array([shape(cover) for cover in covers])
    assert nearest_mean_accuracy(by_border, labels) < 0.36
    assert nearest_mean_accuracy(by_shape, labels) > 0.45

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classify.data import batches, decode_all, find_labelled, find_splits, fingerprint
from classify.data import pixels as data
from classify.recipe import DataSettings
from retrieval.errors import ImgretError
from retrieval.images import Preprocessing
from tests.classify.blobs import blob, save_blobs

PLAIN = Preprocessing(size=16, mean=(0.5,) * 3, std=(0.5,) * 3)


def names(images: object) -> list[str]:
    return [str(file.path) for file in images.files]  # type: ignore[attr-defined]


def test_class_folders_are_split_by_class_and_seed(tmp_path: Path) -> None:
    save_blobs(tmp_path, 10)
    splits = find_splits(tmp_path, DataSettings(validation=0.2), seed=3)
    assert np.bincount(splits.train.labels).tolist() == [8, 8, 8]
    assert np.bincount(splits.validation.labels).tolist() == [2, 2, 2]
    assert not set(names(splits.train)) & set(names(splits.validation))
    again = find_splits(tmp_path, DataSettings(validation=0.2), seed=3)
    other = find_splits(tmp_path, DataSettings(validation=0.2), seed=4)
    assert names(again.validation) == names(splits.validation) != names(other.validation)
    assert fingerprint(again) == fingerprint(splits) != fingerprint(other)


def test_a_test_split_is_held_out_where_it_is_asked_for(tmp_path: Path) -> None:
    save_blobs(tmp_path, 10)
    splits = find_splits(tmp_path, DataSettings(validation=0.2, test=0.3), seed=0)
    found = [set(names(part)) for part in (splits.train, splits.validation, splits.test)]
    assert [len(part) for part in found] == [18, 3, 9]
    assert len(set.union(*found)) == 30


def test_folders_for_each_split_are_taken_as_they_are(tmp_path: Path) -> None:
    for name, each in (("train", 6), ("val", 2), ("test", 3)):
        save_blobs(tmp_path / name, each, first=100 * each)
    splits = find_splits(tmp_path, DataSettings(), seed=0)
    assert [len(s) for s in (splits.train, splits.validation, splits.test)] == [18, 6, 9]


def test_validation_images_are_held_out_where_there_is_no_folder_of_them(tmp_path: Path) -> None:
    save_blobs(tmp_path / "train", 10)
    save_blobs(tmp_path / "test", 3, first=100)
    splits = find_splits(tmp_path, DataSettings(validation=0.2, test=0.5), seed=0)
    assert [len(s) for s in (splits.train, splits.validation, splits.test)] == [24, 6, 9]
    assert all("test" in name for name in names(splits.test))
    assert all("train" in name for name in names(splits.validation))


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_a_folder_of_validation_images_has_three_names(tmp_path: Path, name: str) -> None:
    save_blobs(tmp_path / "train", 3)
    save_blobs(tmp_path / name, 1, first=100)
    splits = find_splits(tmp_path, DataSettings(), seed=0)
    assert [len(splits.train), len(splits.validation)] == [9, 3]


def test_a_class_with_one_image_will_do_where_validation_has_a_folder(tmp_path: Path) -> None:
    save_blobs(tmp_path / "train", 1)
    save_blobs(tmp_path / "val", 1, first=100)
    assert len(find_splits(tmp_path, DataSettings(), seed=0).train) == 3


def test_every_class_is_in_every_split_however_small_it_is(tmp_path: Path) -> None:
    save_blobs(tmp_path, 20)
    for keep, name in ((2, "red"), (3, "green")):
        for file in sorted((tmp_path / name).iterdir())[keep:]:
            file.unlink()
    for share in (0.01, 0.2, 0.9, 0.99):
        splits = find_splits(tmp_path, DataSettings(validation=share), seed=0)
        for part in (splits.train, splits.validation):
            assert (np.bincount(part.labels, minlength=3) >= 1).all()
        assert len(splits.train) + len(splits.validation) == 25


def test_hidden_and_empty_folders_and_loose_files_are_no_classes(tmp_path: Path) -> None:
    save_blobs(tmp_path, 2)
    (tmp_path / ".cache").mkdir()
    (tmp_path / "empty").mkdir()
    shutil.copy(tmp_path / "red" / "000.png", tmp_path / ".cache")
    shutil.copy(tmp_path / "red" / "000.png", tmp_path / "loose.png")
    images = find_labelled(tmp_path)
    assert images.classes == ("blue", "green", "red")
    assert len(images) == 6


def test_a_fraction_keeps_the_shares_of_the_classes(tmp_path: Path) -> None:
    save_blobs(tmp_path, 20)
    splits = find_splits(tmp_path, DataSettings(validation=0.2, fraction=0.5), seed=0)
    assert np.bincount(splits.train.labels).tolist() == [8, 8, 8]


@pytest.mark.parametrize(
    ("data", "validation", "said"),
    [
        (DataSettings(fraction=0.1), "val", "red has one training image left after data.fraction "
         "= 0.1. Set a larger data.fraction to train on more."),
        (DataSettings(test=0.9), "val", "red has one training image left after data.test = 0.9. "
         "Set a smaller data.test to train on more."),
        (DataSettings(fraction=0.1, validation=0), "", "red has one training image left after "
         "data.fraction = 0.1. Set a larger data.fraction to train on more."),
        (DataSettings(test=0.2, fraction=0.2, validation=0), "", "red has one training image left "
         "after data.test = 0.2 and data.fraction = 0.2. Set a smaller data.test or a larger "
         "data.fraction to train on more."),
        (DataSettings(fraction=0.8), "val", ""),
        (DataSettings(validation=0), "", ""),
    ],
)  # fmt: skip
def test_a_class_that_settings_leave_one_training_image_is_told(
    tmp_path: Path, data: DataSettings, validation: str, said: str
) -> None:
    save_blobs(tmp_path / "train", 20)
    for file in sorted((tmp_path / "train" / "red").iterdir())[5:]:
        file.unlink()
    if validation:
        save_blobs(tmp_path / validation, 2, first=100)
    notes = find_splits(tmp_path, data, seed=0).notes
    assert [note for note in notes if "training image" in note] == [said] * bool(said)


def test_many_classes_of_one_training_image_are_told_in_one_sentence(tmp_path: Path) -> None:
    for n in range(7):
        (tmp_path / f"c{n}").mkdir()
        for k in range(3):
            blob((30 * n, 0, 0), 10 * n + k).save(tmp_path / f"c{n}" / f"{k}.png")
    (note,) = find_splits(tmp_path, DataSettings(fraction=0.1, validation=0), seed=0).notes
    assert note.startswith("c0, c1, c2, c3 and 3 more have one training image each left after")


def test_a_class_of_one_training_image_beside_its_own_validation_is_told(tmp_path: Path) -> None:
    save_blobs(tmp_path / "train", 5)
    save_blobs(tmp_path / "val", 2, first=100)
    first, *others = sorted((tmp_path / "train" / "red").iterdir())
    for file in others:
        file.unlink()
    note = find_splits(tmp_path, DataSettings(), seed=0).notes[-1]
    assert note == "red has one training image. Add images to train on more."
    shutil.copy(first, first.with_name("copy.png"))
    note = find_splits(tmp_path, DataSettings(), seed=0).notes[-1]
    assert note == "red has one training image, not counting copies. Add images to train on more."


def test_settings_are_no_reason_of_a_class_of_one_image(tmp_path: Path) -> None:
    save_blobs(tmp_path / "train", 5)
    for file in sorted((tmp_path / "train" / "red").iterdir())[1:]:
        file.unlink()
    for how in (DataSettings(test=0.2), DataSettings(fraction=0.8)):
        with pytest.raises(ImgretError, match=r"has one image\. .*Add images or remove the class"):
            find_splits(tmp_path, how, seed=0)
    save_blobs(tmp_path / "test", 2, first=100)
    (tmp_path / "train" / "red" / "other.png").write_bytes(b"another")
    with pytest.raises(ImgretError, match=r"'blue' .* one image left after data.fraction = 0.1\."):
        find_splits(tmp_path, DataSettings(test=0.2, fraction=0.1), seed=0)


def test_a_class_of_the_test_images_that_training_lacks_is_named(tmp_path: Path) -> None:
    save_blobs(tmp_path / "train", 4)
    save_blobs(tmp_path / "test", 2)
    (tmp_path / "test" / "red").rename(tmp_path / "test" / "purple")
    with pytest.raises(ImgretError, match=r"'purple'.*does not know"):
        find_splits(tmp_path, DataSettings(), seed=0)


def test_labels_follow_the_names_of_the_model(tmp_path: Path) -> None:
    save_blobs(tmp_path, 2)
    shutil.rmtree(tmp_path / "blue")
    images = find_labelled(tmp_path).of_classes(("red", "blue", "green"), "x")
    assert images.labels.tolist() == [2, 2, 0, 0]


@pytest.mark.parametrize(
    ("keep", "said"),
    [(["red"], "only one class, 'red'"), ([], "no class folders"), (["red", "one"], "one image")],
)
def test_what_cannot_be_trained_on_is_said(tmp_path: Path, keep: list[str], said: str) -> None:
    save_blobs(tmp_path / "all", 3)
    (tmp_path / "some").mkdir()
    for name in keep:
        source = tmp_path / "all" / ("green" if name == "one" else name)
        shutil.copytree(source, tmp_path / "some" / name)
    if "one" in keep:
        for file in sorted((tmp_path / "some" / "one").iterdir())[1:]:
            file.unlink()
    with pytest.raises(ImgretError, match=said):
        find_splits(tmp_path / "some", DataSettings(), seed=0)


def test_a_folder_that_is_none_is_said(tmp_path: Path) -> None:
    with pytest.raises(ImgretError, match="is not a folder"):
        find_splits(tmp_path / "nothing", DataSettings(), seed=0)


def test_a_fingerprint_tells_of_a_moved_and_of_a_changed_image(tmp_path: Path) -> None:
    save_blobs(tmp_path, 4, first=0)
    begun = fingerprint(find_splits(tmp_path, DataSettings(), seed=0))
    file = tmp_path / "red" / "001.png"
    content = file.read_bytes()
    file.write_bytes(content + b"\0")
    changed = fingerprint(find_splits(tmp_path, DataSettings(), seed=0))
    file.write_bytes(content)
    assert fingerprint(find_splits(tmp_path, DataSettings(), seed=0)) == begun
    file.rename(tmp_path / "blue" / "red001.png")
    moved = fingerprint(find_splits(tmp_path, DataSettings(), seed=0))
    assert len({begun, changed, moved}) == 3


@given(st.integers(1, 60), st.integers(1, 20), st.integers(0, 99))
def test_batches_hold_each_image_once_and_in_an_order_only_full_ones(
    n: int, size: int, seed: int
) -> None:
    assert np.concatenate(list(batches(n, size))).tolist() == list(range(n))
    order = np.random.default_rng(seed).permutation(n)
    full = list(batches(n, size, order))
    assert {len(places) for places in full} == {min(size, n)}
    assert np.concatenate(full).tolist() == order[: sum(map(len, full))].tolist()
    assert n - sum(map(len, full)) < min(size, n)


def test_a_bad_image_is_left_out_and_named(tmp_path: Path) -> None:
    save_blobs(tmp_path, 2)
    (tmp_path / "green" / "bad.png").write_bytes(b"no image")
    images = find_labelled(tmp_path)
    pixels = decode_all(images, PLAIN)
    assert [path.name for path, _ in pixels.failed] == ["bad.png"]
    assert pixels.pixels.shape == (6, 16, 16, 3)
    assert pixels.images.labels.tolist() == [0, 0, 1, 1, 2, 2]


def test_no_usable_image_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "bad.png").write_bytes(b"no image")
    with pytest.raises(ImgretError, match=r"No image can be used, such as .*bad\.png"):
        decode_all(find_labelled(tmp_path), PLAIN)


def test_more_pixels_than_memory_lie_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_blobs(tmp_path, 3)
    (tmp_path / "green" / "bad.png").write_bytes(b"no image")
    images = find_labelled(tmp_path)
    in_memory = decode_all(images, PLAIN)
    monkeypatch.setattr(data, "MEMORY_SHARE", 0.0)
    in_file = decode_all(images, PLAIN)
    assert isinstance(in_file.pixels, np.memmap)
    assert (in_file.pixels == in_memory.pixels).all()
    assert in_file.failed == in_memory.failed


def test_more_pixels_than_disk_are_refused_before_any_is_read(tmp_path: Path) -> None:
    save_blobs(tmp_path, 2)
    images = find_labelled(tmp_path)
    many = images.subset(np.zeros(10_000_000, np.int64))
    with pytest.raises(ImgretError, match=r"GB, more than memory has.*TMPDIR"):
        decode_all(many, Preprocessing(size=1024, mean=(0.5,) * 3, std=(0.5,) * 3))

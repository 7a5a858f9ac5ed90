from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from classify.data import LabelledImages, find_labelled, find_splits
from classify.data.splits import _stratified
from classify.recipe import DataSettings
from retrieval.errors import ImgretError
from retrieval.images import ImageFile
from tests.classify.blobs import save_blobs
from tests.samples import picture


def contents(images: LabelledImages) -> set[str]:
    return {hashlib.sha256(file.path.read_bytes()).hexdigest() for file in images.files}


@pytest.mark.parametrize("seed", range(4))
def test_copies_of_a_file_are_on_one_side(tmp_path: Path, seed: int) -> None:
    save_blobs(tmp_path, 8)
    for file in sorted((tmp_path / "red").iterdir()):
        shutil.copy(file, file.with_name(f"copy of {file.name}"))
    splits = find_splits(tmp_path, DataSettings(validation=0.25, test=0.25), seed=seed)
    parts = [contents(part) for part in (splits.train, splits.validation, splits.test)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 24
    assert any("16 images are copies of one another, 8 in all" in n for n in splits.notes)


def test_copies_under_two_classes_are_on_one_side_and_told(tmp_path: Path) -> None:
    save_blobs(tmp_path, 8)
    for n in range(3):
        shutil.copy(tmp_path / "red" / f"{n:03}.png", tmp_path / "blue" / f"red{n}.png")
    for seed in range(6):
        splits = find_splits(tmp_path, DataSettings(), seed=seed)
        assert not contents(splits.train) & contents(splits.validation)
        assert any("3 of these stand under several classes" in note for note in splits.notes)


def test_copies_of_what_is_tested_on_are_not_trained_on(tmp_path: Path) -> None:
    for place, name in enumerate(("train", "val", "test")):
        save_blobs(tmp_path / name, 5, first=100 * place)
    shutil.copy(tmp_path / "test" / "red" / "200.png", tmp_path / "train" / "red")
    shutil.copy(tmp_path / "test" / "red" / "201.png", tmp_path / "val" / "red")
    shutil.copy(tmp_path / "val" / "blue" / "100.png", tmp_path / "train" / "blue")
    splits = find_splits(tmp_path, DataSettings(), seed=0)
    parts = [contents(part) for part in (splits.train, splits.validation, splits.test)]
    assert list(map(len, parts)) == [15, 15, 15]
    assert len(set.union(*parts)) == 45
    left_out = f"Left out, as copies of what is held out in {tmp_path}: 3 images."
    assert left_out in splits.notes


@pytest.mark.long
@pytest.mark.parametrize("way", ["itself", "a link", "a way back"])
def test_near_copies_are_on_one_side_where_that_is_asked_for(tmp_path: Path, way: str) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there")
    place = {"itself": "there", "a link": "link", "a way back": "there/../there"}[way]
    tmp_path /= place
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for n in range(10):
            image = picture(n + 100 * (name == "b"), 160, 120)
            image.save(tmp_path / name / f"{n}.png")
            small = image.resize((80, 60), Image.Resampling.LANCZOS)
            small.save(tmp_path / name / f"{n} small.png")
    torn = 0
    for near in (True, False):
        for seed in range(3):
            splits = find_splits(tmp_path, DataSettings(group_duplicates=near), seed=seed)
            stems = [
                {(f.path.parent.name, f.path.stem.split()[0]) for f in part.files}
                for part in (splits.train, splits.validation)
            ]
            torn += bool(stems[0] & stems[1])
            if near:
                assert not stems[0] & stems[1]
                assert any("copies of one another" in note for note in splits.notes)
    assert torn  # without being asked


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (DataSettings(), "'red' in .* has 2 copies of one image. It needs 2 or more that are not"),
        (DataSettings(test=0.5), "'red' in .* has one image left after data.test = 0.5"),
        (DataSettings(fraction=0.1), "'blue' in .* has one image left after data.fraction = 0.1"),
    ],
)
def test_a_class_of_one_image_is_named(tmp_path: Path, data: DataSettings, said: str) -> None:
    save_blobs(tmp_path, 8)
    kept = 2 if data != DataSettings() else 1
    for file in sorted((tmp_path / "red").iterdir())[kept:]:
        file.unlink()
    if data == DataSettings():
        shutil.copy(tmp_path / "red" / "000.png", tmp_path / "red" / "copy.png")
    with pytest.raises(ImgretError, match=said):
        find_splits(tmp_path, data, seed=0)


def test_a_class_that_is_all_held_out_is_named(tmp_path: Path) -> None:
    save_blobs(tmp_path / "train", 3)
    save_blobs(tmp_path / "test", 3, first=100)
    shutil.rmtree(tmp_path / "train" / "red")
    shutil.copytree(tmp_path / "test" / "red", tmp_path / "train" / "red")
    with pytest.raises(ImgretError, match=r"'red'.*are copies of images that are held out"):
        find_splits(tmp_path, DataSettings(), seed=0)


@settings(deadline=None)
@given(st.lists(st.integers(0, 3), min_size=2, max_size=40), st.floats(0.01, 0.99), st.data())
def test_a_share_of_each_class_is_never_none_nor_all(
    labels: list[int], share: float, data: st.DataObject
) -> None:
    of = np.array(labels)
    group = st.lists(st.integers(0, 60), min_size=len(of), max_size=len(of))
    groups = np.array(data.draw(group)) * 4 + of  # copies are within a class
    files = tuple(ImageFile(Path(str(n)), Path(), 1, 1) for n in range(len(of)))
    images = LabelledImages(files, of, ("a", "b", "c", "d"), groups)
    held_out = _stratified(images, share, seed=0)
    rest = np.setdiff1d(np.arange(len(of)), held_out)
    assert not set(groups[held_out]) & set(groups[rest])
    for label in np.unique(of):
        distinct = len(np.unique(groups[of == label]))
        held = len(np.unique(groups[held_out][of[held_out] == label]))
        assert held == min(max(1, round(share * distinct)), max(1, distinct - 1))


def test_files_without_copies_are_split_as_ever(tmp_path: Path) -> None:
    save_blobs(tmp_path, 10)
    splits = find_splits(tmp_path, DataSettings(), seed=3)
    labels = find_labelled(tmp_path).labels
    random = np.random.default_rng(3)
    by_hand = np.concatenate(
        [random.choice(np.flatnonzero(labels == n), 2, replace=False) for n in range(3)]
    )
    files = find_labelled(tmp_path).files
    assert {f.path for f in splits.validation.files} == {files[n].path for n in by_hand}


def test_a_class_of_copies_is_told_as_such(tmp_path: Path) -> None:
    save_blobs(tmp_path, 4)
    for file in sorted((tmp_path / "red").iterdir())[1:]:
        shutil.copy(tmp_path / "red" / "000.png", file)
    with pytest.raises(ImgretError, match=r"'red' in .* has 4 copies of one image\. It"):
        find_splits(tmp_path, DataSettings(), seed=0)


def test_validation_images_that_are_all_tested_on_are_told(tmp_path: Path) -> None:
    save_blobs(tmp_path / "train", 4)
    save_blobs(tmp_path / "val", 2, first=100)
    shutil.copytree(tmp_path / "val", tmp_path / "test")
    splits = find_splits(tmp_path, DataSettings(), seed=0)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (12, 0, 6)
    assert f"None is left in {tmp_path / 'val'}, so the last epoch will be kept." in splits.notes


def test_a_class_that_a_given_split_lacks_is_told(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        save_blobs(tmp_path / split, 4, first=100 * len(split))
    shutil.rmtree(tmp_path / "val" / "red")
    for name in ("red", "blue"):
        shutil.rmtree(tmp_path / "test" / name)
    notes = find_splits(tmp_path, DataSettings(), seed=0).notes
    assert [note for note in notes if "has no image of it" in note] == [
        f"No validation figure is of red: {tmp_path / 'val'} has no image of it.",
        f"No test figure is of blue and red: {tmp_path / 'test'} has no image of it.",
    ]


def test_images_beside_the_class_folders_are_told(tmp_path: Path) -> None:
    save_blobs(tmp_path, 4)
    shutil.copy(tmp_path / "red" / "000.png", tmp_path / "loose.png")
    notes = find_splits(tmp_path, DataSettings(), seed=0).notes
    told = [note for note in notes if "they have no class" in note]
    assert told == [f"Images in {tmp_path} itself are not used: they have no class."]

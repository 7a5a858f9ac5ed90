"""Classes whose images cannot be read are named before the first step."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from classify.data import find_splits
from classify.tested import evaluate_run
from classify.training import train
from retrieval.errors import DataError
from tests.classify.blobs import save_blobs, tiny

ONE = r"'red' has one readable image left of 6 \(.*red.*\.png: .+\)\. It needs 2 .* Add images"


def break_images(folder: Path, intact: int = 0) -> None:
    for file in sorted(folder.rglob("*.png"))[intact:]:
        file.write_bytes(b"no image " + file.name.encode())


def told(data: Path, out: Path, *overrides: str) -> list[str]:
    """What a training says before its first epoch."""
    said: list[str] = []
    train(data, tiny("training.epochs=1", *overrides), out, on_split=said.extend)
    return said


@pytest.mark.parametrize("seed", range(6))
def test_one_readable_image_of_a_class_is_named_with_any_seed(tmp_path: Path, seed: int) -> None:
    data = save_blobs(tmp_path / "data", 6)
    break_images(data / "red", intact=1)
    with pytest.raises(DataError, match=ONE):
        train(data, tiny(f"training.seed={seed}"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("classes", ["auto", "folder", "deepest"])
def test_the_reason_is_found_however_deep_a_classs_images_lie(tmp_path: Path, classes: str) -> None:
    data = save_blobs(tmp_path / "data", 4)
    (data / "red").rename(data / "photos")
    (data / "red").mkdir()
    (data / "photos").rename(data / "red" / "photos")
    break_images(data / "red")
    name = "red/photos" if classes == "deepest" else "red"
    with pytest.raises(DataError, match=rf"No training .* '{name}' can be used \(.*png: .+\)"):
        train(data, tiny(f"data.classes={classes}"), tmp_path / "run")


def test_copies_of_one_readable_image_count_as_one(tmp_path: Path) -> None:
    data = save_blobs(tmp_path / "data", 4)
    break_images(data / "red", intact=1)
    shutil.copy(data / "red" / "000.png", data / "red" / "copy.png")
    with pytest.raises(DataError, match="'red' has one readable image left"):
        train(data, tiny(), tmp_path / "run")


def test_one_readable_image_will_do_where_nothing_is_held_out(tmp_path: Path) -> None:
    data = save_blobs(tmp_path / "data", 4)
    break_images(data / "red", intact=1)
    (note,) = told(data, tmp_path / "run", "data.validation=0")
    assert note.startswith("red has one readable training image left of 4 (")
    assert "red/001.png: " in note
    break_images(data / "red")
    with pytest.raises(DataError, match="No training image of the class 'red' can be used"):
        train(data, tiny("data.validation=0"), tmp_path / "other")


def test_a_class_without_a_readable_validation_image_is_told(tmp_path: Path) -> None:
    save_blobs(tmp_path / "data" / "train", 4)
    save_blobs(tmp_path / "data" / "val", 2, first=100)
    break_images(tmp_path / "data" / "val" / "red")
    note = told(tmp_path / "data", tmp_path / "run")[-1]
    assert note.startswith("No validation figure is of red: none of its validation images can be")
    assert "red/101.png: " in note


def test_one_readable_training_image_is_told_beside_a_folder_of_validation_images(
    tmp_path: Path,
) -> None:
    save_blobs(tmp_path / "data" / "train", 4)
    save_blobs(tmp_path / "data" / "val", 2, first=100)
    break_images(tmp_path / "data" / "train" / "red", intact=1)
    break_images(tmp_path / "data" / "val" / "red")
    one, other = told(tmp_path / "data", tmp_path / "run")[-2:]
    assert one.startswith("red has one readable training image left of 4 (")
    assert other.startswith("No validation figure is of red")


@pytest.mark.parametrize("share", ["data.fraction=0.2", "data.test=0.8"])
def test_settings_and_not_broken_images_are_the_reason_of_one_image(
    tmp_path: Path, share: str
) -> None:
    save_blobs(tmp_path / "data" / "train", 5)
    save_blobs(tmp_path / "data" / "val", 2, first=100)
    break_images(tmp_path / "data" / "val" / "red")
    notes = told(tmp_path / "data", tmp_path / "run", share)
    assert f"have one training image each left after {share.replace('=', ' = ')}." in notes[-2]
    assert notes[-1].startswith("No validation figure is of red")


def test_settings_that_left_fewer_images_are_told_with_the_broken_ones(tmp_path: Path) -> None:
    data, recipe = save_blobs(tmp_path / "data", 8), tiny("data.fraction=0.5")
    kept = {file.path for file in find_splits(data, recipe.data, seed=0).train.files}
    intact = min(path for path in kept if path.parent.name == "red")
    for file in (data / "red").iterdir():
        if file != intact:
            file.write_bytes(b"no image " + file.name.encode())
    said = r"'red' has one readable image left of 4 after data\.fraction = 0\.5 \("
    with pytest.raises(DataError, match=said):
        train(data, recipe, tmp_path / "run")


@pytest.mark.parametrize("share", ["data.test=0", "data.test=0.5"])
def test_a_class_without_a_readable_test_image_is_told(tmp_path: Path, share: str) -> None:
    data = tmp_path / "data"
    save_blobs(data / "train", 6)
    if share == "data.test=0":
        save_blobs(data / "test", 3, first=100)
    recipe = tiny("training.epochs=1", share)
    held_out = find_splits(data, recipe.data, seed=0).test.files
    red = [file.path for file in held_out if file.path.parent.name == "red"]
    for path in red:
        path.write_bytes(b"no image " + path.name.encode())
    said: list[str] = []
    trained = train(data, recipe, tmp_path / "run", on_split=said.extend)
    assert said[-1].startswith("No test figure is of red: none of its test images can be read (")
    assert any(str(path) in said[-1] for path in red)
    assert [path for path, _ in trained.failed] == red
    assert trained.run.facts.failed == 3
    tested = evaluate_run(tmp_path / "run")
    assert (tested.images, len(tested.failed)) == (6, 3)


def test_one_broken_test_image_of_several_is_listed_and_no_class_told(tmp_path: Path) -> None:
    save_blobs(tmp_path / "data" / "train", 4)
    save_blobs(tmp_path / "data" / "test", 3, first=100)
    broken = tmp_path / "data" / "test" / "red" / "100.png"
    broken.write_bytes(broken.read_bytes()[:300])
    said: list[str] = []
    recipe = tiny("training.epochs=1")
    trained = train(tmp_path / "data", recipe, tmp_path / "run", on_split=said.extend)
    assert not any("figure" in note for note in said)
    assert [path for path, _ in trained.failed] == [broken]


def test_test_images_that_are_all_broken_are_told_and_end_no_training(tmp_path: Path) -> None:
    save_blobs(tmp_path / "data" / "train", 4)
    save_blobs(tmp_path / "data" / "test", 2, first=100)
    break_images(tmp_path / "data" / "test")
    note = told(tmp_path / "data", tmp_path / "run")[-1]
    assert note.startswith("There is no test figure: no test image can be read (")
    assert "blue/100.png: " in note


def test_a_class_without_a_readable_training_image_is_named(tmp_path: Path) -> None:
    save_blobs(tmp_path / "data" / "train", 4)
    save_blobs(tmp_path / "data" / "val", 2, first=100)
    break_images(tmp_path / "data" / "train" / "red")
    with pytest.raises(DataError, match=r"No training image of the class 'red' .*train/red/000"):
        train(tmp_path / "data", tiny(), tmp_path / "run")


@pytest.mark.parametrize(("split", "purpose"), [("train", "training"), ("val", "validation")])
def test_a_split_of_broken_images_alone_is_named(tmp_path: Path, split: str, purpose: str) -> None:
    save_blobs(tmp_path / "data" / "train", 4)
    save_blobs(tmp_path / "data" / "val", 2, first=100)
    break_images(tmp_path / "data" / split)
    with pytest.raises(
        DataError, match=f"No image can be used for {purpose}, such as .*Give other"
    ):
        train(tmp_path / "data", tiny(), tmp_path / "run")

from __future__ import annotations

import shutil
import unicodedata
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classify.data import find_labelled, find_layout, find_splits
from classify.data.layout import find_tested, split_of
from classify.recipe import DataSettings
from retrieval.errors import ImgretError
from tests.classify.blobs import save_blobs

NAMED = {
    "train": ["train", "Training", "TRAIN", "seg_train", "parts_train", "train2017", "trainset",
              "Train Images", "x-train", "my.training.data", "TrainingData", "trainval", "TrAiN"],
    "validation": ["val", "VALID", "Validation", "validation_set", "dev", "val2017", "ValImages",
                   "devel", "minival"],
    "test": ["test", "Testing", "TEST", "seg_test", "parts_test", "test-images", "TestSet",
             "held-out", "HeldOut", "holdout", "testdev", "hold_out", "Hold Out", "HoldOut",
             "hold-out", "TESTing", "TeSt"],
}  # fmt: skip


@pytest.mark.parametrize("split", NAMED)
def test_usual_names_of_splits_are_known(split: str) -> None:
    assert {name: split_of(name) for name in NAMED[split]} == dict.fromkeys(NAMED[split], split)


@pytest.mark.parametrize(
    "name", ["latest", "contest", "devil", "retrained", "valley", "withheld", "de vil", "hold", ""]
)
def test_what_only_holds_the_letters_is_no_split(name: str) -> None:
    assert split_of(name) is None


@given(
    st.sampled_from([name for names in NAMED.values() for name in names]),
    st.sampled_from(["", "a_", "part-", "1."]),
)
def test_a_prefix_and_the_case_do_not_matter(name: str, prefix: str) -> None:
    assert split_of(prefix + name) == split_of(name) == split_of((prefix + name).lower())


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [("Training", None, "Testing"), ("TRAIN", "VAL", None), ("seg_train", None, "seg_test"),
     ("parts_train", "dev", "parts_test"), ("train", "eval", "test"),
     ("train", "validation", None)],
)  # fmt: skip
def test_splits_are_taken_by_any_of_their_names(
    tmp_path: Path, train: str, val: str | None, test: str | None
) -> None:
    for place, name in enumerate((train, val, test)):
        if name:
            save_blobs(tmp_path / name, 4 + place, first=100 * place)
    splits = find_splits(tmp_path, DataSettings(), seed=0)
    assert splits.train.classes == ("blue", "green", "red")
    held_out = {file.path.parent.parent.name for file in splits.validation.files}
    assert held_out == {val or train}
    assert {file.path.parent.parent.name for file in splits.test.files} == (
        {test} if test else set()
    )
    assert len(splits.validation) == (15 if val else 3)
    assert any(f"{train}/ is to train on" in note for note in splits.notes)


def test_evaluation_is_for_choosing_unless_another_folder_is(tmp_path: Path) -> None:
    for place, name in enumerate(("train", "eval")):
        save_blobs(tmp_path / name, 2, first=100 * place)
    assert find_layout(tmp_path).validation == tmp_path / "eval"
    save_blobs(tmp_path / "val", 2, first=300)
    layout = find_layout(tmp_path)
    assert (layout.validation, layout.test) == (tmp_path / "val", tmp_path / "eval")


def test_folders_around_it_all_are_gone_through(tmp_path: Path) -> None:
    for place, name in enumerate(("seg_train", "seg_test")):
        save_blobs(tmp_path / "archive" / name / name, 2, first=100 * place)
    layout = find_layout(tmp_path)
    assert layout.train == tmp_path / "archive" / "seg_train" / "seg_train"
    assert layout.test == tmp_path / "archive" / "seg_test" / "seg_test"


def test_a_loose_image_does_not_make_a_class_of_a_split(tmp_path: Path) -> None:
    for place, name in enumerate(("train", "test")):
        save_blobs(tmp_path / name, 4, first=100 * place)
    shutil.copy(next((tmp_path / "train" / "red").iterdir()), tmp_path / "train" / "0.png")
    splits = find_splits(tmp_path, DataSettings(), seed=0)
    assert splits.train.classes == ("blue", "green", "red")
    assert splits.test is not None
    assert (
        f"Images in {tmp_path / 'train'} itself are not used: they have no class." in splits.notes
    )


def test_a_loose_image_does_not_make_a_class_of_the_only_split(tmp_path: Path) -> None:
    train = tmp_path / "data" / "train"
    save_blobs(train, 4)
    shutil.copy(next((train / "red").iterdir()), train / "0.png")
    splits = find_splits(train.parent, DataSettings(), seed=0)
    assert splits.train.classes == ("blue", "green", "red")
    assert f"Images in {train} itself are not used: they have no class." in splits.notes
    assert find_tested(train.parent, splits.train.classes) == train


def test_a_lone_class_with_folders_in_it_is_no_split(tmp_path: Path) -> None:
    save_blobs(tmp_path / "data" / "animals", 4)
    image = next((tmp_path / "data" / "animals" / "red").iterdir())
    shutil.copy(image, tmp_path / "data" / "animals" / "0.png")
    with pytest.raises(ImgretError, match="has only one class, 'animals'"):
        find_splits(tmp_path / "data", DataSettings(), seed=0)


@pytest.mark.parametrize("name", ["train", "test", "freight train", "dev"])
def test_a_class_may_be_called_train(tmp_path: Path, name: str) -> None:
    save_blobs(tmp_path, 3)
    (tmp_path / "red").rename(tmp_path / name)
    classes = find_splits(tmp_path, DataSettings(), seed=0).train.classes
    assert sorted(classes) == sorted(("blue", "green", name))


def test_classes_may_be_called_train_and_test_in_plain_splits(tmp_path: Path) -> None:
    save_blobs(tmp_path, 3)
    (tmp_path / "red").rename(tmp_path / "train")
    (tmp_path / "blue").rename(tmp_path / "test")
    for name in ("train", "test"):
        shutil.copytree(tmp_path, tmp_path.with_name("splits") / name)
    layout = find_layout(tmp_path.with_name("splits"))
    assert find_labelled(layout.train).classes == ("green", "test", "train")


def test_test_images_without_classes_are_not_used(tmp_path: Path) -> None:
    save_blobs(tmp_path / "train", 3)
    shutil.copytree(tmp_path / "train" / "red", tmp_path / "test")
    layout = find_layout(tmp_path)
    assert layout.test is None
    assert any(str(tmp_path / "test") in note and "not used" in note for note in layout.notes)


@pytest.mark.parametrize(
    ("folders", "shown"),
    [
        (["Training/*", "Testing/*"], "names of splits"),
        (["a/cat/*", "a/dog/*", "b/cat/*", "b/dog/*"], "a/ (cat/, dog/), b/ (cat/, dog/)"),
        (["animals/cat/*", "animals/dog/*", "vehicles/car/*"], "no image themselves"),
        (["cat/*", "cat/good/*", "dog/*", "dog/good/*", "owl/*"], "folders of the same names"),
        (["val/cat/*", "test/cat/*"], "no image themselves"),
        (["train/cat/*", "photos/cat/*"], "folders of several kinds"),
        (["train_images/*", "test_images/*", "sample/*"], "names of splits"),
        (["train/*", "val/*", "cat/*", "dog/*", "owl/*"], "names of splits"),
        (["dev/*", "test/*", "cat/*"], "names of splits"),
        (["train/*", "test/cat/*", "test/dog/*", "sample/*"], "names of splits"),
        (["all/train/train/*", "all/train/test/*", "all/train/cat/*"], "names of splits"),
        (["train/test/*", "train/train/*", "train/cat/*", "more/*"], "names of splits"),
        (
            ["train/steam/*", "train/diesel/*", "boat/*", "bus/*", "car/*", "plane/*"],
            "train/ (diesel/, steam/), boat/ (images), bus/ (images), car/ (images) and 1 more",
        ),
        (["test/cat/*", "test/dog/*", "cat/*", "dog/*", "owl/*"], "folders of several kinds"),
        (
            [
                "test_tube/top/*",
                "test_tube/side/*",
                "train/top/*",
                "train/side/*",
                "cup/top/*",
                "cup/side/*",
            ],
            "folders of several kinds",
        ),
        (
            [
                "Training/cat/*",
                "Training/dog/*",
                "Test/cat/*",
                "Test/dog/*",
                "Validierung/cat/*",
                "Validierung/dog/*",
            ],
            "Validierung/ (cat/, dog/)",
        ),
        (
            ["cat/*", "dog/*", "val/cat/*", "val/dog/*"],  # a split among the classes of another
            "val/ (cat/, dog/)",
        ),
        (["train/*", "test/*", "a/*", "b/*", "c/*", "d/*", "e/*", "f/*"], "names of splits"),
    ],
)
def test_what_is_not_plain_is_shown_and_not_trained_on(
    tmp_path: Path, folders: list[str], shown: str
) -> None:
    save_blobs(tmp_path / "blobs", 3)
    for folder in folders:
        shutil.copytree(
            tmp_path / "blobs" / "red", tmp_path / "d" / folder[:-2], dirs_exist_ok=True
        )
    with pytest.raises(ImgretError) as error:
        find_splits(tmp_path / "d", DataSettings(), seed=0)
    assert shown in str(error.value)
    assert "--classes deepest" in str(error.value)
    assert folders[0].removeprefix("all/train/").split("/")[0] + "/" in str(error.value)


@pytest.mark.parametrize(
    ("folders", "how", "classes"),
    [
        (["train_images/*", "test_images/*", "sample/*"], "folder",
         ("sample", "test_images", "train_images")),
        (["bus/*", "car/*", "train/steam/*", "train/diesel/*"], "folder", ("bus", "car", "train")),
        (["bus/*", "car/*", "train/steam/*", "train/diesel/*"], "deepest",
         ("bus", "car", "train/diesel", "train/steam")),
        (["train/cat/*", "photos/cat/*"], "folder", ("photos", "train")),
    ],
)  # fmt: skip
def test_who_says_which_folders_are_classes_gets_them(
    tmp_path: Path, folders: list[str], how: Literal["folder", "deepest"], classes: tuple[str, ...]
) -> None:
    for place, folder in enumerate(folders):
        save_blobs(tmp_path / "blobs" / str(place), 2, first=10 * place)
        shutil.copytree(tmp_path / "blobs" / str(place) / "red", tmp_path / "d" / folder[:-2])
    assert find_splits(tmp_path / "d", DataSettings(classes=how), 0).train.classes == classes


def test_one_folder_of_images_beside_train_is_told_and_not_used(tmp_path: Path) -> None:
    save_blobs(tmp_path / "train", 3)
    for name in ("sample", "test", "val"):  # as competitions give what is to be predicted
        shutil.copytree(tmp_path / "train" / "red", tmp_path / name)
    splits = find_splits(tmp_path, DataSettings(), seed=0)
    assert splits.train.classes == ("blue", "green", "red")
    for name in ("sample", "test", "val"):
        assert f"{tmp_path / name} is not used: it holds no class folders." in splits.notes


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_split_inside_of_a_split_is_no_class(tmp_path: Path, split: str) -> None:
    for place, name in enumerate(("train", "test", f"{split}/val")):
        save_blobs(tmp_path / name, 2, first=100 * place)
    with pytest.raises(ImgretError, match=r"several kinds, .*: val/ \(blue/, green/, red/\)"):
        find_layout(tmp_path)


def test_few_of_many_classes_may_have_the_names_of_splits(tmp_path: Path) -> None:
    save_blobs(tmp_path / "blobs", 2)
    names = ["bullet_train", "test_tube", *(f"class-{n}" for n in range(7))]
    for name in names:
        shutil.copytree(tmp_path / "blobs" / "red", tmp_path / "d" / name)
    layout = find_layout(tmp_path / "d")
    assert layout.train == tmp_path / "d"
    assert layout.notes == (
        f"bullet_train/ and test_tube/ are classes, as the other folders of {tmp_path / 'd'} are.",
    )


def test_what_is_to_be_predicted_is_told_by_what_it_holds(tmp_path: Path) -> None:
    for place, name in enumerate(("bounding_box_train", "bounding_box_test", "query")):
        save_blobs(tmp_path / name, 2, first=100 * place)
    layout = find_layout(tmp_path)
    assert layout.test == tmp_path / "bounding_box_test"
    assert layout.notes[1:] == (
        f"{tmp_path / 'query'} is not used: its name is not that of a split. Rename it train/, "
        "val/ or test/ if it is one.",
    )


def test_two_folders_of_one_split_are_named(tmp_path: Path) -> None:
    for place, name in enumerate(("train_a", "train_b", "test")):
        save_blobs(tmp_path / name, 2, first=100 * place)
    with pytest.raises(ImgretError, match=r"several folders to train on: train_a/ and train_b/\."):
        find_layout(tmp_path)


def test_a_split_without_images_is_told(tmp_path: Path) -> None:
    save_blobs(tmp_path / "train", 3)
    save_blobs(tmp_path / "test", 2, first=100)
    (tmp_path / "valid" / "red").mkdir(parents=True)
    layout = find_layout(tmp_path)
    assert (layout.validation, layout.test) == (None, tmp_path / "test")
    assert f"{tmp_path / 'valid'} is not used: it holds no images." in layout.notes
    shutil.rmtree(tmp_path / "test")
    assert "valid is not used" in find_layout(tmp_path).notes[-1]
    shutil.rmtree(tmp_path / "train")
    (tmp_path / "train").mkdir()
    save_blobs(tmp_path / "test", 2)
    with pytest.raises(ImgretError, match="no images to train on: there is none in train/"):
        find_layout(tmp_path)


def test_a_class_folder_without_an_image_that_is_read_is_told(tmp_path: Path) -> None:
    save_blobs(tmp_path, 3)
    (tmp_path / "cow").mkdir()
    (tmp_path / "cow" / "0.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    splits = find_splits(tmp_path, DataSettings(), seed=0)
    assert splits.train.classes == ("blue", "green", "red")
    assert splits.notes == ("cow is not a class: it holds no image that imgret reads.",)
    shutil.rmtree(tmp_path / "red")
    shutil.rmtree(tmp_path / "blue")
    with pytest.raises(ImgretError, match=r"only one class, 'green' \(no image .* is in cow\)\."):
        find_splits(tmp_path, DataSettings(), seed=0)


def test_an_empty_class_folder_in_a_split_is_told(tmp_path: Path) -> None:
    for place, name in enumerate(("train", "val", "test")):
        save_blobs(tmp_path / name, 2, first=100 * place)
        (tmp_path / name / "emu").mkdir()
    *_, train, val, test = find_splits(tmp_path, DataSettings(), seed=0).notes
    assert train == "emu is not a class: it holds no image that imgret reads."
    assert val.startswith(f"{tmp_path / 'val' / 'emu'} is not used")
    assert test.startswith(f"{tmp_path / 'test' / 'emu'} is not used")


def test_an_empty_folder_is_told_however_deep_it_lies(tmp_path: Path) -> None:
    save_blobs(tmp_path / "one", 3)
    save_blobs(tmp_path / "two", 3, first=50)
    (tmp_path / "one" / "cow" / "left").mkdir(parents=True)
    (tmp_path / "one" / "red" / "again").symlink_to("../green")
    (tmp_path / "one" / "green" / "again").symlink_to("../red")
    notes = find_splits(tmp_path, DataSettings(classes="deepest"), seed=0).notes
    told = [note for note in notes if "not a class" in note]
    assert told == ["one/cow is not a class: it holds no image that imgret reads."]


def test_nested_classes_are_an_option(tmp_path: Path) -> None:
    save_blobs(tmp_path / "one", 4)
    save_blobs(tmp_path / "two", 4, first=50)
    deepest = find_splits(tmp_path, DataSettings(classes="deepest"), seed=0)
    assert deepest.train.classes == (
        "one/blue", "one/green", "one/red", "two/blue", "two/green", "two/red",
    )  # fmt: skip
    first = find_splits(tmp_path, DataSettings(classes="folder"), seed=0)
    assert first.train.classes == ("one", "two")
    assert len(first.train) + len(first.validation) == 24


def test_names_that_unicode_counts_as_equal_are_one_class(tmp_path: Path) -> None:
    save_blobs(tmp_path / "train", 3)
    save_blobs(tmp_path / "test", 2, first=100)
    composed, apart = (unicodedata.normalize(form, "r\u00e4d") for form in ("NFC", "NFD"))
    (tmp_path / "train" / "red").rename(tmp_path / "train" / composed)
    (tmp_path / "train" / "blue").rename(tmp_path / "train" / apart)
    (tmp_path / "test" / "red").rename(tmp_path / "test" / apart)
    shutil.rmtree(tmp_path / "test" / "blue")
    splits = find_splits(tmp_path, DataSettings(), seed=0)
    assert splits.train.classes == ("green", composed)
    assert sorted(splits.test.labels.tolist()) == [0, 0, 1, 1]


def test_names_that_differ_in_case_only_are_told(tmp_path: Path) -> None:
    save_blobs(tmp_path, 4)
    (tmp_path / "red").rename(tmp_path / "BLUE")
    notes = find_splits(tmp_path, DataSettings(), seed=0).notes
    assert any("BLUE and blue are classes of their own" in note for note in notes)


@pytest.mark.parametrize(("link", "to"), [("red/all", ".."), ("again", "."), ("up", "../..")])
def test_a_link_to_a_folder_above_it_brings_no_class_and_no_image(
    tmp_path: Path, link: str, to: str
) -> None:
    data = save_blobs(tmp_path / "above" / "data", 3)
    (data / link).symlink_to(to)
    images = find_labelled(data)
    assert images.classes == ("blue", "green", "red")
    assert len(images) == 9


def test_a_link_to_a_folder_elsewhere_is_followed(tmp_path: Path) -> None:
    data = save_blobs(tmp_path / "data", 3)
    (data / "red").rename(tmp_path / "elsewhere")
    (data / "red").symlink_to("../elsewhere")
    assert len(find_labelled(data)) == 9


@pytest.mark.parametrize(
    "name",
    ["@eaDir", "__MACOSX", ".AppleDouble", "@__thumb", "#recycle", "$RECYCLE.BIN", "@tmp",
     "@Recycle", "@Recently-Snapshot", "System Volume Information", "lost+found", "__pycache__",
     "#snapshot", ".snapshot"],
)  # fmt: skip
def test_folders_that_machines_make_are_no_classes(tmp_path: Path, name: str) -> None:
    save_blobs(tmp_path, 3)
    shutil.copytree(tmp_path / "red", tmp_path / name)
    shutil.copytree(tmp_path / "red", tmp_path / "blue" / name)
    images = find_labelled(tmp_path)
    assert images.classes == ("blue", "green", "red")
    assert len(images) == 9

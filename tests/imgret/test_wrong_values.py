"""What is wrong with a value of an option is told in plain words, and what to give instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from imgret import Retriever
from retrieval.errors import BackboneError, GalleryError, ImageError
from tests.conftest import Command
from tests.samples import save_pictures

SAID = [
    (("query", "x", "--k", "x"), "'--k': 'x' is not a whole number."),
    (("query", "x", "--min-confidence", "x"), "'--min-confidence': 'x' is not a number."),
    (("query", "x", "--crop", "-5,-5,50,50"), "X is -5 in '-5,-5,50,50'. Give 0 or more."),
    (("query", "x", "--crop", "0,-1,5,5"), "Y is -1 in '0,-1,5,5'. Give 0 or more."),
    (("query", "x", "--crop", "0,0,0,0"), "W is 0 in '0,0,0,0'. Give 1 or more."),
    (("query", "x", "--crop", "0,0,5"), "'0,0,5' is not X,Y,W,H in whole pixels. Write it like"),
    (("query", "nothere.jpg"), "imgret: nothere.jpg: does not exist. Check its spelling."),
    (("query", "nothere.jpg", "--mean"), "nothere.jpg: does not exist. Check its spelling."),
    (("sample", "file"), "imgret: file is a file. Name a new or empty folder."),
    (("info", "--gallery", "file"), "file is a file. Name a folder."),
    (("query", "x", "--gallery", "file"), "file is a file. Name a folder."),
    (("index", "pictures", "--gallery", "file"), "file is a file. Name a folder."),
    (("test", "x", "--figures", "file"), "file is a file. Name a folder."),
    (("compare", "pictures", "--transform", "foo"), "--transform: There is no transform 'foo'."),
    (("index", "pictures", "--backbone", "file"), "imgret: file is a file. Give its folder."),
    (("index", "pictures", "--backbone", "./file"), "/file is a file. Give its folder."),
    (("index", "pictures", "--backbone", "zzzzz"), "Give a name that `imgret backbones` lists"),
    (("query", "x", "--format", "jsn"), "'jsn' is not one of the choices. Did you mean json? Give"),
    (("index", "x", "--pool", "avgg"), "Did you mean avg? Give one of: own, avg, max, gem,"),
    (("evaluate", "--k", "0"), "'0' is not a list of whole numbers from 1 to 10,000."),
    (("recipes", "cars/bst"), "There is no recipe 'cars/bst'. Did you mean cars/best? Give one"),
    (("train", "x", "--recipe", "cifar10/CNN"), "Did you mean cifar10/cnn? Give one"),
    (("train", "pictures", "--weights", "pretraned"), "Did you mean pretrained? Give a folder"),
    (("train", "x", "--recipe", "P1", "--set", "a.b=1", "--set", "a.b=2"),
     "--set a.b was given 2 times. Give it once."),
    (("index", "x", "--recipe", "r1"), "There is no recipe 'r1'. Did you mean R1? Give R1, R2"),
    (("compare", "pictures", "--transform", "whitn:5"), "Did you mean whiten? Give none, standard"),
    (("query", "pictures"), "pictures: a folder, not an image; `imgret index` it, or give files"),
]  # fmt: skip


@pytest.fixture
def folder(inline: Command, tmp_path: Path) -> Path:
    (tmp_path / "file").touch()
    save_pictures(tmp_path / "pictures")
    return tmp_path


@pytest.mark.parametrize(("arguments", "said"), SAID, ids=lambda value: " ".join(value)[:40])
def test_a_wrong_value_is_told_in_plain_words(
    inline: Command, folder: Path, arguments: tuple[str, ...], said: str
) -> None:
    if arguments[:2] in (("query", "pictures"), ("query", "nothere.jpg")):
        Retriever(folder / ".imgret", transform="none").index(folder / "pictures" / "class0")
    done = inline(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


def test_standard_input_without_a_name_is_told(inline: Command, folder: Path) -> None:
    Retriever(folder / ".imgret", transform="none").index(folder / "pictures" / "class0")
    done = inline("query", "-", stdin="")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("imgret: Standard input names no image.")


def test_a_file_is_no_gallery_of_the_api(folder: Path) -> None:
    with pytest.raises(GalleryError, match="file is a file"):
        Retriever(folder / "file").search("x")


def test_what_is_no_picture_has_its_article(folder: Path) -> None:
    Retriever(folder / "g", transform="none").index(folder / "pictures" / "class0")
    wrong: object = 5
    with pytest.raises(ImageError, match="an int is not a picture"):
        Retriever(folder / "g").search(wrong)  # type: ignore[call-overload]


@pytest.mark.parametrize("offline", [True, False])
def test_being_offline_is_advised_only_where_it_is_not_set(
    monkeypatch: pytest.MonkeyPatch, offline: bool
) -> None:
    from huggingface_hub import constants

    from retrieval.backbones import hub

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(BackboneError) as raised:
        hub.from_hub("x", "nobody/nothing", "model.safetensors")
    assert str(raised.value).endswith("set HF_HUB_OFFLINE=1 here.") != offline

"""What is wrong with a value of an option is told in plain words, and what to give instead."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from imgret import Retriever
from imgret.cli import cli
from retrieval.errors import BackboneError, GalleryError, QueryError
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
    (("query", "empty.jpg"), "imgret: empty.jpg: empty file. Give another image."),
    (("query", "https://a.org/b.jpg"), "https://a.org/b.jpg is an address of no object"),
    (("index", "pictures", "--recipe", "https://a.org/r.toml"), "a.org/r.toml is an address."),
    (("index", "pictures", "--labels", "https://a.org/l.csv"), "a.org/l.csv is an address."),
    (("index", "https://a/b"), "https://a/b is an address of no object store; use s3://"),
    (("index", "s3:///b"), "s3:///b is an address of no object store; use s3://, gs:// or az://."),
    (("query", "nothere.jpg", "--min-score", "nan"), "'nan' is not a number. Give a number."),
    (
        ("train", "pictures", "--out", "run", "--set", "training.epochs=0"),
        "imgret: --set: training.epochs: it takes 1 or more, not 0. Correct this key.",
    ),
    (("query", "nothere.jpg", "--mean"), "nothere.jpg: does not exist. Check its spelling."),
    (("index", "pictures", "--recipe", "empty.jpg"),
     "imgret: empty.jpg has no keys. Give a TOML file that sets some."),
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
    (("recipes", "r1"), "There is no recipe 'r1'. Did you mean R1? Give one that"),
    (("recipes", "p1"), "There is no recipe 'p1'. Did you mean P1? Give one that"),
    (("index", "pictures", "--backbone", "resnet50.a1_in1kk"),
     "resnet50 has no weights 'a1_in1kk'. Did you mean resnet50.a1_in1k? Use one of"),
    (("index", "pictures", "--backbone", "random:resnt50"), "Did you mean random:resnet50, "),
    (("index", "x", "--zzz", "y"), "There is no option --zzz. Choose one that --help lists."),
    (("index", "x", "--sise", "5"), "There is no option --sise. Did you mean --size? Choose one"),
    (("index", "x", "-q"), "There is no option -q. Choose one that --help lists."),
    (("index", "x", "--size", "0"), "0 is out of range. Give a whole number from 16 to 4,096."),
    (("query", "x", "--k", "0"), "'--k': 0 is out of range. Give a whole number of 1 or more."),
    (("query", "x", "--k", "x"), "'x' is not a whole number. Give a whole number of 1 or more."),
    (("query", "x", "--prior-known", "1"), "Give a number above 0 and below 1."),
    (("query", "x", "--min-confidence", "nan"), "'nan' is not a number. Give a number from 0"),
    (("tune", "x", "--minutes", "0"), "'--minutes': 0 is out of range. Give a number above 0."),
    (("map", "--report", "folder.html"), "folder.html is a folder. Name a file."),
    (("map", "--report", "x" * 300 + ".html"), "(File name too long). Give a shorter name."),
    (("index", "--compact", "--refit"), "Only --compact alone needs no PATH. Name the folders or"),
    (("train", "x", "--recipe", "cars/cnn", "--set", "phases.0.lr=1"),
     "--set phases.0.lr: the recipe has no phases. Set a key of training instead."),
    (("train", "x", "--recipe", "cars/best", "--set", "phases.2.lr=1"),
     "--set phases.2.lr: the recipe has phases 0 to 1. Write it like phases.0.lr=1e-5."),
    (("train", "x", "--recipe", "P1", "--set", " "), "--set ' ' is not of the form KEY=VALUE."),
    (("duplicates", "--where", " "), "imgret: The filter is empty. Write it like \"label ="),
    (("query", "pictures"), "pictures: a folder, not an image; `imgret index` it, or give files"),
]  # fmt: skip


@pytest.fixture
def folder(inline: Command, tmp_path: Path) -> Path:
    (tmp_path / "file").touch()
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "folder.html").mkdir()
    save_pictures(tmp_path / "pictures")
    return tmp_path


@pytest.mark.parametrize(("arguments", "said"), SAID, ids=lambda value: " ".join(value)[:40])
def test_a_wrong_value_is_told_in_plain_words(
    inline: Command, folder: Path, arguments: tuple[str, ...], said: str
) -> None:
    if arguments[:2] in (
        ("query", "pictures"),
        ("query", "nothere.jpg"),
        ("query", "empty.jpg"),
        ("duplicates", "--where"),
    ):
        Retriever(folder / ".imgret", transform="none").index(folder / "pictures" / "class0")
    done = inline(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


def texts() -> Iterator[tuple[str, str, bool]]:
    """Each command with each of its options and arguments of text, and whether it is an option."""
    context = click.Context(cli)
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        for param in command.params:
            if isinstance(param.type, click.types.StringParamType):
                is_option = isinstance(param, click.Option)
                yield name, param.opts[0] if is_option else param.human_readable_name, is_option


def test_every_empty_text_is_refused(inline: Command, tmp_path: Path) -> None:
    found = list(texts())
    assert {("index", "--labels", True), ("recipes", "NAME", False)} < set(found)
    for command, name, is_option in found:
        done = inline(command, *([name, ""] if is_option else [""]))
        assert (done.returncode, done.stdout) == (2, ""), (command, name)
        assert f"Error: {name} is empty. Give " in done.stderr
    assert list(tmp_path.iterdir()) == []


EMPTY = [
    (("index", "x", "--labels", ""), "Give folder or none or FILE.csv, or leave it out."),
    (("train", "x", "--weights", ""), "Give FOLDER or pretrained or random, or leave it out."),
    (("tune", "x", "--backbone", ""), "--backbone is empty. Give a value, or leave it out."),
    (("compare", "x", "--recipe", "R1", "--recipe", ""), "--recipe is empty. Give NAME or FILE, "),
    (("recipes", ""), "NAME is empty. Give a value, or leave it out."),
    (("export-backbone", "", "--out", "x.onnx"), "NAME is empty. Give a value."),
]


@pytest.mark.parametrize(("arguments", "said"), EMPTY, ids=lambda value: " ".join(value)[:40])
def test_an_empty_text_is_told_with_what_to_give(
    inline: Command, arguments: tuple[str, ...], said: str
) -> None:
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
    with pytest.raises(QueryError, match="an int is not a picture"):
        Retriever(folder / "g").search(wrong)  # type: ignore[call-overload]
    with pytest.raises(QueryError, match=r"https://a/b is an address of no object store"):
        Retriever(folder / "g").search("https://a/b")
    with pytest.raises(QueryError, match=r"The query is ''\. Give a path\."):
        Retriever(folder / "g").search("")


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

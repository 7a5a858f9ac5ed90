"""A backbone's name is read once: where it comes from, and what it is called there."""

from __future__ import annotations

import string
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from retrieval.backbones import (
    SHORT_NAMES,
    BackboneName,
    check_unambiguous,
    load_backbone,
    parse_name,
)
from retrieval.backbones.names import LONGEST_NAME
from retrieval.errors import BackboneError
from retrieval.retriever import Retriever

TAGGED = "resnet50.a1_in1k"
LIKELY = st.text(string.ascii_letters + string.digits + "/.:~@_-\\ \0\x1bé\ud800", max_size=40)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with folders that are called like backbones of other kinds."""
    for name in ("mini", "resnet50", "resnet18", "timm/resnet18", "weights", "resnet50.mine"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("text", "source", "id"),
    [
        ("mini", "mini", "mini"),
        ("resnet50", "timm", TAGGED),
        ("timm/resnet50", "timm", "resnet50"),
        ("timm/resnet50.a1_in1k", "timm", TAGGED),
        (TAGGED, "timm", TAGGED),
        ("resnet18", "timm", "resnet18"),
        ("timm/resnet18", "timm", "resnet18"),
        ("newer_than_this.tag", "timm", "newer_than_this.tag"),
        ("hf-hub:timm/resnet50.a1_in1k", "hub", "timm/resnet50.a1_in1k"),
        ("hf_hub:user/model@v1.0", "hub", "user/model@v1.0"),
        ("hf-hub:user/model@refs/pr/1", "hub", "user/model@refs/pr/1"),
        ("random:resnet50", "random", "resnet50"),
        ("random:mobilenetv2", "random", "mobilenetv2_100"),
        ("random:timm/resnet18.a1_in1k", "random", "resnet18"),
        ("random:weights", "random", "weights"),
    ],
)
def test_a_name_is_read_into_its_source_and_id(
    place: Path, text: str, source: str, id: str
) -> None:
    name = parse_name(text)
    assert (name.source, name.id) == (source, id)
    assert parse_name(name) is name


@pytest.mark.parametrize(
    ("text", "below"),
    [
        ("weights", "weights"),  # there is such a folder
        ("./weights", "weights"),
        ("weights/", "weights"),
        ("~/weights", "weights"),
        ("local-dir:weights", "weights"),
        ("local-dir:mini", "mini"),
        ("./mini", "mini"),
        ("mini/", "mini"),
        ("./resnet50", "resnet50"),
        ("resnet50/", "resnet50"),
        ("./timm/resnet18", "timm/resnet18"),
        ("timm/", "timm"),
        ("timm/a/b", "timm/a/b"),
        ("nowhere/at/all", "nowhere/at/all"),
        ("user/model", "user/model"),
        ("mini/../weights", "weights"),
        ("..", ".."),
        ("C:\\models\\x", "C:\\models\\x"),
        ("C:/models/x", "C:/models/x"),
        ("\\\\server\\share", "\\\\server\\share"),
    ],
)
def test_what_is_written_as_a_path_is_a_folder(place: Path, text: str, below: str) -> None:
    folder = (place / below).resolve()
    assert parse_name(text) == BackboneName("folder", str(folder))
    assert parse_name(text).folder == folder


def test_timms_name_as_the_hub_writes_it_is_no_folder(place: Path) -> None:
    assert parse_name("timm/resnet50.a1_in1k").folder is None
    assert str(parse_name("timm/resnet50.a1_in1k")) == TAGGED


def test_a_name_that_timm_knows_hides_a_folder_whatever_its_tag(place: Path) -> None:
    assert parse_name("resnet50.mine").source == "timm"
    assert parse_name("./resnet50.mine").source == "folder"


def test_a_stored_name_means_the_same_in_every_folder(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = {text: str(parse_name(text)) for text in ("newer_net", "weights", "resnet18", "mini")}
    (place / "newer_net").mkdir()
    (place / "elsewhere").mkdir()
    before = {text: parse_name(text) for text in stored.values()}
    monkeypatch.chdir(place / "elsewhere")
    assert {text: parse_name(text) for text in stored.values()} == before
    assert stored["newer_net"] == "timm/newer_net"


@given(LIKELY | st.text(max_size=30))
@example("timm/mini")
@example("timm/timm")
@example("random:mini")
@example("hf-hub:a")
@example("x" * 300)
@example("~nobody-of-this-name/x")
def test_what_is_stored_is_read_as_the_same_name(text: str) -> None:
    try:
        name = parse_name(text)
    except BackboneError as error:
        assert len(str(error)) < 400  # noqa: PT017  those that are refused are refused in a sentence
        return
    assert parse_name(str(name)) == name
    str(name).encode()
    assert name.source == "folder" or not set(str(name)) & set("\0\x1b\n\\ ")


@pytest.mark.parametrize("text", [*SHORT_NAMES, "mini", "random:resnet50", "hf-hub:a/b@c", "vit_x"])
def test_a_record_and_its_text_are_one(text: str) -> None:
    assert parse_name(str(parse_name(text))) == parse_name(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not the name"),
        ("x" * (LONGEST_NAME + 1), "is not the name"),
        ("a/" * LONGEST_NAME, "is not the name"),
        ("weights\0", "is not the name"),
        ("x" * 300 + "\n", "There is no backbone named"),
        ("resnet\x1b[31m50", "There is no backbone named"),
        ("resnet 50", "There is no backbone named 'resnet 50'. Did you mean .*resnet50"),
        ("file:etc", "There is no backbone named"),
        ("hf-hub:", "cannot be a repository"),
        ("hf-hub:../../etc", "cannot be a repository"),
        ("hf-hub:a/b/../c", "cannot be a repository"),
        ("hf-hub:/etc", "cannot be a repository"),
        ("hf-hub:a/b@../../x", "cannot be a repository"),
        ("hf-hub:user/mo\ndel", "cannot be a repository"),
        ("hf-hub:user/model\n", "cannot be a repository"),
        ("random:", "does not name a timm network"),
        ("random:./weights", "does not name a timm network"),
        ("random:random:resnet50", "does not name a timm network"),
        ("~nobody-of-this-name/x", "cannot be found"),
        ("./\ud800", "not UTF-8"),
    ],
)
def test_what_can_be_no_name_is_refused_in_a_sentence(place: Path, text: str, said: str) -> None:
    with pytest.raises(BackboneError, match=said) as raised:
        parse_name(text)
    assert "\n" not in str(raised.value)
    assert "\x1b" not in str(raised.value)
    assert len(str(raised.value)) < 400


def test_names_are_read_without_torch_and_timm() -> None:
    code = (
        "import sys; from retrieval.backbones import parse_name; parse_name('resnt50'); "
        "assert not {'torch', 'timm', 'huggingface_hub'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet50.a1_in1k"])
def test_a_network_and_a_folder_of_one_name_are_told_apart_by_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Either would be a guess: a run of `train --out resnet18` is no network of timm's."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()
    check_unambiguous(name)  # no weights, no doubt
    (tmp_path / name / "config.json").write_text("{}")
    with pytest.raises(BackboneError, match=rf"Give \./{name} for the folder, or timm/resnet"):
        Retriever(tmp_path / "g", backbone=name).index(tmp_path)
    for clear in (f"./{name}", f"timm/{name}", "mini"):
        check_unambiguous(clear)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ResNet50", "Did you mean resnet50, "),
        ("resnet50.", "Did you mean resnet50, "),
        ("resnet50.a1_in1k ", "Did you mean resnet50, "),
        ("EfficientNet-B7", "Did you mean efficientnet-b7, "),
        ("random:resnet5o", "Did you mean random:resnet50, "),
        ("random:nothinglikeit", "`imgret backbones` lists some."),
        ("timm/mini", "Give mini for imgret's own encoder."),
        ("efficientnet_b7", "Did you mean efficientnet-b7, tf_efficientnet_b7"),
        ("facebook/dinov2-base", "or hf-hub:facebook/dinov2-base for weights of the hub."),
        ("https://huggingface.co/timm/resnet50.a1_in1k", "mean hf-hub:timm/resnet50.a1_in1k?"),
        ("https://example.org/a/b", "Give a folder, or hf-hub:user/model."),
    ],
)
def test_a_name_that_is_none_is_answered_with_the_one_meant(name: str, said: str) -> None:
    with pytest.raises(BackboneError) as raised:
        load_backbone(name)
    assert said in str(raised.value)


def test_the_case_of_a_prefix_does_not_matter() -> None:
    assert parse_name("HF-HUB:someone/model") == parse_name("hf-hub:someone/model")

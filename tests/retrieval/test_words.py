"""What a setting is, said once: the records, what a user may ask for, and who uses them."""

from __future__ import annotations

import inspect
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import get_args, get_type_hints

import click
import pytest

from imgret.commands import compare, evaluate, index
from retrieval.errors import BackboneError
from retrieval.retriever import Retriever
from retrieval.retriever.reports import GalleryInfo
from retrieval.retriever.request import IndexOptions, IndexRequest
from retrieval.settings import EmbeddingSettings, SearchSettings
from retrieval.words import (
    EMBEDDING,
    SEARCH,
    EmbeddingOptions,
    SettingsAsked,
    given,
)


def test_what_may_be_asked_for_is_what_the_records_have() -> None:
    assert tuple(SettingsAsked.__annotations__) == (*EMBEDDING, *SEARCH)
    assert tuple(EmbeddingSettings.model_fields) == EMBEDDING
    assert tuple(SearchSettings.model_fields) == SEARCH
    assert ("backbone", *EmbeddingOptions.__annotations__) == EMBEDDING
    assert set(EMBEDDING) <= {field.name for field in fields(GalleryInfo)}


@pytest.mark.parametrize("name", ["fit", "pool", "views"])
def test_the_words_of_a_user_and_of_a_record_are_the_same(name: str) -> None:
    asked, _ = get_args(get_type_hints(SettingsAsked)[name])  # or None
    assert asked == EmbeddingSettings.model_fields[name].annotation


def test_what_index_may_be_asked_for_is_said_once() -> None:
    options = [field.name for field in fields(IndexRequest)][2:]  # after folders and progress
    assert list(IndexOptions.__annotations__) == options
    for method in (Retriever.index, Retriever.estimate, Retriever.__init__):
        assert not set(inspect.signature(method).parameters) & {*options, *EMBEDDING, *SEARCH}


@pytest.mark.parametrize(
    ("command", "names"),
    [
        (index.index_command, {*EMBEDDING, *SEARCH}),
        (compare.compare_command, {*EMBEDDING, *SEARCH}),
        (evaluate.evaluate_command, {*SEARCH}),
    ],
)
def test_commands_have_the_options(command: click.Command, names: set[str]) -> None:
    assert names <= {parameter.name for parameter in command.params}


def test_only_what_is_given_counts() -> None:
    asked: SettingsAsked = {"backbone": None, "size": 64, "transform": "none"}
    assert given(asked, EMBEDDING) == {"size": 64}
    assert given(asked, SEARCH) == {"transform": "none"}


def test_an_unknown_setting_is_named(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"'sise'.*size"):
        Retriever(tmp_path, sise=64)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="exclud"):
        Retriever(tmp_path).index(tmp_path, exclud=["x"])  # type: ignore[call-arg]


def test_a_backbone_is_not_loaded_with_a_word_that_is_none() -> None:
    from retrieval.backbones import load_backbone

    with pytest.raises(BackboneError, match=r"random:resnet18.*fit"):
        load_backbone("random:resnet18", fit="stretch")  # type: ignore[typeddict-item]


def test_the_words_need_no_torch() -> None:
    code = "import sys, retrieval.words; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)

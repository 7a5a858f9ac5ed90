"""Arguments of the API: what counts as a number, and what is said of everything else."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classify.recipe import read_recipe
from classify.training import train
from retrieval.arguments import box, number, one_of, whole
from retrieval.comparison import ComparedFolders, compare
from retrieval.comparison.recipes import read_experiment
from retrieval.errors import ArgumentError
from retrieval.retriever import Retriever

INTEGERS = [np.int8, np.uint16, np.int32, np.int64, np.uint64]


@given(st.integers(), st.integers(), st.integers())
def test_a_whole_number_is_taken_exactly_within_its_bounds(value: int, one: int, two: int) -> None:
    least, most = sorted((one, two))
    if least <= value <= most:
        assert whole("k", value, least=least, most=most) == value
    else:
        bound = f"{least} or more" if value < least else f"at most {most}"
        with pytest.raises(ArgumentError, match=rf"^k is {value}\. Give {bound}\.$"):
            whole("k", value, least=least, most=most)


@pytest.mark.parametrize("kind", INTEGERS)
def test_whole_numbers_of_numpy_become_those_of_python(kind: type[np.integer]) -> None:
    found = whole("k", kind(100))
    assert (type(found), found) == (int, 100)
    assert type(box("crop", kind([1, 2, 3, 4]))[0]) is int


@pytest.mark.parametrize("value", [5.0, np.float32(5), "5", None, [5], np.array([5, 6])])
def test_what_only_looks_like_a_whole_number_is_refused(value: object) -> None:
    with pytest.raises(ArgumentError, match=r"^k is .*\. Give a whole number\.$"):
        whole("k", value)


def test_without_bounds_a_whole_number_is_one_or_more() -> None:
    assert whole("k", 10**30) == 10**30
    with pytest.raises(ArgumentError, match=r"k is 0\. Give 1 or more"):
        whole("k", 0)


@given(st.floats(), st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_a_number_is_taken_within_its_bounds(value: float, one: float, two: float) -> None:
    least, most = sorted((one, two))
    if math.isfinite(value) and least <= value <= most:
        assert number("min_score", value, least=least, most=most) == value
    else:
        with pytest.raises(ArgumentError, match=r"^min_score is .*Give a number from"):
            number("min_score", value, least=least, most=most)


@pytest.mark.parametrize("value", [2, np.float16(2), np.int64(2), Fraction(2), True + 1])
def test_numbers_of_any_kind_become_floats(value: object) -> None:
    found = number("prior", value)
    assert (type(found), found) == (float, 2.0)


@pytest.mark.parametrize("value", ["2", b"2", None, [2], 2j, math.nan, -math.inf])
def test_what_is_no_finite_number_is_refused(value: object) -> None:
    with pytest.raises(ArgumentError) as caught:
        number("prior", value)
    assert str(caught.value) == f"prior is {value!r}. Give a number."


@given(st.lists(st.integers(), min_size=4, max_size=4))
def test_a_box_is_four_whole_numbers_in_their_order(values: list[int]) -> None:
    assert box("crop", values) == tuple(values)
    assert box("crop", iter(values)) == tuple(values)


@pytest.mark.parametrize(
    "value", [None, 7, (), (0, 0, 1), (0, 0, 1, 1, 1), (0, 0, 1.5, 1), "abcd", ["0", "0", "1", "1"]]
)
def test_what_is_no_box_is_refused_in_one_sentence(value: object) -> None:
    with pytest.raises(ArgumentError) as caught:
        box("crop", value)
    assert str(caught.value) == f"crop is {value!r}. Give X, Y, W, H in whole pixels."


def test_a_word_is_one_of_those_that_are_known() -> None:
    one_of("fit", "crop", ("squash", "crop"))
    for wrong in ("Crop", "", "squash, crop", None, 3, ("crop",), b"crop"):
        with pytest.raises(ArgumentError, match=r"^fit is .*\. Use one of squash, crop\.$"):
            one_of("fit", wrong, ("squash", "crop"))


def test_part_of_a_text_is_not_one_of_its_words() -> None:
    with pytest.raises(ArgumentError, match="fit is 'a'"):
        one_of("fit", "a", ["abc", "def"])


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: read_recipe(5), "name is 5. Give a name or a path."),  # type: ignore[arg-type]
        (lambda: read_experiment(5), "name is 5. Give a name or a path."),  # type: ignore[arg-type]
        (lambda: read_recipe(""), "name is ''. Give a name or a path."),
        (lambda: read_experiment(""), "name is ''. Give a name or a path."),
        (
            lambda: read_recipe("parts/cnn", 5),  # type: ignore[arg-type]
            "overrides is 5. Give text, or several in a list.",
        ),
        (
            lambda: compare(5, [], cache="cache"),  # type: ignore[arg-type]
            "data is 5. Give ComparedFolders.",
        ),
        (
            lambda: compare(ComparedFolders(Path("cars")), ["R1"], cache="cache"),  # type: ignore[list-item]
            "experiments is ['R1']. Give a list of what read_experiment() returns.",
        ),
        (
            lambda: Retriever("g").index("tests", exclude=5),  # type: ignore[arg-type]
            "exclude is 5. Give text, or several in a list.",
        ),
        (
            lambda: Retriever("https://cars"),
            "gallery is wrong: https://cars is an address of no object store; use s3://, gs:// or "
            "az://. Give a path or such an address.",
        ),
        (
            lambda: Retriever("g", transform=3).index("cars"),  # type: ignore[arg-type]
            "transform is 3. Give text, or leave it out.",
        ),
        (
            lambda: train("parts", "parts/cnn", "run"),  # type: ignore[arg-type]
            "recipe is 'parts/cnn'. Give a Recipe, as read_recipe() returns it.",
        ),
        (
            lambda: compare(ComparedFolders(Path("cars")), [], cache="cache"),
            "experiments is []. Give a list of what read_experiment() returns.",
        ),
    ],
)
def test_a_wrong_argument_is_told_by_its_name(call: Callable[[], Any], told: str) -> None:
    with pytest.raises(ArgumentError) as raised:
        call()
    assert str(raised.value) == told


def test_an_unknown_option_of_index_is_told_with_those_that_it_has(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"index\(\) has no argument 'label'; .* labels, exclude,"):
        Retriever(tmp_path / "g").index(tmp_path, label="none")  # type: ignore[call-arg]

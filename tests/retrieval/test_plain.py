"""Results as JSON takes them: whatever a result holds, json.dumps writes it and reads it back."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from retrieval.plain import Plain, plain
from retrieval.settings import EmbeddingSettings

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False).filter(
        math.isfinite
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@dataclass(frozen=True)
class Inner:
    score: Any


@dataclass(frozen=True)
class Outer(Plain):
    path: Path
    found: tuple[Inner, ...] = ()
    scores: np.ndarray = field(default_factory=lambda: np.zeros(0))


@given(JSON)
def test_what_json_has_stays_as_it_is(value: Any) -> None:
    assert plain(value) == value
    assert json.loads(json.dumps(plain(value))) == value


@given(st.lists(st.floats(width=32), max_size=6))
def test_arrays_are_lists_in_which_what_is_no_number_is_none(values: list[float]) -> None:
    expected = [value if math.isfinite(value) else None for value in values]
    assert plain(np.array(values, np.float32)) == expected
    assert json.loads(json.dumps(plain(np.array(values, np.float32)), allow_nan=False)) == expected


def test_arrays_keep_their_shape() -> None:
    matrix = np.arange(12).reshape(2, 2, 3)
    assert plain(matrix) == [[[0, 1, 2], [3, 4, 5]], [[6, 7, 8], [9, 10, 11]]]
    assert plain(np.array(7)) == 7
    assert plain(np.array(["a", "b"])) == ["a", "b"]


def test_values_of_numpy_are_those_of_python() -> None:
    found = plain([np.int8(-3), np.bool_(True), np.float64("inf"), np.str_("a")])
    assert found == [-3, True, None, "a"]
    assert [type(value) for value in found] == [int, bool, type(None), str]


def test_results_within_results_are_written_by_their_fields() -> None:
    result = Outer(Path("a/b.jpg"), (Inner(0.5), Inner(np.nan)), np.array([1, 2]))
    expected = {"path": "a/b.jpg", "found": [{"score": 0.5}, {"score": None}], "scores": [1, 2]}
    assert result.to_dict() == expected == plain(result)


def test_settings_are_written_by_their_keys() -> None:
    settings = EmbeddingSettings(backbone="mini", size=64)
    assert plain({"asked": settings}) == {
        "asked": {"backbone": "mini", "size": 64, "fit": "squash", "pool": "own", "views": "none"}
    }


def test_keys_are_text_and_sets_are_lists() -> None:
    assert plain({1: {3}, Path("a"): frozenset(), None: ()}) == {"1": [3], "a": [], "None": []}


def test_a_type_is_not_taken_for_its_result() -> None:
    assert plain(Inner) == str(Inner)

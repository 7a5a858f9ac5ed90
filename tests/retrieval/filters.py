"""Rows, and filters of any kind over their columns, for the tests of filters."""

from __future__ import annotations

import functools
from typing import Any

from hypothesis import strategies as st

from retrieval.gallery.filter import Filter
from retrieval.gallery.filter.columns import KNOWN_COLUMNS
from retrieval.gallery.filter.tree import (
    Absence,
    And,
    ColumnName,
    Expression,
    Interval,
    Likeness,
    Membership,
    Or,
    Relation,
)

WORDS = ["", "a", "A", "ab", "Zoë", "ZOË", "it's", 'say "x"', "100%", "a_b", "a\\b", "\\", "a\nb",
         "日本"]  # fmt: skip
NUMBERS = [-5, 0, 1, 3, 480, 640, 2_147_483_647]


def row(id_: int, path: str, label: str | None = None, **facts: Any) -> dict[str, Any]:
    """A row with the given facts, or with none."""
    known = {"format": "", "frames": 1, "depth": 8, "alpha": False, "profile": "", "note": None}
    return {
        "id": id_, "path": path, "root": WORDS[id_ % 5], "label": label, "sha256": WORDS[id_ % 3],
        "width": NUMBERS[id_ % 7], "height": NUMBERS[id_ % 4 + 2], "size": 2**62 + id_,
        "mtime_ns": NUMBERS[id_ % 5] * 10**9, "facts": known | facts if facts else None,
    }  # fmt: skip


ROWS = [
    *(row(place, word, word) for place, word in enumerate(WORDS)),
    row(20, "no label"),
    row(21, "a png", "a", format="PNG", alpha=True, depth=16, profile="00ff"),
    row(22, "a note", "A", format="JPEG", note="it's cut"),
    *(row(30 + place, word, word) for place, word in enumerate(["i", "I", "\u0130", "a\u0131"])),
    row(23, "an animation", None, format="GIF", frames=3, alpha=True),
]


def _values(column: str) -> st.SearchStrategy[Any]:
    known = KNOWN_COLUMNS[column]
    if known.holds == "text":
        return st.sampled_from(WORDS) | st.text("aA'\"%_\\ë \n", max_size=4)
    if known.holds == "true or false":
        return st.booleans()
    most = 2 ** (known.bits - 1) - 1
    return st.sampled_from([*NUMBERS, 2**31 - 1]) | st.integers(-most, most)


def _relation(column: str) -> st.SearchStrategy[Expression]:
    orders = ["=", "!="]
    if KNOWN_COLUMNS[column].holds != "true or false":
        orders += ["<", "<=", ">", ">="]
    alike = [
        name for name in KNOWN_COLUMNS if KNOWN_COLUMNS[name].holds == KNOWN_COLUMNS[column].holds
    ]
    other = _values(column) | st.sampled_from(alike).map(ColumnName)
    return st.builds(Relation, st.just(column), st.sampled_from(orders), other)


def _condition(column: str) -> st.SearchStrategy[Expression]:
    name, values = st.just(column), _values(column)
    several = st.lists(values, min_size=1, max_size=4).map(tuple)
    found = [
        _relation(column),
        st.builds(Membership, name, several, st.booleans()),
        st.builds(Absence, name, st.booleans()),
    ]
    if KNOWN_COLUMNS[column].holds != "true or false":
        found.append(st.builds(Interval, name, values, values, st.booleans()))
    if KNOWN_COLUMNS[column].holds == "text":
        found.append(st.builds(Likeness, name, values, st.booleans(), st.booleans()))
    return st.one_of(found)


@functools.cache
def filters() -> st.SearchStrategy[Filter]:
    """Any filter that a user can write."""
    conditions = st.sampled_from(sorted(KNOWN_COLUMNS)).flatmap(_condition)

    def joined(inner: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
        terms = st.lists(inner, min_size=2, max_size=3).map(tuple)
        return st.builds(And, terms) | st.builds(Or, terms)

    return st.recursive(conditions, joined, max_leaves=6).map(Filter)

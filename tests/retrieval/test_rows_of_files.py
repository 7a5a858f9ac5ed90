"""Which rows are of a path, and which of a content."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.gallery import ImageTable, Row

VECTOR = np.ones(4, np.float16)
CONTENTS = [(10, "a" * 64), (10, "b" * 64), (20, "c" * 64), (30, "d" * 64)]  # sizes and hashes


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    random = np.random.default_rng(0)
    return [
        Row(
            100 + n,
            f"p/{n}.jpg",
            "p",
            *_facts(random.integers(4)),
            embedding=np.ones(4, np.float16),
        )
        for n in range(40)
    ]


def _facts(number: int) -> tuple[int, int, str]:
    size, sha256 = CONTENTS[number]
    return size, 1, sha256


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory, rows: list[Row]) -> ImageTable:
    made = ImageTable.create(tmp_path_factory.mktemp("t") / "images.lance", 4, "")
    made.write(rows, replace=False)
    made.remove([105])
    return made


ASKED = st.lists(st.sampled_from([*CONTENTS, (10, "e" * 64), (50, "f" * 64)]), max_size=5)


@given(ASKED)
@settings(max_examples=30, deadline=None)
def test_those_of_a_content_are_those_that_a_look_at_each_row_finds(
    table: ImageTable, rows: list[Row], asked: list[tuple[int, str]]
) -> None:
    expected = {
        sha256: [r.id for r in rows if r.id != 105 and r.sha256 == sha256] for _, sha256 in asked
    }
    assert table.ids_of_contents({sha256: size for size, sha256 in asked}) == expected


@given(st.lists(st.integers(0, 45), max_size=5))
@settings(max_examples=30, deadline=None)
def test_each_path_has_the_id_of_its_row(
    table: ImageTable, rows: list[Row], numbers: list[int]
) -> None:
    expected = {f"p/{n}.jpg": 100 + n for n in numbers if n < 40 and n != 5}
    assert table.ids_of_paths([f"p/{n}.jpg" for n in numbers]) == expected

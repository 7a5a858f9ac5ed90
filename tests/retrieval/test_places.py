"""Rows by their places: what whole columns hold there, read without all that was removed."""

from __future__ import annotations

import errno

import lance
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.errors import GalleryWriteError
from retrieval.gallery import ImageTable, Row
from retrieval.gallery.places import rows_at

FRAGMENTS, ROWS_EACH = 4, 10
NAMES = ["id", "path", "embedding"]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> ImageTable:
    random = np.random.default_rng(0)
    made = ImageTable.create(tmp_path_factory.mktemp("t") / "images.lance", 4, "")
    for first in range(100, 100 + FRAGMENTS * ROWS_EACH, ROWS_EACH):
        rows = [
            Row(n, f"p/{n}.jpg", "p", n, 1, f"{n:064x}",
                embedding=random.standard_normal(4).astype(np.float16))
            for n in range(first, first + ROWS_EACH)
        ]  # fmt: skip
        made.write(rows, replace=False)
    made.remove([100, 105, 113, 119, *range(120, 130)])
    return made


@given(st.lists(st.integers(0, 25), max_size=30))
@settings(max_examples=60, deadline=None)
def test_they_are_what_whole_columns_hold_there(table: ImageTable, places: list[int]) -> None:
    dataset = lance.dataset(table._dataset.uri)
    assert len(dataset.get_fragments()) > 1
    assert dataset.count_rows() == 26
    asked = np.array(places, np.int64)
    whole = dataset.to_table(columns=NAMES)
    assert rows_at(dataset, asked, NAMES).to_pylist() == whole.take(asked).to_pylist()


def test_no_read_goes_through_the_removed_rows_of_the_whole_table(
    table: ImageTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("Lance's take() takes 2.3 ms a row beside removed ones")

    monkeypatch.setattr(lance.LanceDataset, "take", refuse)
    assert table.take([3, 1], ["id"]) == [{"id": 104}, {"id": 102}]
    assert table.embeddings_at(np.array([3, 1])).shape == (2, 4)
    assert [ids.tolist() for ids, _ in table.embeddings(np.array([104, 131]))] == [[104, 131]]


@pytest.mark.parametrize(
    ("cause", "advice"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "Free some space"),
        (OSError(errno.EACCES, "Permission denied"), "Get the right to write there"),
        (OSError("LanceError(IO): Read-only file system (os error 30)"), "Get the right to write"),
    ],
)
def test_a_commit_that_fails_says_what_to_do_about_its_cause(
    table: ImageTable, cause: OSError, advice: str
) -> None:
    with pytest.raises(GalleryWriteError, match=f"is lost. {advice}"), table._committing():
        raise cause

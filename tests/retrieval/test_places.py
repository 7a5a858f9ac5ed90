"""Rows by their places: what whole columns hold there, read without all that was removed."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.errors import GalleryWriteError
from retrieval.gallery import ImageTable, Row
from retrieval.gallery.places import places_of_few, rows_at

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


def written(folder: Path, pieces: list[list[int]], removed: list[int]) -> Any:
    """A dataset of ids in pieces, of which some were removed later."""
    for ids in pieces:
        lance.write_dataset(pa.table({"id": pa.array(ids, pa.int64())}), folder, mode="append")
    dataset = lance.dataset(folder)
    if removed:
        dataset.delete(f"id IN ({', '.join(map(str, removed))})")
    return lance.dataset(folder)


@pytest.mark.parametrize("removed", [[], [1_000, 1_005, 90_001, 7]])
def test_a_few_ids_are_found_without_all_being_read(tmp_path: Path, removed: list[int]) -> None:
    pieces = [list(range(1_000, 9_000)), [*range(90_000, 91_000), *range(200_000, 200_900)], [7, 8]]
    dataset = written(tmp_path / "x", pieces, removed)
    every = dataset.to_table()["id"].to_numpy()
    asked = np.array([8_999, 200_899, 90_500, 8, 1_001, 200_000])
    found = places_of_few(dataset, asked)
    assert found is not None
    assert every[found].tolist() == asked.tolist()


def test_ids_that_follow_no_order_or_are_not_there_are_left_to_whoever_reads_all(
    tmp_path: Path,
) -> None:
    mixed = [*range(100, 200), *range(50, 60), *range(300, 302)]
    dataset = written(tmp_path / "x", [mixed], [])
    assert places_of_few(dataset, np.array([250])) is None
    assert places_of_few(dataset, np.array([], np.int64)) is None
    for id_ in (55, 150, 301):  # either right or left
        found = places_of_few(dataset, np.array([id_]))
        assert found is None or mixed[int(found[0])] == id_


def test_of_a_large_table_little_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = np.concatenate([np.arange(n * 100_000, n * 100_000 + 3_000) for n in range(100)])
    dataset = written(tmp_path / "x", [ids.tolist()], [])
    read: list[int] = []
    monkeypatch.setattr(
        "retrieval.gallery.places.rows_at",
        lambda dataset, places, names: read.append(len(places)) or rows_at(dataset, places, names),
    )
    asked = ids[[5, 123_456, 299_999]]
    assert places_of_few(dataset, asked).tolist() == [5, 123_456, 299_999]
    assert sum(read) < len(ids) / 4

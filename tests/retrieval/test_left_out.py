"""What a query leaves out is told by the rows of its neighbours, however many they are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.retriever.left_out import Exclusion, LeftOut

N = 60
FEW = st.frozensets(st.integers(0, 9), max_size=3)
OUT = st.builds(
    lambda ids, paths, contents: LeftOut(
        ids, [f"{n}.jpg" for n in paths], [f"{n}" * 64 for n in contents]
    ),
    FEW, FEW, FEW,
)  # fmt: skip


def rows(ids: np.ndarray, columns: list[str]) -> list[dict[str, str]]:
    """Every tenth image has the same content."""
    assert columns == ["path", "sha256"]
    return [{"path": f"{i}.jpg", "sha256": f"{i % 10}" * 64} for i in ids.tolist()]


@given(st.lists(OUT, min_size=1, max_size=4), st.integers(1, N + 5), st.integers(0, 2**32 - 1))
def test_the_others_are_found_in_their_order(excluded: list[LeftOut], k: int, seed: int) -> None:
    scores = np.random.default_rng(seed).standard_normal((len(excluded), N)).astype(np.float32)
    order = np.argsort(-scores, axis=1)

    def find(n: int) -> tuple[np.ndarray, np.ndarray]:
        near = np.full((len(scores), n), -np.inf, np.float32)
        ids = np.full((len(scores), n), -1, np.int64)
        near[:, :N] = np.take_along_axis(scores, order, 1)[:, :n]
        ids[:, :N] = order[:, :n]
        return near, ids

    near, found = Exclusion(excluded, rows).search(find, k)
    assert near.shape == found.shape == (len(excluded), k)
    for row, out in enumerate(excluded):
        left = [
            i for i in order[row].tolist()
            if i not in out.ids and f"{i}.jpg" not in out.paths
            and f"{i % 10}" * 64 not in out.contents
        ]  # fmt: skip
        expected = (left + k * [-1])[:k]
        assert found[row].tolist() == expected
        assert near[row].tolist() == [scores[row, i] if i >= 0 else -np.inf for i in expected]


def test_rows_are_read_once_and_only_of_neighbours() -> None:
    asked: list[int] = []

    def noted(ids: np.ndarray, columns: list[str]) -> list[dict[str, str]]:
        asked.extend(ids.tolist())
        return rows(ids, columns)

    def find(n: int) -> tuple[np.ndarray, np.ndarray]:
        return -np.arange(n, dtype=np.float32)[None], np.arange(n)[None]

    exclusion = Exclusion([LeftOut(paths=["3.jpg"])], noted)
    for _ in range(2):
        assert exclusion.search(find, 4)[1].tolist() == [[0, 1, 2, 4]]
    assert asked == list(range(8))


def test_ids_alone_need_no_row() -> None:
    def unread(ids: np.ndarray, columns: list[str]) -> list[dict[str, str]]:
        raise AssertionError(f"{columns} of {ids} were read")

    def find(n: int) -> tuple[np.ndarray, np.ndarray]:
        return np.ones((2, n), np.float32), np.tile(np.arange(n), (2, 1))

    found = Exclusion([LeftOut(ids=[0, 1]), LeftOut()], unread).search(find, 3)[1]
    assert found.tolist() == [[2, 3, 4], [0, 1, 2]]


@pytest.mark.parametrize("out", [LeftOut(), LeftOut(ids=[1])])
def test_only_paths_and_contents_name_files(out: LeftOut) -> None:
    assert not out.names_files
    assert LeftOut(contents=["a" * 64]).names_files

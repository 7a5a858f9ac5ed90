from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from retrieval.metrics import neighbour_recall, precision_at_k

LABELS = st.integers(0, 3)


def test_precision_at_k_of_a_case_counted_by_hand() -> None:
    labels = np.array(["bmw", "audi"])
    neighbours = np.array([["bmw", "audi", "bmw", "bmw"], ["bmw", "bmw", "audi", "audi"]])
    assert precision_at_k(labels, neighbours, 1).tolist() == [1, 0]
    assert precision_at_k(labels, neighbours, 3) == pytest.approx([2 / 3, 1 / 3])
    assert precision_at_k(labels, neighbours, 4) == pytest.approx([3 / 4, 1 / 2])


@given(
    arrays.arrays(np.int64, 7, elements=LABELS), arrays.arrays(np.int64, (7, 5), elements=LABELS)
)
def test_precision_at_k_is_scikit_learns_precision_of_predicting_relevance(
    labels: np.ndarray, neighbours: np.ndarray
) -> None:
    from sklearn.metrics import precision_score

    for k in (1, 3, 5):
        relevant = neighbours[:, :k] == labels[:, None]
        theirs = [precision_score(row, np.ones(k, bool), zero_division=0) for row in relevant]
        assert precision_at_k(labels, neighbours, k) == pytest.approx(theirs)


def test_precision_at_k_refuses_too_few_neighbours() -> None:
    with pytest.raises(ValueError, match="5 neighbours a query are needed, got 2"):
        precision_at_k(np.array([1]), np.array([[1, 1]]), 5)


def test_neighbour_recall_counts_ids_whatever_their_order() -> None:
    assert neighbour_recall(np.array([[3, 2, 1]]), np.array([[1, 2, 3]])) == 1
    assert neighbour_recall(np.array([[9, 8, 1]]), np.array([[1, 2, 3]])) == pytest.approx(1 / 3)

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_calibration_error,
)

from classify.evaluation import (
    cross_entropy,
    judge,
    most_confused,
    softmax,
    top_k_accuracy,
)
from classify.ranks import are_right
from classify.training.validation import loss_and_accuracy


def predictions(seed: int, n: int = 200, classes: int = 7) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes - 1, n)  # the last class has no image
    scores = random.normal(size=(n, classes)) + 1.5 * np.eye(classes)[labels]
    return softmax(scores), labels


def judged(seed: int = 0) -> object:
    p, y = predictions(seed)
    names = [f"class {n}" for n in range(7)]
    paths = [Path(f"{n}.png") for n in range(len(y))]
    return judge(p, y, names, paths, model="m", data="d", parameters=1)


@pytest.mark.parametrize("seed", range(3))
def test_figures_are_scikit_learns_and_torchmetrics(seed: int) -> None:
    p, y = predictions(seed)
    found: object = judged(seed)
    predicted = p.argmax(axis=1)
    x, target = torch.from_numpy(p), torch.from_numpy(y)
    assert found.top1 == pytest.approx(sk.accuracy_score(y, predicted))  # type: ignore[attr-defined]
    top5 = multiclass_accuracy(x, target, 7, top_k=5, average="micro")
    assert found.top5 == pytest.approx(float(top5))  # type: ignore[attr-defined]
    assert found.loss == pytest.approx(sk.log_loss(y, p, labels=range(7)))  # type: ignore[attr-defined]
    theirs = multiclass_calibration_error(x, target, 7, n_bins=10)
    assert found.calibration_error == pytest.approx(float(theirs), abs=1e-6)  # type: ignore[attr-defined]
    report = sk.classification_report(y, predicted, output_dict=True, zero_division=0,
                                      labels=np.unique(y))  # fmt: skip
    for name in ("macro", "weighted"):
        average, wanted = found.average(name), report[f"{name} avg"]  # type: ignore[attr-defined]
        assert average.f1 == pytest.approx(wanted["f1-score"])
        assert average.precision == pytest.approx(wanted["precision"])
        assert average.recall == pytest.approx(wanted["recall"])
    for label in np.unique(y):
        ours = found.classes[label]  # type: ignore[attr-defined]
        assert ours.f1 == pytest.approx(report[str(label)]["f1-score"])
        assert ours.support == report[str(label)]["support"]


def test_the_confused_pairs_of_a_hand_made_matrix() -> None:
    confusion = np.array([[5, 2, 0], [0, 4, 3], [1, 0, 9]])
    found = [(c.label, c.predicted, c.count, c.support) for c in most_confused(confusion, "abc")]
    assert found == [("b", "c", 3, 7), ("a", "b", 2, 7), ("c", "a", 1, 10)]


def test_mistakes_come_the_surest_first_and_are_all_there() -> None:
    found: object = judged()
    mistakes = found.mistakes  # type: ignore[attr-defined]
    assert len(mistakes) == round((1 - found.top1) * 200)  # type: ignore[attr-defined]
    assert [m.probability for m in mistakes] == sorted(m.probability for m in mistakes)[::-1]
    assert all(m.label != m.predicted for m in mistakes)


@given(st.integers(1, 12), st.integers(2, 9), st.integers(1, 3), st.integers(0, 99))
def test_ties_have_one_rule_whatever_is_counted(
    n: int, classes: int, kinds: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    p = random.integers(0, kinds, (n, classes)) / kinds + 0.1
    labels = random.integers(0, classes, n)
    order = np.argsort(-p, axis=1, kind="stable")
    for k in range(1, classes + 1):
        by_hand = np.mean([label in order[i, :k] for i, label in enumerate(labels)])
        assert top_k_accuracy(p, labels, k) == by_hand
    right = p.argmax(axis=1) == labels
    assert top_k_accuracy(p, labels, 1) == right.mean()
    assert loss_and_accuracy(p, labels)[1] == pytest.approx(right.mean())
    assert are_right(torch.from_numpy(p), torch.from_numpy(labels)).tolist() == right.tolist()


def test_a_probability_of_zero_is_a_finite_loss() -> None:
    assert np.isfinite(cross_entropy(np.array([[0.0, 1.0]]), np.array([0])))


@given(st.lists(st.lists(st.floats(-1e4, 1e4), min_size=3, max_size=3), min_size=1, max_size=5))
def test_probabilities_sum_to_one(scores: list[list[float]]) -> None:
    p = softmax(np.array(scores, np.float32))
    assert p.sum(axis=1) == pytest.approx(np.ones(len(p)))
    theirs = torch.tensor(scores, dtype=torch.float32).double().softmax(dim=1).numpy()
    assert p == pytest.approx(theirs, abs=1e-6)

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional
from torchvision.ops import sigmoid_focal_loss

from classify.losses import ClassificationLoss, class_weights, metric_loss
from classify.recipe import Loss
from retrieval.errors import RecipeError

CLASSES = ("cat", "dog", "owl")


def scores(n: int = 12, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(n, 3, generator=random), torch.arange(n) % 3


def loss(weights: torch.Tensor | None = None, **spec: object) -> ClassificationLoss:
    return ClassificationLoss(Loss.model_validate(spec), weights)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 2.0, 0.5])])
def test_cross_entropy_is_torchs(smoothing: float, weights: torch.Tensor | None) -> None:
    x, y = scores()
    theirs = functional.cross_entropy(x, y, weights, label_smoothing=smoothing)
    assert float(loss(weights, smoothing=smoothing)(x, y)) == pytest.approx(float(theirs))


def test_cross_entropy_of_mixed_labels_is_torchs() -> None:
    x, _ = scores()
    shares = torch.rand(12, 3).softmax(dim=1)
    theirs = functional.cross_entropy(x, shares)
    assert float(loss()(x, shares)) == pytest.approx(float(theirs))


def test_focal_loss_of_a_hand_computed_case() -> None:
    x = torch.log(torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1]]))
    by_hand = [0.25 * (1 - p) ** 2 * -np.log(p) for p in (0.5, 0.8)]
    ours = loss(name="focal", gamma=2.0, alpha=0.25)(x, torch.tensor([0, 1]))
    assert float(ours) == pytest.approx(np.mean(by_hand), rel=1e-5)


def test_focal_loss_without_focus_is_cross_entropy() -> None:
    x, y = scores()
    ours = loss(name="focal", gamma=0.0, alpha=1.0)(x, y)
    assert float(ours) == pytest.approx(float(functional.cross_entropy(x, y)), rel=1e-5)


def test_focal_loss_of_two_classes_is_torchvisions() -> None:
    z = torch.linspace(-3, 3, 9)
    x = torch.stack([torch.zeros(9), z], dim=1)  # softmax over these is the sigmoid of z
    theirs = sigmoid_focal_loss(z, torch.ones(9), alpha=0.25, gamma=2, reduction="mean")
    ours = loss(name="focal")(x, torch.ones(9, dtype=torch.long))
    assert float(ours) == pytest.approx(float(theirs), rel=1e-5)


def test_weights_count_in_the_focal_loss() -> None:
    x, y = scores(2)
    each = [float(loss(name="focal")(x[n : n + 1], y[n : n + 1])) for n in (0, 1)]
    ours = loss(torch.tensor([1.0, 3.0, 1.0]), name="focal")(x, y)
    assert float(ours) == pytest.approx((each[0] + 3 * each[1]) / 4, rel=1e-5)


def test_balanced_weights_are_scikit_learns() -> None:
    labels = np.array([0] * 10 + [1] * 3 + [2] * 7)
    theirs = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    ours = class_weights(Loss(class_weights="balanced"), labels, CLASSES)
    assert ours is not None
    assert ours.tolist() == pytest.approx(theirs.tolist())


def test_weights_by_name_are_one_for_the_rest_and_a_wrong_name_is_said() -> None:
    spec = Loss(class_weights={"dog": 2.0})
    ours = class_weights(spec, np.array([0]), CLASSES)
    assert ours is not None
    assert ours.tolist() == [1.0, 2.0, 1.0]
    with pytest.raises(RecipeError, match="no class 'cow'"):
        class_weights(Loss(class_weights={"cow": 2.0}), np.array([0]), CLASSES)


@pytest.mark.parametrize("name", ["arcface", "proxy-anchor"])
def test_metric_losses_pull_embeddings_of_a_class_together(name: str) -> None:
    torch.manual_seed(0)
    spec = Loss.model_validate({"metric": {"name": name}})
    metric = metric_loss(spec, 4, 3)
    embeddings = torch.randn(12, 4, requires_grad=True)
    labels = torch.arange(12) % 3
    optimiser = torch.optim.Adam([embeddings, *metric.parameters()], lr=0.1)
    first = last = 0.0
    for step in range(60):
        value = metric(embeddings, labels)
        first = first or float(value.detach())
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        last = float(value.detach())
        assert np.isfinite(last), step
    assert last < first / 2
    assert metric_loss(Loss(), 4, 3) is None

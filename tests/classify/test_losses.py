from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
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


@pytest.mark.parametrize(
    ("smoothing", "weights"), [(0.0, None), (0.1, None), (0.0, torch.tensor([1.0, 2.0, 0.5]))]
)
def test_cross_entropy_is_torchs(smoothing: float, weights: torch.Tensor | None) -> None:
    x, y = scores()
    theirs = functional.cross_entropy(x, y, weights, label_smoothing=smoothing)
    assert float(loss(weights, smoothing=smoothing)(x, y)) == pytest.approx(float(theirs))


MIXED = np.array([[0.7, 0.3, 0.0], [0.0, 0.2, 0.8]])
OF_EACH = np.array([2.0, 1.0, 0.25])


@pytest.mark.parametrize("name", ["cross-entropy", "focal"])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("is_weighted", [False, True])
@pytest.mark.parametrize("shares", [np.eye(3)[[0, 2]], MIXED])
def test_any_options_of_the_loss_are_one_formula(
    name: str, smoothing: float, is_weighted: bool, shares: np.ndarray
) -> None:
    p = np.array([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1]])
    each = -np.log(p) * (0.25 * (1 - p) ** 2 if name == "focal" else 1)
    of_image = (((1 - smoothing) * shares + smoothing / 3) * each).sum(axis=1)
    of_class = shares @ (OF_EACH if is_weighted else np.ones(3))  # of the true class, unsmoothed
    by_hand = (of_image * of_class).sum() / of_class.sum()
    weights = torch.tensor(OF_EACH, dtype=torch.float32) if is_weighted else None
    ours = loss(weights, name=name, smoothing=smoothing)
    x = torch.log(torch.tensor(p, dtype=torch.float32))
    target = torch.tensor(shares, dtype=torch.float32)
    assert float(ours(x, target)) == pytest.approx(by_hand, rel=1e-5)
    if (shares == shares.round()).all():
        assert float(ours(x, target.argmax(1))) == pytest.approx(by_hand, rel=1e-5)


def test_a_common_class_with_smoothing_is_not_taught_the_rare_one() -> None:
    weights = class_weights(Loss(class_weights="balanced"), np.repeat([0, 1], [100, 4]), "ab")
    smoothed = loss(weights, smoothing=0.1)
    x = torch.zeros(1, 2, requires_grad=True)
    optimiser = torch.optim.LBFGS([x], max_iter=100)

    def step() -> torch.Tensor:
        optimiser.zero_grad()
        value = smoothed(x, torch.tensor([0]))
        value.backward()
        return value

    optimiser.step(step)
    assert x.detach().softmax(1)[0].tolist() == pytest.approx([0.95, 0.05], abs=1e-3)


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


@given(st.floats(0, 5), st.floats(0.01, 2), st.floats(0, 0.5), st.integers(0, 99))
def test_focal_loss_is_keras_formula_of_smoothed_labels(
    gamma: float, alpha: float, smoothing: float, seed: int
) -> None:
    x, y = scores(seed=seed)
    p = np.exp(x.double().numpy())
    p /= p.sum(axis=1, keepdims=True)
    truth = np.eye(3)[y.numpy()] * (1 - smoothing) + smoothing / 3
    by_hand = (alpha * (1 - p) ** gamma * -np.log(p) * truth).sum(axis=1).mean()
    ours = loss(name="focal", gamma=gamma, alpha=alpha, smoothing=smoothing)(x, y)
    assert float(ours) == pytest.approx(by_hand, rel=1e-4)


@pytest.mark.parametrize("name", ["cross-entropy", "focal"])
@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 2.0, 0.5])])
def test_a_label_is_a_share_of_one(name: str, weights: torch.Tensor | None) -> None:
    x, y = scores()
    ours = loss(weights, name=name)
    shares = functional.one_hot(y, 3).float()
    assert float(ours(x, shares)) == pytest.approx(float(ours(x, y)), rel=1e-5)


def test_scores_far_apart_give_a_finite_loss_and_gradient() -> None:
    for name in ("cross-entropy", "focal"):
        x = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0]], requires_grad=True)
        value = loss(name=name)(x, torch.tensor([0, 0]))
        value.backward()
        assert torch.isfinite(value)
        assert x.grad is not None
        assert torch.isfinite(x.grad).all()


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


def test_balanced_weights_of_a_class_without_images_are_finite() -> None:
    ours = class_weights(Loss(class_weights="balanced"), np.array([0, 0, 2]), CLASSES)
    assert ours is not None
    assert torch.isfinite(ours).all()


def test_arcface_is_the_formula_of_its_paper() -> None:
    torch.manual_seed(0)
    metric = metric_loss(Loss.model_validate({"metric": {"name": "arcface"}}), 4, 3)
    x, y = torch.randn(6, 4), torch.arange(6) % 3
    (proxies,) = metric.parameters()  # (4, 3)
    cosines = functional.normalize(x) @ functional.normalize(proxies.detach(), dim=0)
    angles = torch.arccos(cosines)
    margin = functional.one_hot(y, 3) * np.deg2rad(28.6)
    by_hand = functional.cross_entropy(64 * torch.cos(angles + margin), y)
    assert float(metric(x, y).detach()) == pytest.approx(float(by_hand), rel=1e-3)


def test_proxy_anchor_is_the_formula_of_its_paper() -> None:
    torch.manual_seed(0)
    metric = metric_loss(Loss.model_validate({"metric": {"name": "proxy-anchor"}}), 4, 3)
    x, y = torch.randn(6, 4), torch.arange(6) % 3
    (proxies,) = metric.parameters()  # (3, 4)
    cosines = functional.normalize(x) @ functional.normalize(proxies.detach()).T
    alike = functional.one_hot(y, 3).bool()
    pulls = torch.where(alike, torch.exp(-32 * (cosines - 0.1)), 0).sum(dim=0)
    pushes = torch.where(alike, 0, torch.exp(32 * (cosines + 0.1))).sum(dim=0)
    by_hand = torch.log(1 + pulls).mean() + torch.log(1 + pushes).mean()
    assert float(metric(x, y).detach()) == pytest.approx(float(by_hand), rel=1e-3)


@pytest.mark.parametrize(
    ("name", "theirs"), [("arcface", "ArcFaceLoss"), ("proxy-anchor", "ProxyAnchorLoss")]
)
@pytest.mark.parametrize("labels", [[0, 1, 2, 0, 1, 2], [0, 0, 0, 0, 2, 2], [1] * 6])
def test_metric_losses_and_their_slopes_are_those_of_pytorch_metric_learning(
    name: str, theirs: str, labels: list[int]
) -> None:
    known = pytest.importorskip("pytorch_metric_learning.losses")
    torch.manual_seed(1)
    spec = Loss.model_validate({"metric": {"name": name}})
    ours, other = metric_loss(spec, 4, 3), getattr(known, theirs)(num_classes=3, embedding_size=4)
    assert ours is not None
    other.load_state_dict(ours.state_dict())
    x, y = torch.randn(6, 4), torch.tensor(labels)
    x[0] = -next(iter(ours.parameters())).detach().reshape(-1)[:4]
    values, slopes = [], []
    for metric in (ours, other):
        embeddings = x.clone().requires_grad_()
        value = metric(embeddings, y)
        value.backward()
        (proxies,) = metric.parameters()
        values.append(float(value.detach()))
        slopes.append(torch.cat([embeddings.grad.flatten(), proxies.grad.flatten()]))
    assert values[0] == pytest.approx(values[1], rel=1e-5)
    torch.testing.assert_close(slopes[0], slopes[1], rtol=1e-4, atol=1e-5)


def test_arcface_falls_on_where_an_embedding_is_opposite_to_its_proxy() -> None:
    metric = metric_loss(Loss.model_validate({"metric": {"name": "arcface"}}), 4, 3)
    assert metric is not None
    (proxies,) = metric.parameters()
    x = (-proxies.detach().T[:1]).clone().requires_grad_()
    metric(x, torch.tensor([0])).backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


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


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_a_focal_loss_of_a_sure_image_has_a_finite_slope(gamma: float) -> None:
    x = torch.tensor([[200.0, 0.0, 0.0], [0.0, 1.0, 0.0]], requires_grad=True)
    loss(name="focal", gamma=gamma)(x, torch.tensor([0, 2])).backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()
    assert x.grad[1].abs().max() > 0


def test_a_weighted_class_is_found_however_its_name_is_composed() -> None:
    spec = Loss(class_weights={"Cafe\u0301": 2.0})
    ours = class_weights(spec, np.array([0]), ("Caf\u00e9", "dog"))
    assert ours is not None
    assert ours.tolist() == [2.0, 1.0]

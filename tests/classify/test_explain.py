from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from classify.data import find_labelled
from classify.explain import explain, files_of, grad_cam, write_grid
from classify.models import create
from classify.predicting import Predictor
from classify.recipe import Input, ModelSpec
from retrieval.errors import ImgretError
from retrieval.images import find_images


class Pooled(nn.Module):
    """A map, its mean, a linear layer: here CAM is known in closed form (Zhou et al. 2016)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3, 2, 1)
        self.fc = nn.Linear(5, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.fc(self.conv(x).mean((2, 3)))
        return scores


@pytest.mark.parametrize("target", [0, 3])
def test_the_heat_is_the_class_activation_map(target: int) -> None:
    torch.manual_seed(0)
    network = Pooled().eval().requires_grad_(requires_grad=False)
    x = torch.randn(1, 3, 16, 16)
    plane = torch.einsum("c,chw->hw", network.fc.weight[target], network.conv(x)[0]).relu()
    by_hand = (plane - plane.min()) / (plane.max() - plane.min())
    grown = np.array(Image.fromarray(by_hand.numpy()).resize((16, 16), Image.Resampling.BILINEAR))
    heat = grad_cam(network, x, target)
    assert heat.shape == (16, 16)
    assert heat == pytest.approx((grown - grown.min()) / np.ptp(grown), abs=0.02)


@pytest.mark.parametrize(
    "spec",
    [
        {"backbone": "mobilenetv3_small_050"},
        {"backbone": "torchvision:squeezenet1_1", "head": {"pool": "avg"}},
        {"backbone": "vgg11", "head": {"pool": "flatten", "dense": [8]}},
        {"layers": [4, "pool", "residual:8:1:2"], "head": {"pool": "avg"}},
    ],
)
def test_any_convolutional_network_is_explained(spec: dict[str, object]) -> None:
    torch.manual_seed(0)
    network = create(ModelSpec.model_validate(spec), Input(size=96), 3).network.eval()
    heat = grad_cam(network, torch.randn(1, 3, 96, 96), 1)
    assert heat.shape == (96, 96)
    assert np.isfinite(heat).all()
    assert 0 <= heat.min() <= heat.max() <= 1.0001


def test_a_network_without_a_map_is_said() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2))
    with pytest.raises(ImgretError, match="no map"):
        grad_cam(network, torch.randn(1, 3, 8, 8), 0)


def test_the_heat_lies_where_the_disc_is(run: Path, blobs: Path) -> None:
    predictor = Predictor(run)
    files = list(find_images([blobs / "test" / "red"]))
    made, _ = explain([predictor], files, of_class="red")
    nearer = 0
    for explanation in made:
        pixels = explanation.models[0].pixels.astype(float)
        disc = pixels[..., 0] - pixels[..., 1:].mean(axis=2) > 60
        heat = explanation.models[0].heat
        nearer += heat[disc].mean() > heat[~disc].mean()
    assert nearer >= 3


def test_right_and_wrong_images_are_told_apart(run: Path, blobs: Path) -> None:
    files, labels = files_of(find_labelled(blobs / "test"))
    assert labels[:3] == ["blue", "green", "red"]
    swapped = ["red" if label == "blue" else label for label in labels]
    everything, _ = explain([Predictor(run)], files, labels=swapped)
    right, _ = explain([Predictor(run)], files, labels=swapped, show="correct")
    wrong, _ = explain([Predictor(run)], files, labels=swapped, show="misclassified")
    assert len(everything) == len(right) + len(wrong) == 12
    assert all(e.models[0].predicted == e.label for e in right)
    assert len(wrong) >= 4
    assert len(explain([Predictor(run)], files, limit=2)[0]) == 2


def test_a_bad_image_is_named_and_the_rest_drawn(run: Path, tmp_path: Path, blobs: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    files = list(find_images([tmp_path, next((blobs / "test" / "red").iterdir())]))
    made, failed = explain([Predictor(run), Predictor(run)], files)
    assert [path.name for path, _ in failed] == ["bad.png"]
    write_grid(tmp_path / "grid.png", made)
    with Image.open(tmp_path / "grid.png") as grid:
        assert grid.width > grid.height


def test_a_class_that_a_model_does_not_know_is_said(run: Path) -> None:
    with pytest.raises(ImgretError, match="knows no class 'cow', only blue, green, red"):
        explain([Predictor(run)], [], of_class="cow")

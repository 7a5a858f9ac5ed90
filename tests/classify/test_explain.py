from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import nn

from classify.explain import draw_grid, explain, find_files, grad_cam
from classify.models import create_network
from classify.predictor import Predictor
from classify.recipe import Input, ModelSpec
from retrieval.errors import ImgretError
from retrieval.images import find_images
from retrieval.report.style import save_figure
from tests.classify.blobs import CLASSES, blob
from tests.timm_versions import as_the_table


class Pooled(nn.Module):
    """A map, its mean, a linear layer: here CAM is known in closed form (Zhou et al. 2016)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3, 2, 1)
        self.fc = nn.Linear(5, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.fc(self.conv(x).mean((2, 3)))
        return scores


QUADRANTS = [(8, 8), (8, 24), (24, 8), (24, 24)]


def disc(random: np.random.Generator, place: tuple[int, int] | None) -> torch.Tensor:
    """(3, 32, 32): grey noise, and a red disc at a place."""
    pixels = random.integers(90, 150, (32, 32, 3)).astype(np.float32)
    if place is not None:
        rows, columns = np.mgrid[:32, :32]
        pixels[(rows - place[0]) ** 2 + (columns - place[1]) ** 2 < 25] = CLASSES["red"]
    return torch.from_numpy(pixels).permute(2, 0, 1) / 64 - 2


def taught_discs(network: nn.Module, random: np.random.Generator) -> nn.Module:
    """Trained for seconds to tell a disc anywhere from none."""
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.05)
    for _ in range(60):
        at = [(int(y), int(x)) for y, x in random.integers(6, 27, (8, 2))]
        x = torch.stack([disc(random, place) for place in [*at, *[None] * 8]])
        y = torch.tensor([1] * 8 + [0] * 8)
        optimiser.zero_grad()
        nn.functional.cross_entropy(network(x), y).backward()
        optimiser.step()
    return network.eval()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        # what it is taught depends on its first weights, which are others in older versions
        pytest.param("test_vit", {"depth": 2, "global_pool": "avg"}, marks=as_the_table),
        (
            "swin_tiny_patch4_window7_224",
            {"window_size": 4, "embed_dim": 24, "depths": (2,), "num_heads": (2,)},
        ),
    ],
)
def test_the_heat_of_tokens_lies_in_the_quadrant_of_the_object(
    name: str, options: dict[str, object]
) -> None:
    torch.manual_seed(2)
    random = np.random.default_rng(2)
    bare = timm.create_model(name, num_classes=2, img_size=32, patch_size=4, **options)
    network = taught_discs(bare, random)
    for y, x in QUADRANTS:
        heat = grad_cam(network, disc(random, (y, x))[None], 1)
        assert heat[y - 8 : y + 8, x - 8 : x + 8].sum() > 0.5 * heat.sum()


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
    network = create_network(ModelSpec.model_validate(spec), Input(size=96), 3).network.eval()
    heat = grad_cam(network, torch.randn(1, 3, 96, 96), 1)
    assert heat.shape == (96, 96)
    assert np.isfinite(heat).all()
    assert 0 <= heat.min() <= heat.max() <= 1.0001


@pytest.mark.parametrize("name", ["mobilenetv2_035", "convnext_atto"])
def test_the_heat_is_that_of_the_paper(name: str) -> None:
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=3).eval().requires_grad_(False)
    x = torch.randn(1, 3, 96, 96)
    last = network.forward_features(x).requires_grad_()
    for target, score in enumerate(network.forward_head(last)[0]):
        (gradient,) = torch.autograd.grad(score, last, retain_graph=True)
        plane = torch.einsum("c,chw->hw", gradient[0].mean((1, 2)), last[0]).relu().detach()
        plane = (plane - plane.min()) / (plane.max() - plane.min() + 1e-7)
        grown = Image.fromarray(plane.numpy()).resize((96, 96), Image.Resampling.BILINEAR)
        assert grad_cam(network, x, target) == pytest.approx(np.array(grown), abs=0.02)


def test_a_frozen_network_gives_the_same_heat() -> None:
    torch.manual_seed(0)
    network, x = Pooled().eval(), torch.randn(1, 3, 16, 16)
    free = grad_cam(network, x, 0)
    assert np.ptp(free) > 0.9
    assert (free == grad_cam(network.requires_grad_(requires_grad=False), x, 0)).all()


TOKENS: list[tuple[str, dict[str, object]]] = [
    ("vit_tiny_patch16_224", {"img_size": 64, "depth": 2}),
    ("deit_tiny_distilled_patch16_224", {"img_size": 64, "depth": 2}),
    ("mixer_s32_224", {"img_size": 64}),
    ("swin_tiny_patch4_window7_224", {"img_size": 112, "depths": (1, 1, 1, 1)}),
    ("crossvit_tiny_240", {}),
    ("cait_xxs24_224", {"img_size": 64, "depth": 1}),
]


@pytest.mark.parametrize(("name", "options"), TOKENS)
def test_a_network_of_tokens_is_explained(name: str, options: dict[str, object]) -> None:
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=2, **options).eval()
    side = int(str(options.get("img_size", 240)))
    heat = grad_cam(network, torch.randn(1, 3, side, side), 0)
    assert heat.shape == (side, side)
    assert np.isfinite(heat).all()
    assert 0 <= heat.min() <= heat.max() <= 1


def test_the_heat_of_tokens_is_that_of_the_paper_on_their_map() -> None:
    torch.manual_seed(0)
    network = timm.create_model("vit_tiny_patch16_224", num_classes=3, img_size=64, depth=2).eval()
    x, kept = torch.randn(1, 3, 64, 64), []
    hook = network.blocks[0].register_forward_hook(lambda *given: kept.append(given[2]))
    scores = network(x)[0]
    hook.remove()
    (gradient,) = torch.autograd.grad(scores[1], kept)
    weights = gradient[0, 1:].mean(0)
    plane = (kept[0][0, 1:] @ weights).relu().reshape(4, 4).detach().numpy()
    grown = np.array(Image.fromarray(plane).resize((64, 64), Image.Resampling.BILINEAR))
    grown = (grown - grown.min()) / np.ptp(grown)
    assert grad_cam(network, x, 1) == pytest.approx(grown, abs=0.02)


def test_a_network_without_a_map_is_said() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2))
    with pytest.raises(ImgretError, match="does not end in a map"):
        grad_cam(network, torch.randn(1, 3, 8, 8), 0)


def test_a_class_beyond_the_last_is_an_error_and_prints_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(IndexError):
        grad_cam(Pooled().eval(), torch.randn(1, 3, 16, 16), 4)
    assert capsys.readouterr() == ("", "")


def test_the_heat_lies_where_the_disc_is(run: Path, blobs: Path) -> None:
    predictor = Predictor.load(run)
    files = list(find_images([blobs / "test" / "red"]))
    made, _ = explain([predictor], files, of_class="red")
    nearer = 0
    for explanation in made:
        pixels = explanation.models[0].pixels.astype(float)
        disc = pixels[..., 0] - pixels[..., 1:].mean(axis=2) > 60
        heat = explanation.models[0].heat
        nearer += heat[disc].mean() > heat[~disc].mean()
    assert nearer >= 3


@pytest.mark.parametrize(("left", "right"), [("red", "blue"), ("blue", "red")])
def test_of_two_discs_the_one_of_the_class_is_hot(
    run: Path, tmp_path: Path, left: str, right: str
) -> None:
    pixels = np.random.default_rng(3).integers(90, 150, (24, 24, 3))
    rows, columns = np.mgrid[:24, :24]
    pixels[(columns - 5) ** 2 + (rows - 12) ** 2 < 16] = CLASSES[left]
    pixels[(columns - 18) ** 2 + (rows - 12) ** 2 < 16] = CLASSES[right]
    Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "two.png")
    files = list(find_images([tmp_path / "two.png"]))
    for name, half, other in (
        (left, np.s_[:, :8], np.s_[:, 8:]),
        (right, np.s_[:, 8:], np.s_[:, :8]),
    ):
        (made,), _ = explain([Predictor.load(run)], files, of_class=name)
        heat = made.models[0].heat
        assert heat[half].mean() > 4 * heat[other].mean()


def test_naming_a_class_changes_what_is_explained_and_not_what_is_predicted(
    run: Path, blobs: Path
) -> None:
    file = next((blobs / "test" / "green").iterdir())
    predictor = Predictor.load(run)
    (prediction,) = predictor.predict([file], top=1)
    (own,), _ = explain([predictor], list(find_images([file])))
    (other,), _ = explain([predictor], list(find_images([file])), of_class="blue")
    assert (own.models[0].explained, other.models[0].explained) == (*prediction.classes, "blue")
    for model in (own.models[0], other.models[0]):
        assert model.predicted == prediction.classes[0]
        assert model.probability == pytest.approx(prediction.probabilities[0], abs=0.01)


def test_right_and_wrong_images_are_told_apart(run: Path, blobs: Path) -> None:
    files, labels = find_files([blobs / "test"], ["red"])
    assert labels is not None
    assert labels[:3] == ["blue", "green", "red"]
    swapped = ["red" if label == "blue" else label for label in labels]
    everything, _ = explain([Predictor.load(run)], files, labels=swapped)
    right, _ = explain([Predictor.load(run)], files, labels=swapped, show="correct")
    wrong, _ = explain([Predictor.load(run)], files, labels=swapped, show="misclassified")
    assert len(everything) == len(right) + len(wrong) == 12
    assert all(e.models[0].predicted == e.label for e in right)
    assert len(wrong) >= 4
    assert len(explain([Predictor.load(run)], files, limit=2)[0]) == 2


def test_only_folders_named_like_classes_are_true_labels(tmp_path: Path) -> None:
    for name in ("a.png", "2024/b.png", ".imgret/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        blob((200, 0, 0), seed=0).save(tmp_path / name)
    files, labels = find_files([tmp_path], ["red"])
    assert [file.path.name for file in files] == ["a.png", "b.png"]
    assert labels is None


def test_a_row_is_an_image_and_a_column_a_model(run: Path, blobs: Path) -> None:
    files, labels = find_files([blobs / "test"], ["red"])
    made, _ = explain([Predictor.load(run)] * 2, files, labels=labels, limit=4)
    titles = [axes.get_title() for axes in draw_grid(made).axes]
    assert len(titles) == 4 * 3
    assert titles[0::3] == ["blue", "green", "red", "blue"]
    assert titles[1].startswith("tiny\n✓ blue ")  # the first row names the models
    assert titles[4].startswith("✓ green ")


def test_a_picture_that_cannot_be_written_is_said(run: Path, tmp_path: Path, blobs: Path) -> None:
    made, _ = explain([Predictor.load(run)], list(find_images([blobs / "test"])), limit=1)
    with pytest.raises(ImgretError, match="cannot be written"):
        save_figure(draw_grid(made), tmp_path / "nowhere" / "grid.png")
    assert list(tmp_path.iterdir()) == []


def test_a_bad_image_is_named_and_the_rest_drawn(run: Path, tmp_path: Path, blobs: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    files = list(find_images([tmp_path, next((blobs / "test" / "red").iterdir())]))
    made, failed = explain([Predictor.load(run), Predictor.load(run)], files)
    assert [path.name for path, _ in failed] == ["bad.png"]
    save_figure(draw_grid(made), tmp_path / "grid.png")
    with Image.open(tmp_path / "grid.png") as grid:
        assert grid.format == "PNG"
        assert grid.width > grid.height


def test_a_class_that_a_model_does_not_know_is_said(run: Path) -> None:
    with pytest.raises(ImgretError, match="has no class 'cow', only blue, green, red"):
        explain([Predictor.load(run)], [], of_class="cow")

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file
from torch.nn import functional

from classify import recipe as recipes
from classify.augmentation import Augmenter
from classify.data import LabelledImages
from classify.models import create_network, embed_features
from classify.recipe import Recipe
from classify.training import train
from classify.training.distillation import Distilled, _error
from classify.training.objective import make_label_loss
from classify.training.teacher import WHITENED, Teacher, Whitening, _chains, watching
from retrieval import backbones, transform
from retrieval.errors import RecipeError
from tests.classify.blobs import TINY

DISTILLED = """
[distillation]
teacher = "TEACHER"
maps = 1.0
layers = ["backbone.*_pool"]
"""


def distilled(teacher: Path, *overrides: str) -> Recipe:
    text = TINY.replace("epochs = 3", 'epochs = 6\nmonitor = "loss"\nseed = 5') + DISTILLED
    return recipes.parse_recipe(text.replace("TEACHER", str(teacher)), "distilled.toml", overrides)


def test_a_network_learns_to_agree_with_its_teacher(blobs: Path, run: Path, tmp_path: Path) -> None:
    trained = train(blobs, distilled(run, "training.epochs=40"), tmp_path / "run")
    first, last = trained.history[0].validation_loss, trained.history[-1].validation_loss
    assert first is not None
    assert last is not None
    assert last < first / 2


@pytest.mark.long
def test_a_distilled_network_gives_embeddings_like_the_teachers(
    blobs: Path, run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    trained = train(blobs, distilled(run, "training.epochs=40"), out)
    untrained = _untrained(blobs, run, tmp_path)
    x = torch.randn(64, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        ours, theirs = (backbones.load_backbone(str(f)).network(x) for f in (out, run))
        fresh = backbones.load_backbone(str(untrained)).network(x)
    agreement = functional.cosine_similarity(ours, theirs).mean()
    assert agreement > functional.cosine_similarity(fresh, theirs).mean() + 0.1
    assert trained.best is not None


def _untrained(blobs: Path, run: Path, tmp_path: Path) -> Path:
    train(blobs, distilled(run, "training.epochs=1", "training.lr=1e-9"), tmp_path / "fresh")
    return tmp_path / "fresh"


def test_the_teacher_does_not_change_and_is_not_kept(
    blobs: Path, run: Path, tmp_path: Path
) -> None:
    before = load_file(run / "model.safetensors")
    train(blobs, distilled(run, "training.epochs=1"), tmp_path / "run")
    after = load_file(run / "model.safetensors")
    assert all(torch.equal(before[key], after[key]) for key in before)
    kept = load_file(tmp_path / "run" / "last.safetensors")
    assert not any("teacher" in key for key in kept)


def test_a_distilled_run_goes_on_to_the_same_weights(
    blobs: Path, run: Path, tmp_path: Path
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(blobs, distilled(run), whole)
    steps = iter(range(10**6))
    train(blobs, distilled(run), broken, should_stop=lambda: next(steps) == 5)
    train(blobs, distilled(run), broken, resume=True)
    ours, theirs = (load_file(f / "model.safetensors") for f in (whole, broken))
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.long
def test_labels_count_when_they_are_given_a_weight(blobs: Path, run: Path, tmp_path: Path) -> None:
    quiet = train(blobs, distilled(run, "training.epochs=25"), tmp_path / "quiet")
    labels = ["distillation.labels=1.0", "training.epochs=25"]
    taught = train(blobs, distilled(run, *labels), tmp_path / "taught")
    assert taught.history[-1].accuracy > quiet.history[-1].accuracy
    assert taught.history[-1].accuracy > 0.6


@pytest.mark.parametrize("size", [16, 48])
def test_a_teacher_of_another_size_sees_the_same_picture(run: Path, size: int) -> None:
    sizes = f"distillation.size={size}", "input.size=24"
    held = objective(run, *sizes, "augmentation.crop=[0.4, 0.9]")
    pixels = np.random.default_rng(0).integers(0, 256, (8, 40, 40, 3), np.uint8)
    ours, theirs = held.pictures(pixels, np.zeros(8, np.int64), 7).pictures
    assert ours.shape == (8, 3, 24, 24)
    assert theirs.shape == (8, 3, size, size)
    large, small = (theirs, ours) if size > 24 else (ours, theirs)
    side = small.shape[-1]
    for plane, expected in zip(large[:, 0].numpy(), small[:, 0].numpy(), strict=True):
        shrunk = Image.fromarray(plane).resize((side, side), Image.Resampling.BICUBIC)
        assert np.abs(np.asarray(shrunk) - expected).max() < 1e-4


def test_a_teacher_run_by_openvino_gives_what_torch_gives(run: Path) -> None:
    teacher = objective(run, "distillation.layers=[]", "distillation.size=24").teacher
    assert teacher.run is not None
    x = torch.randn(5, 3, 24, 24, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = backbones.load_backbone(str(run), size=24).network(x)
    found, maps = teacher.teach(x.contiguous(memory_format=torch.channels_last))
    assert not maps
    assert functional.cosine_similarity(found, expected).min() > 0.999


def objective(run: Path, *overrides: str) -> Distilled:
    recipe = distilled(run, *overrides)
    assert recipe.distillation is not None
    created = create_network(recipe.model, recipe.input, 3)
    pixels, device = created.preprocessing, torch.device("cpu")
    teacher = Teacher.load(recipe.distillation, created.network, pixels, device)
    augmenter = Augmenter(recipe.augmentation, replace(pixels, size=max(pixels.size, teacher.size)))
    none = np.zeros(0, np.int64)
    images = LabelledImages((), none, ("a", "b", "c"), none)
    on_labels = make_label_loss(recipe, created.network, pixels.size, images)
    return Distilled(teacher, None, augmenter, pixels.size, on_labels, device)


def test_a_larger_teacher_is_learnt_from(blobs: Path, run: Path, tmp_path: Path) -> None:
    trained = train(blobs, distilled(run, "distillation.size=24"), tmp_path / "run")
    assert trained.history[-1].validation_loss < trained.history[0].validation_loss  # type: ignore[operator]


def test_whitened_embeddings_are_those_that_retrieval_searches() -> None:
    random = np.random.default_rng(0)
    x = np.maximum(random.normal(0.3, 1, (300, 20)) * np.linspace(0.1, 2, 20), 0)
    x = np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True), np.float32)
    fitted = transform.fit(WHITENED, x)
    assert fitted.spec == "whiten:20:0.75"
    found = functional.normalize(
        Whitening.of(fitted, torch.device("cpu"))(torch.from_numpy(7 * x))
    ).numpy()
    assert np.abs(found - fitted.apply(x)).max() < 1e-5


def test_embeddings_that_learn_whitened_agree_whitened(run: Path) -> None:
    whitened = ["distillation.embedding=0", "distillation.maps=0", "distillation.whitened=1"]
    held = objective(run, *whitened)
    random = torch.Generator().manual_seed(0)
    pixels = np.random.default_rng(0).integers(0, 256, (64, 16, 16, 3), np.uint8)
    held.whitening = held.teacher.fit_whitening(pixels, held.augmenter, held.device)
    pictures = torch.randn(16, 3, 16, 16, generator=random)
    learnt = torch.rand(16, 12, generator=random).requires_grad_()
    optimiser = torch.optim.Adam([learnt], lr=0.03)
    losses = []
    for _ in range(300):
        loss = held.distance(learnt, {}, pictures)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[0] > 0.3
    assert losses[-1] < 0.05


def test_a_loss_in_bfloat16_is_that_in_float32(run: Path) -> None:
    torch.manual_seed(0)
    held = objective(run)
    network = create_network(distilled(run).model, distilled(run).input, 3).network
    x = torch.randn(16, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    found = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            with watching(network, held.teacher.layers) as maps:
                embeddings, _ = embed_features(network, x)
            found.append(float(held.distance(embeddings, maps, x).detach()))
    assert found[1] == pytest.approx(found[0], rel=0.3)


@given(st.integers(0, 1000))
def test_the_error_of_maps_is_the_variance_that_is_not_explained(seed: int) -> None:
    given, theirs, noise = (
        torch.randn(3, 4, 5, 6, generator=torch.Generator().manual_seed(seed + n)) for n in range(3)
    )
    theirs = theirs * torch.tensor([1.0, 2.0, 0.5, 3.0])[:, None, None]
    ours = theirs + 0.3 * noise
    a, b = (x.transpose(0, 1).flatten(1).numpy() for x in (ours, theirs))
    unlike = np.zeros((3, 5, 5, 6), np.float32)
    variances = b.var(axis=1, ddof=1)
    expected = ((a - b) ** 2 / (variances + 0.05 * variances.mean())[:, None]).mean()
    assert float(_error(ours, torch.from_numpy(unlike), theirs)) == pytest.approx(
        expected, rel=1e-4
    )
    added = (theirs - given).transpose(0, 1).flatten(1).numpy().var(axis=1, ddof=1)
    expected = ((a - b) ** 2 / (added + 0.05 * added.mean())[:, None]).mean()
    assert float(_error(ours, given, theirs)) == pytest.approx(expected, rel=1e-4)


def test_a_dead_channel_of_the_teacher_counts_little() -> None:
    theirs = torch.randn(4, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    theirs[:, 1] = 3.0
    ours = theirs + 0.1
    alive = float(_error(ours[:, :1], theirs, theirs[:, :1]))
    assert 0.005 < alive < 0.02
    assert float(_error(ours, theirs[:, :1], theirs)) < 0.3


def test_a_map_of_another_side_is_pooled() -> None:
    theirs = torch.randn(4, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    assert float(_error(functional.avg_pool2d(theirs, 2), theirs, theirs)) < 1e-6


def test_layers_apart_learn_what_the_teachers_give(blobs: Path, run: Path, tmp_path: Path) -> None:
    apart = ["distillation.apart=true", 'distillation.layers=["backbone", "head.steps"]']
    trained = train(blobs, distilled(run, *apart, "training.epochs=40"), tmp_path / "run")
    first, last = trained.history[0], trained.history[-1]
    assert last.loss < first.loss / 2
    assert last.accuracy is None  # nothing was classified
    assert last.validation_loss is not None
    assert first.validation_loss is not None
    assert last.validation_loss < 0.85 * first.validation_loss  # of the whole, never run as one


def test_what_is_not_among_layers_apart_does_not_learn(
    blobs: Path, run: Path, tmp_path: Path
) -> None:
    apart = ["distillation.apart=true", 'distillation.layers=["backbone"]']
    train(blobs, distilled(run, *apart, "training.epochs=1"), tmp_path / "one")
    train(blobs, distilled(run, *apart, "training.epochs=3"), tmp_path / "three")
    one, three = (load_file(tmp_path / name / "last.safetensors") for name in ("one", "three"))
    same = {key for key in one if key.startswith("network.") and torch.equal(one[key], three[key])}
    assert "network.head.fc.weight" in same
    assert "network.backbone.0_conv.weight" not in same


def test_a_star_stands_for_one_part_of_a_name(run: Path) -> None:
    network = backbones.load_backbone(str(run)).network
    layers = network.backbone.named_children()  # type: ignore[operator, union-attr]
    assert _chains(network, ("backbone.*",)) == tuple((f"backbone.{name}",) for name, _ in layers)
    assert _chains(network, ("*",)) == tuple((name,) for name, _ in network.named_children())


def test_layers_that_follow_one_another_count_as_one(run: Path) -> None:
    network = backbones.load_backbone(str(run)).network
    chain = "backbone.0_conv>backbone.0_norm"
    assert _chains(network, (chain,)) == (("backbone.0_conv", "backbone.0_norm"),)
    assert _chains(network, ("backbone.0_conv>backbone.none",)) == ()


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("distillation.layers=[\"nothing.*\"]", "both have nothing"),
        ("model.head.dense=[13]", "its embedding is"),
        ("model.layers=[9, \"pool\", 16, \"dropout:0.1\", \"pool\"]", "the layer backbone"),
        ("input.mean=[0.1, 0.2, 0.3]", "normalises pixels otherwise"),
    ],
)  # fmt: skip
def test_a_teacher_that_does_not_fit_is_refused(
    blobs: Path, run: Path, tmp_path: Path, override: str, sentence: str
) -> None:
    with pytest.raises(RecipeError, match=sentence):
        train(blobs, distilled(run, override), tmp_path / "run")


def test_a_mixed_picture_has_no_teacher(run: Path) -> None:
    with pytest.raises(
        RecipeError, match=r": distillation cannot be combined with mixup.* Correct one of these"
    ):
        distilled(run, "augmentation.mixup=0.2")


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (("distillation.apart=true", "distillation.layers=[]"), "apart needs layers"),
        (("distillation.apart=true", "distillation.size=24"), "a teacher of the same size"),
        (
            ("distillation.apart=true", 'distillation.layers=["backbone"]', "loss.name=focal"),
            "learn no labels, and take no loss",
        ),
    ],
)
def test_layers_apart_need_what_they_need(
    run: Path, overrides: tuple[str, ...], sentence: str
) -> None:
    with pytest.raises(RecipeError, match=sentence):
        distilled(run, *overrides)

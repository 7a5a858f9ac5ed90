from __future__ import annotations

import dataclasses
import itertools
import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn

from classify import recipe as recipes
from classify.data import decode_all, find_labelled
from classify.models import create_network, layers_of
from classify.recipe import Input, ModelSpec, Phase, Recipe, TrainingSettings
from classify.run import RUN_FORMAT, Epoch, Run
from classify.training import train
from classify.training.lock import only_trainer
from classify.training.norms import training_mode
from classify.training.optimiser import (
    Rate,
    check_optimisers,
    is_out_of_patience,
    make_optimiser,
    open_layers,
)
from retrieval import backbones
from retrieval.errors import ImgretError, RecipeError, RunError
from retrieval.images import Preprocessing
from tests.classify.blobs import TINY, save_blobs, tiny
from tests.conftest import ROOT
from tests.timm_versions import read_by_timm

TWO_PHASES = """
[[phases]]
open = "head"
epochs = 2
[[phases]]
open = 4
epochs = 3
lr = 5e-3
schedule = "plateau"
wait = 1
"""
EMA = ["training.ema=0.9", "augmentation.mixup=0.2", "augmentation.rand=rand-m5-n1"]
METRIC = [
    "loss.metric.name=arcface",
    "loss.class_weights=balanced",
    "training.precise_norm=2",
]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model.safetensors")


def timeless(history: tuple[Epoch, ...] | list[Epoch]) -> list[dict[str, object]]:
    return [
        {
            k: v
            for k, v in dataclasses.asdict(e).items()
            if k not in ("images_per_second", "seconds")
        }
        for e in history
    ]


def same(one: Path, other: Path) -> bool:
    """Whether two runs are equal bit by bit: the best weights, the last, and the optimiser's."""
    for name in ("model.safetensors", "last.safetensors"):
        ours, theirs = load_file(one / name), load_file(other / name)
        if set(ours) != set(theirs) or not all(torch.equal(ours[k], theirs[k]) for k in ours):
            return False
    return True


def two_phases(*overrides: str) -> Recipe:
    return recipes.parse_recipe(TINY + TWO_PHASES, "two", overrides)


def after(steps: int) -> Callable[[], bool]:
    counter = itertools.count(1)
    return lambda: next(counter) == steps


def test_it_learns(run: Path) -> None:
    history = Run.read(run).history
    assert history[-1].loss < history[0].loss / 2
    best = max(history, key=lambda e: e.validation_accuracy or 0)
    assert best.validation_accuracy is not None
    assert best.validation_accuracy > 0.8
    assert best.accuracy > 0.8
    assert Run.read(run).facts.ended == "all epochs are done"


def test_the_figures_of_an_epoch_are_scikit_learns(blobs: Path, tmp_path: Path) -> None:
    from sklearn.metrics import accuracy_score, log_loss

    data = tmp_path / "data"
    shutil.copytree(blobs / "train", data / "train")
    shutil.copytree(blobs / "test", data / "val")
    trained = train(data, tiny("training.epochs=4"), tmp_path / "run")
    network = read_by_timm(trained.run.folder).eval()
    preprocessing = backbones.load_classifier(trained.run.folder).preprocessing
    seen = decode_all(find_labelled(data / "val"), preprocessing)
    x = torch.from_numpy(seen.pixels).permute(0, 3, 1, 2).float() / 255
    x = (x - torch.tensor(preprocessing.mean).view(3, 1, 1)) / torch.tensor(preprocessing.std).view(
        3, 1, 1
    )
    probabilities = network(x).softmax(dim=1).detach().double().numpy()
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    best, labels = trained.best, seen.images.labels
    assert best is not None
    assert best.validation_loss == pytest.approx(log_loss(labels, probabilities), abs=0.02)
    assert best.validation_accuracy == pytest.approx(
        accuracy_score(labels, probabilities.argmax(axis=1)), abs=0.1
    )


def test_a_seed_gives_the_same_run_twice(blobs: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train(blobs, tiny(f"training.seed={seed}", *EMA), tmp_path / name)
    assert same(tmp_path / "a", tmp_path / "b")
    assert not same(tmp_path / "a", tmp_path / "c")


@pytest.mark.long
@pytest.mark.parametrize("steps", [1, 3, 6, 7, 15])  # 3 an epoch; the first phase ends after 6
@pytest.mark.parametrize("overrides", [EMA, METRIC])
def test_an_interrupted_run_ends_as_an_unbroken_one(
    blobs: Path, tmp_path: Path, steps: int, overrides: list[str]
) -> None:
    recipe = two_phases(*overrides)
    unbroken = train(blobs, recipe, tmp_path / "unbroken")
    stopped = train(blobs, recipe, tmp_path / "run", should_stop=after(steps))
    assert stopped.run.facts.ended == ""
    resumed = train(blobs, recipe, tmp_path / "run", resume=True)
    assert timeless(resumed.history) == timeless(unbroken.history)
    assert same(tmp_path / "run", tmp_path / "unbroken")
    assert resumed.run.facts.ended == unbroken.run.facts.ended


@pytest.mark.parametrize("name", ["lamb", "adan"])
def test_an_optimiser_that_counts_steps_by_group_is_resumed(
    blobs: Path, tmp_path: Path, name: str
) -> None:
    recipe = tiny(f"training.optimiser={name}", "training.epochs=2")
    train(blobs, recipe, tmp_path / "unbroken")
    train(blobs, recipe, tmp_path / "run", should_stop=after(4))
    train(blobs, recipe, tmp_path / "run", resume=True)
    assert same(tmp_path / "run", tmp_path / "unbroken")


class Killed(Exception):
    """As if the power went."""


@pytest.mark.parametrize("epoch", [1, 2, 4])
def test_a_run_that_was_killed_before_it_saved_ends_as_an_unbroken_one(
    blobs: Path, tmp_path: Path, epoch: int
) -> None:
    def kill(done: Epoch) -> None:
        if done.epoch == epoch:
            raise Killed

    recipe = two_phases(*EMA)
    unbroken = train(blobs, recipe, tmp_path / "unbroken")
    with pytest.raises(Killed):
        train(blobs, recipe, tmp_path / "run", on_epoch=kill)
    resumed = train(blobs, recipe, tmp_path / "run", resume=True)
    assert timeless(resumed.history) == timeless(unbroken.history)
    assert same(tmp_path / "run", tmp_path / "unbroken")


def test_layers_that_were_frozen_between_phases_do_not_count_when_gradients_are_clipped(
    blobs: Path, tmp_path: Path
) -> None:
    phases = "[[phases]]\nepochs=1\n[[phases]]\nopen='head'\nepochs=1\nclip=0.1\nlr=1.0"
    recipe = recipes.parse_recipe(TINY + phases, "clipped")
    unbroken = train(blobs, recipe, tmp_path / "unbroken")
    train(blobs, recipe, tmp_path / "run", should_stop=after(3))
    resumed = train(blobs, recipe, tmp_path / "run", resume=True)
    assert timeless(resumed.history) == timeless(unbroken.history)
    assert same(tmp_path / "run", tmp_path / "unbroken")


@pytest.mark.long
def test_a_run_may_be_interrupted_many_times(blobs: Path, tmp_path: Path) -> None:
    recipe = two_phases()
    unbroken = train(blobs, recipe, tmp_path / "unbroken")
    trained = train(blobs, recipe, tmp_path / "run", should_stop=after(2))
    while not trained.run.facts.ended:
        trained = train(blobs, recipe, tmp_path / "run", resume=True, should_stop=after(2))
    assert timeless(trained.history) == timeless(unbroken.history)
    assert same(tmp_path / "run", tmp_path / "unbroken")


def test_the_best_weights_are_kept(blobs: Path, tmp_path: Path) -> None:
    trained = train(blobs, tiny("training.epochs=6", "training.lr=0.05"), tmp_path / "run")
    accuracies = [epoch.validation_accuracy for epoch in trained.history]
    assert trained.best is not None
    assert (
        trained.best.epoch
        == trained.run.facts.best_epoch
        == 1 + accuracies.index(max(a for a in accuracies if a is not None))
    )
    (tmp_path / "cut").mkdir()
    cut = tiny(f"training.epochs={trained.best.epoch}", "training.lr=0.05")
    train(blobs, cut, tmp_path / "cut" / "run")
    ours, theirs = weights(tmp_path / "run"), weights(tmp_path / "cut" / "run")
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_the_lowest_loss_may_choose_the_best(blobs: Path, tmp_path: Path) -> None:
    phases = "[[phases]]\nepochs=4\nlr=0.05\n[[phases]]\nepochs=2\nlr=10"  # the second ruins it
    recipe = recipes.parse_recipe(TINY + phases, "x", ["training.monitor=loss"])
    trained = train(blobs, recipe, tmp_path / "run")
    losses = [epoch.validation_loss or 0.0 for epoch in trained.history]
    assert trained.run.facts.best_epoch == 1 + int(np.argmin(losses))
    assert losses[-1] > min(losses)


def test_a_phase_goes_on_from_the_best_weights(blobs: Path, tmp_path: Path) -> None:
    phases = "[[phases]]\nepochs=8\nlr=0.05\n[[phases]]\nopen='head'\nepochs=1\nlr=1e-12"
    trained = train(blobs, recipes.parse_recipe(TINY + phases, "x"), tmp_path / "run")
    *_, last, still = trained.history
    assert trained.best is not None
    assert trained.best.epoch < last.epoch
    assert still.validation_loss == pytest.approx(trained.best.validation_loss, rel=1e-4)
    assert still.validation_loss != pytest.approx(last.validation_loss, rel=1e-4)


def test_the_weights_that_are_kept_are_the_averaged_ones(tmp_path: Path) -> None:
    save_blobs(tmp_path / "data", 6)
    train(tmp_path / "data", tiny("training.ema=0.9", "data.validation=0"), tmp_path / "run")
    last = load_file(tmp_path / "run" / "last.safetensors")
    kept = weights(tmp_path / "run")
    assert all(torch.equal(kept[key], last[f"ema.{key}"]) for key in kept)
    assert not torch.equal(kept["head.fc.weight"], last["network.head.fc.weight"])


def test_a_clipped_step_is_as_long_as_it_may_be(blobs: Path, tmp_path: Path) -> None:
    recipe = tiny(
        "training.batch=30", "training.epochs=1", "training.optimiser=momentum",
        "training.lr=0.5", "training.clip=0.01", "data.validation=0.2",
    )  # fmt: skip
    train(blobs, recipe, tmp_path / "run")
    torch.manual_seed(recipe.training.seed)
    before = dict(create_network(recipe.model, recipe.input, 3).network.named_parameters())
    now = weights(tmp_path / "run")
    moved = sum(float(((now[k] - p) ** 2).sum().detach()) for k, p in before.items())
    assert math.sqrt(moved) == pytest.approx(0.5 * 0.01, rel=0.01)


@pytest.mark.parametrize("batch", [11, 3, 100])
def test_an_odd_batch_is_mixed_in_pairs_and_the_steps_are_counted_so(
    blobs: Path, tmp_path: Path, batch: int
) -> None:
    seen: list[tuple[int, int | None]] = []
    trained = train(
        blobs,
        tiny("augmentation.mixup=0.2", "training.epochs=1", f"training.batch={batch}"),
        tmp_path / "run",
        progress=lambda what, n, of: seen.append((n, of)) if what == "epoch 1" else None,
    )
    pairs = min(batch, 30) // 2 * 2  # 30 images to train on
    assert trained.run.facts.trained_on == 30
    assert seen == [(n + 1, 30 // pairs) for n in range(30 // pairs)]


def test_training_ends_early_without_gain(blobs: Path, tmp_path: Path) -> None:
    recipe = tiny("training.epochs=50", "training.patience=2", "training.lr=1e-9")
    trained = train(blobs, recipe, tmp_path / "run")
    assert len(trained.history) < 10
    assert trained.run.facts.ended == "2 epochs without gain"
    assert not any(epoch.is_best for epoch in trained.history[-2:])


def test_timm_reads_a_run_and_knows_its_classes(run: Path, blobs: Path) -> None:
    network = read_by_timm(run).eval()
    recipe = Run.read(run).recipe
    ours = create_network(recipe.model, recipe.input, 3).network.eval()
    ours.load_state_dict(weights(run))
    x = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(network(x), ours(x))
    assert json.loads((run / "config.json").read_text())["label_names"] == ["blue", "green", "red"]
    assert Run.read(run).classes == ("blue", "green", "red")


def test_all_files_of_a_run_may_be_read_by_whom_the_umask_lets(run: Path) -> None:
    made = run / "new"
    made.touch()
    modes = {file.name: file.stat().st_mode for file in run.iterdir()}
    made.unlink()
    assert set(modes.values()) == {modes["new"]}, modes


@pytest.mark.long
def test_a_process_that_knows_only_of_retrieval_reads_a_run(run: Path) -> None:
    code = f"from retrieval import backbones\nprint(backbones.load_backbone({str(run)!r}).spec.dim)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["12"]


def test_a_run_with_timms_own_head_is_timms_own(blobs: Path, tmp_path: Path) -> None:
    model = {"backbone": "mobilenetv3_small_050", "head": {"dropout": 0.1}}
    recipe = tiny("training.epochs=1", "input.size=32").model_copy(
        update={"model": ModelSpec.model_validate(model)}
    )
    train(blobs, recipe, tmp_path / "run")
    assert json.loads((tmp_path / "run" / "config.json").read_text())["architecture"] == (
        "mobilenetv3_small_050"
    )
    assert read_by_timm(tmp_path / "run").num_classes == 3


def test_a_run_is_a_backbone_of_retrieval(run: Path) -> None:
    backbone = backbones.load_backbone(str(run))
    assert backbone.spec.dim == 12
    assert backbone.spec.preprocessing.size == 16
    trained = read_by_timm(run).eval()
    x = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(trained.get_classifier()(backbone.network(x)), trained(x))
    pooled = backbones.load_backbone(str(run), pool="avg")
    assert pooled.spec.dim == 16
    assert backbones.load_classifier(run).preprocessing == Preprocessing(
        size=16, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
    )


def small() -> nn.Module:
    spec = {"backbone": "mobilenetv3_small_050", "head": {"pool": "avg", "dense": [8]}}
    return create_network(ModelSpec.model_validate(spec), Input(size=32), 3).network


def test_a_frozen_backbone_does_not_move_nor_do_its_batch_norms() -> None:
    network = small()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    open_layers(network, Phase(open="head"))
    optimiser = make_optimiser(network, TrainingSettings(lr=0.1), [])
    for _ in range(3):
        training_mode(network)
        network(torch.randn(4, 3, 32, 32)).square().sum().backward()
        optimiser.step()
    moved = {k for k, v in network.state_dict().items() if not torch.equal(v, before[k])}
    assert moved
    assert all(key.startswith("head.") for key in moved)


def test_running_statistics_are_used_and_kept_while_weights_learn(
    blobs: Path, tmp_path: Path
) -> None:
    phases = """
    [[phases]]
    epochs = 2
    [[phases]]
    epochs = 2
    statistics = "running"
    """
    recipe = recipes.parse_recipe(
        TINY + phases, "x", ["training.precise_norm=2", "data.validation=0"]
    )
    states: list[dict[str, torch.Tensor]] = []

    def keep(_: Epoch) -> None:
        states.append(load_file(tmp_path / "run" / "model.safetensors"))

    train(blobs, recipe, tmp_path / "run", on_epoch=keep)
    running = {
        key for key in states[0] if key.rpartition(".")[2] in ("running_mean", "running_var")
    }
    assert running
    assert not all(torch.equal(states[0][key], states[1][key]) for key in running)
    assert all(torch.equal(states[1][key], states[3][key]) for key in running)
    assert not torch.equal(states[1]["backbone.0_norm.weight"], states[3]["backbone.0_norm.weight"])


@pytest.mark.parametrize(("opened", "moves"), [("head", set()), (4, {"2"}), (7, {"0", "2"})])
def test_layers_that_are_not_open_stay_as_they_were(
    blobs: Path, tmp_path: Path, opened: str | int, moves: set[str]
) -> None:
    # the layers are conv, norm, act, pool; conv, norm, act, pool: the last 7 begin at a norm
    recipe = recipes.parse_recipe(
        TINY + f"[[phases]]\nopen={opened!r}", "x", ["training.weight_decay=1"]
    )
    train(blobs, recipe, tmp_path / "run")
    torch.manual_seed(recipe.training.seed)
    before = create_network(recipe.model, recipe.input, 3).network.state_dict()
    now = weights(tmp_path / "run")
    moved = {key for key in before if not torch.equal(before[key], now[key])}
    assert "head.fc.weight" in moved
    backbone = {key.split(".")[1] for key in moved if key.startswith("backbone.")}
    assert {name.split("_")[0] for name in backbone} == moves
    if opened == 7:
        assert "0_conv" not in backbone


@pytest.mark.parametrize("count", [1, 2, 5, 20])
def test_the_last_layers_are_opened(count: int) -> None:
    network = small()
    open_layers(network, Phase(open=count))
    layers = layers_of(network)
    opened = [any(p.requires_grad for p in m.parameters(recurse=False)) for m in layers]
    has = [next(m.parameters(recurse=False), None) is not None for m in layers]
    assert opened == [n >= len(layers) - count and has[n] for n in range(len(layers))]
    assert all(p.requires_grad for p in network.head.parameters())  # type: ignore[union-attr]


def rates(epochs: int, gains: list[bool] | None = None, **what: object) -> list[float]:
    """The rate of each of 4 steps an epoch."""
    network = nn.Linear(2, 2)
    settings = TrainingSettings.model_validate({"lr": 0.8, "epochs": epochs} | what)
    rate = Rate(torch.optim.SGD(network.parameters(), 0.8), settings, 4)
    return [rate.set(step, (gains or [])[: step // 4]) for step in range(4 * epochs)]


def test_a_constant_rate_and_a_warmup() -> None:
    assert rates(2, schedule="constant") == pytest.approx([0.8] * 8)
    warm = rates(3, schedule="constant", warmup=1)
    assert warm == pytest.approx([0, 0.2, 0.4, 0.6] + [0.8] * 8)


def test_a_cosine_falls_to_zero() -> None:
    expected = [0.4 * (1 + math.cos(math.pi * step / 12)) for step in range(12)]
    assert rates(3, schedule="cosine") == pytest.approx(expected)


def test_a_cosine_of_one_step_is_the_rate_without_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings = TrainingSettings(lr=0.8, epochs=1, schedule="cosine")
    rate = Rate(torch.optim.SGD(nn.Linear(2, 2).parameters(), 0.8), settings, 1)
    assert rate.set(0, []) == pytest.approx(0.8)
    assert caplog.records == []


@given(st.integers(2, 9), st.sampled_from([0.25, 0.5, 1, 1.5]))
def test_a_warmup_rises_evenly_and_the_cosine_falls_over_the_rest(
    epochs: int, warmup: float
) -> None:
    rise, total = round(4 * warmup), 4 * epochs
    expected = [0.8 * step / rise for step in range(rise)]
    expected += [
        0.4 * (1 + math.cos(math.pi * step / (total - rise))) for step in range(total - rise)
    ]
    assert rates(epochs, schedule="cosine", warmup=warmup) == pytest.approx(expected)


def test_a_step_falls_by_its_factor() -> None:
    found = rates(5, schedule="step", wait=2, factor=0.5)
    assert found[::4] == pytest.approx([0.8, 0.8, 0.4, 0.4, 0.2])


@given(st.lists(st.booleans(), min_size=1, max_size=20), st.integers(1, 4))
def test_a_plateau_is_torchs_one_epoch_earlier(gains: list[bool], wait: int) -> None:
    gains = [True, *gains]  # the first epoch always is one
    optimiser = torch.optim.SGD(nn.Linear(2, 2).parameters(), 0.8)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimiser, factor=0.5, patience=wait - 1, mode="max", threshold=0
    )
    expected, best = [], 0.0
    for gained in gains:
        expected.append(optimiser.param_groups[0]["lr"])
        best += gained
        theirs.step(best if gained else best - 0.5)
    found = rates(len(gains), gains, schedule="plateau", wait=wait, factor=0.5)
    assert found[::4] == pytest.approx(expected)


def keras_epochs(gains: list[bool], patience: int) -> list[int]:
    """After which epochs Keras' callbacks act, as its documentation has it: they count the epochs
    without improvement and act when there are `patience` of them."""
    found, without = [], 0
    for epoch, gained in enumerate(gains):
        without = 0 if gained else without + 1
        if without >= patience:
            found.append(epoch)
            without = 0
    return found


@given(st.lists(st.booleans(), min_size=1, max_size=20), st.integers(1, 4))
def test_wait_and_patience_count_alike_and_as_keras_does(gains: list[bool], epochs: int) -> None:
    gains = [True, *gains]
    acts = keras_epochs(gains, epochs)
    found = rates(len(gains) + 1, gains, schedule="plateau", wait=epochs, factor=0.5)
    assert found[-4] == pytest.approx(0.8 * 0.5 ** len(acts))
    first = next((n for n in range(len(gains)) if is_out_of_patience(gains[: n + 1], epochs)), None)
    assert first == (acts[0] if acts else None)


def test_the_backbone_may_learn_slower_than_the_head() -> None:
    network = small()
    optimiser = make_optimiser(
        network, TrainingSettings(lr=0.1, backbone_lr=0.01, weight_decay=0.3), []
    )
    found = {
        id(p): (g["lr"], g["weight_decay"]) for g in optimiser.param_groups for p in g["params"]
    }
    head, stem = network.head.fc, network.backbone.conv_stem  # type: ignore[union-attr]
    assert found[id(head.weight)] == pytest.approx((0.1, 0.3))
    assert found[id(head.bias)] == pytest.approx((0.1, 0.0))
    assert found[id(stem.weight)] == pytest.approx((0.001, 0.3))
    assert len(found) == len(list(network.parameters()))


@pytest.mark.parametrize(
    ("name", "said"), [("adamx", "no optimiser 'adamx'"), ("adahessian", "second derivatives")]
)
def test_an_optimiser_that_cannot_be_used_is_said(name: str, said: str) -> None:
    with pytest.raises(RecipeError, match=rf"training\.optimiser: .*{said}"):
        make_optimiser(small(), TrainingSettings(optimiser=name), [])


def test_a_loss_that_becomes_nan_stops_and_the_best_is_kept(blobs: Path, tmp_path: Path) -> None:
    # the second phase alone diverges
    recipe = two_phases("phases.1.lr=1e35", "phases.1.open=all", "phases.1.optimiser=sgd")
    with pytest.raises(ImgretError, match=r"NaN in epoch 3.*epoch [12] are kept.*training\.lr"):
        train(blobs, recipe, tmp_path / "run")
    run = Run.read(tmp_path / "run")
    assert "not a number" in run.facts.ended
    assert run.facts.best_epoch in (1, 2)
    assert all(torch.isfinite(v).all() for v in weights(tmp_path / "run").values())


@pytest.mark.parametrize("monitor", ["accuracy", "loss"])
def test_weights_that_give_no_numbers_are_never_the_best(
    blobs: Path, tmp_path: Path, monitor: str
) -> None:
    # one step an epoch: the loss of training is still a number, that of validation is not
    recipe = tiny("training.lr=1e35", "training.optimiser=sgd", "training.batch=30",
                  "training.epochs=1", f"training.monitor={monitor}")  # fmt: skip
    with pytest.raises(
        ImgretError, match=r"NaN in epoch 1, so training stopped\. Set a lower training"
    ):
        train(blobs, recipe, tmp_path / "run")
    assert not (tmp_path / "run" / "model.safetensors").exists()
    with pytest.raises(ImgretError, match="has ended: the loss was not a number in epoch 1"):
        train(blobs, recipe, tmp_path / "run", resume=True)


def test_an_optimiser_that_timm_lacks_is_refused_before_anything_is_written(
    blobs: Path, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=r"training\.optimiser"):
        train(blobs, tiny("training.optimiser=nothing"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("training.optimiser=foo", "timm has no optimiser 'foo'"),
        ("training.optimiser=lbfgs", "timm has no optimiser 'lbfgs'"),
        ("training.optimiser=adahessian", "second derivatives"),
        ("training.optimiser=fusedadam", r"fusedadam cannot be used here \(.+\)"),
        ("training.optimiser=kron", r"kron cannot be used here \(a run cannot save its state\)"),
        ("phases.1.optimiser=foo", "timm has no optimiser 'foo'"),
        ("loss.class_weights.purple=2", "the data has no class 'purple'"),
    ],
)
def test_what_cannot_be_used_is_refused_before_an_image_is_read(
    blobs: Path, tmp_path: Path, key: str, said: str
) -> None:
    read: list[tuple[str, int, int]] = []
    with pytest.raises(RecipeError, match=rf"{said}.*\. (Use|Correct) .*\.$"):
        train(blobs, two_phases(key), tmp_path / "run", progress=lambda *how: read.append(how))
    assert not read
    assert not (tmp_path / "run").exists()


def test_looking_at_an_optimiser_changes_no_chance() -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    check_optimisers(tiny("training.optimiser=lookahead_adam"))
    assert torch.equal(torch.rand(4), expected)


def test_a_run_that_is_there_is_not_written_over(run: Path, blobs: Path) -> None:
    before = (run / "model.safetensors").read_bytes()
    with pytest.raises(ImgretError, match="already holds a run"):
        train(blobs, tiny(), run)
    again = train(blobs, tiny(), run, resume=True)
    assert again.run.facts == Run.read(run).facts
    assert again.best is not None
    assert again.best.epoch == again.run.facts.best_epoch
    assert (run / "model.safetensors").read_bytes() == before


@pytest.fixture
def stopped(blobs: Path, tmp_path: Path) -> Path:
    """A run that was interrupted in its second epoch."""
    train(blobs, tiny(), tmp_path / "run", should_stop=after(5))
    return tmp_path / "run"


def test_a_file_that_changed_is_refused_when_a_run_goes_on(stopped: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(Run.read(stopped).facts.data, copy)
    file = copy / "train" / "red" / "003.png"
    file.write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(ImgretError, match="does not hold the images"):
        train(copy, tiny(), stopped, resume=True)


def test_the_same_images_elsewhere_will_do(stopped: Path, tmp_path: Path) -> None:
    copy = tmp_path / "moved"
    shutil.copytree(Run.read(stopped).facts.data, copy)
    assert train(copy, tiny(), stopped, resume=True).run.facts.ended == "all epochs are done"


def test_other_images_are_refused_when_a_run_goes_on(stopped: Path, tmp_path: Path) -> None:
    save_blobs(tmp_path / "other" / "train", 12, first=40)
    with pytest.raises(ImgretError, match="does not hold the images"):
        train(tmp_path / "other", tiny(), stopped, resume=True)


@pytest.mark.parametrize("damage", ["cut", "other", "text", "facts"])
def test_a_damaged_state_is_one_sentence(stopped: Path, blobs: Path, damage: str) -> None:
    file = stopped / "last.safetensors"
    content = file.read_bytes()
    if damage == "cut":
        file.write_bytes(content[: len(content) // 2])
    elif damage == "other":
        shutil.copy(stopped / "model.safetensors", file)
    elif damage == "text":
        file.write_text("no tensors")
    else:
        file.write_bytes(content.replace(b"gains", b"gainz"))
    with pytest.raises(ImgretError, match=r"last\.safetensors cannot be resumed"):
        train(blobs, tiny(), stopped, resume=True)


def test_a_run_of_another_format_is_refused(stopped: Path, blobs: Path) -> None:
    facts = json.loads((stopped / "run.json").read_text())
    (stopped / "run.json").write_text(json.dumps(facts | {"format": 99}))
    with pytest.raises(ImgretError, match="run format 99"):
        train(blobs, tiny(), stopped, resume=True)
    (stopped / "run.json").write_text(json.dumps({"format": RUN_FORMAT}))
    with pytest.raises(ImgretError, match=r"run\.json is damaged"):
        Run.read(stopped)


@pytest.mark.parametrize("line", ["{", "[]", '{"epoch": 1}', "[" * 100_000, "\xff"])
def test_a_damaged_history_is_told_with_its_line(run: Path, tmp_path: Path, line: str) -> None:
    copy = shutil.copytree(run, tmp_path / "copy")
    history = copy / "history.jsonl"
    history.write_bytes(history.read_bytes() + line.encode("latin-1") + b"\n")
    lines = len(history.read_bytes().splitlines())
    with pytest.raises(
        ImgretError, match=rf"history\.jsonl is damaged in line {lines}\. Train again"
    ):
        _ = Run.read(copy).history


def test_bad_images_are_left_out_and_named(tmp_path: Path) -> None:
    save_blobs(tmp_path / "data", 6)
    (tmp_path / "data" / "red" / "bad.png").write_bytes(b"no image")
    trained = train(tmp_path / "data", tiny("training.epochs=1"), tmp_path / "run")
    assert [path.name for path, _ in trained.failed] == ["bad.png"]
    assert trained.run.facts.failed == 1
    assert trained.run.facts.trained_on + trained.run.facts.validated_on == 18


def test_without_validation_images_the_last_weights_are_kept(tmp_path: Path) -> None:
    save_blobs(tmp_path / "data", 6)
    trained = train(tmp_path / "data", tiny("data.validation=0"), tmp_path / "run")
    assert trained.run.facts.best_epoch == 3
    assert trained.history[-1].validation_loss is None


def test_the_penalty_on_dense_weights_shrinks_them(blobs: Path, tmp_path: Path) -> None:
    norms = []
    for name, l2 in (("free", 0.0), ("held", 0.05)):
        train(blobs, tiny(f"model.head.l2={l2}", "data.validation=0"), tmp_path / name)
        norms.append(float(weights(tmp_path / name)["head.steps.0.weight"].norm()))
    assert norms[1] < 0.9 * norms[0]


@pytest.mark.long
def test_a_full_disk_is_one_sentence(blobs: Path, tmp_path: Path) -> None:
    code = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from classify.training import train\n"
        "from tests.classify.blobs import tiny\n"
        "from retrieval.errors import ImgretError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        f"try: train(Path({str(blobs)!r}), tiny(), Path({str(tmp_path / 'run')!r}))\n"
        "except ImgretError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "cannot be written" in done.stdout
    assert "--resume" in done.stdout


def test_two_processes_do_not_train_one_run(blobs: Path, tmp_path: Path) -> None:
    out, recipe = tmp_path / "run", tiny("training.epochs=2")
    out.mkdir()
    with only_trainer(out), pytest.raises(RunError, match=r"run is being trained by another"):
        train(blobs, recipe, out)
    stops = iter([False, True])
    train(blobs, recipe, out, should_stop=lambda: next(stops, True))
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    with only_trainer(out), pytest.raises(RunError, match=r"Wait until it is done or stop it"):
        train(blobs, recipe, out, resume=True)
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before
    assert train(blobs, recipe, out, resume=True).run.facts.ended == "all epochs are done"

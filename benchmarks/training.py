"""The training loop against a bare forward and backward loop over ready tensors."""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.photographs import unpacked
from benchmarks.table import Table
from classify.augmentation import Augmenter, kept_side
from classify.data import decode_all, find_labelled
from classify.models import create_network
from classify.recipe import Recipe, read_recipe
from classify.run import Epoch
from classify.training.loop import Loop
from classify.training.optimiser import make_optimiser
from classify.training.precision import autocast
from classify.training.preparation import supervised_loop
from retrieval.encoder import keep_freed_memory
from retrieval.images import Preprocessing

RECIPES = ["parts/cnn", "cars/best", "cifar10/resnet-20", "cifar10/cnn-augmented"]
STEPS, ROUNDS = 6, 5


def measure(*, quick: bool) -> list[Table]:
    """Images a second, in rounds by turns; the bare loop has the same malloc and precision."""
    table = Table(
        "Training",
        "Images a second of `imgret train` with its augmentation, and of a bare loop (forward, "
        "loss, backward, optimiser) over one batch that is ready in memory. Each is the median of "
        f"{ROUNDS} rounds of {STEPS} steps by turns. The last column: what a bare loop gains from "
        "bfloat16; networks with depthwise convolutions use float32.",
        ["recipe", "size", "batch", "ours", "bare", "ours / bare", "bf16 / float32"],
        [],
    )
    for name in RECIPES[2:3] if quick else RECIPES:
        table.rows.append(_row(name, read_recipe(name, ["model.weights=random"])))
    return [table]


def _row(name: str, recipe: Recipe) -> list[str]:
    images = find_labelled(unpacked(recipe.data.name) / "test")
    batch = recipe.training.batch
    created = create_network(recipe.model, recipe.input, len(images.classes))
    size = created.preprocessing.size
    side = kept_side(recipe.augmentation, size)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0)).numpy()
    chosen = images.subset(order[: min(len(images), STEPS * batch)])
    while len(chosen) < STEPS * batch:
        chosen = chosen.subset(torch.arange(STEPS * batch).numpy() % len(chosen))
    kept = Preprocessing(size=side, mean=created.preprocessing.mean, std=created.preprocessing.std)
    pixels = decode_all(chosen, kept)
    nothing = decode_all(images.subset(order[:0]), kept)
    phase = recipe.phases[-1].model_copy(update={"epochs": ROUNDS + 1, "patience": 0})
    recipe = recipe.model_copy(update={"phases": (phase,)})
    augmenter = Augmenter(recipe.augmentation, created.preprocessing)
    keep_freed_memory()
    ours, bare, halves, plain = [], [], [], []
    with tempfile.TemporaryDirectory() as folder:
        loop = supervised_loop(recipe, created, pixels, nothing, Path(folder))
        ready = augmenter(pixels.pixels[:batch], 0, loop.device)
        labels = torch.from_numpy(pixels.images.labels[:batch]).to(loop.device)
        used = autocast(loop.network, loop.device)
        bf16 = torch.autocast(loop.device.type, torch.bfloat16)

        def by_turns(epoch: Epoch) -> None:
            ours.append(epoch.images_per_second)
            bare.append(_bare(loop, recipe, ready, labels, used))
            halves.append(_bare(loop, recipe, ready, labels, bf16))
            plain.append(_bare(loop, recipe, ready, labels, contextlib.nullcontext()))

        loop.run(
            [],
            on_best=lambda _: None,
            on_epoch=by_turns,
            restore_best=lambda _: None,
            should_stop=lambda: False,
        )
    ratio = statistics.median(a / b for a, b in zip(ours[1:], bare[1:], strict=True))
    gain = statistics.median(a / b for a, b in zip(halves[1:], plain[1:], strict=True))
    speeds = [f"{statistics.median(values[1:]):,.0f}" for values in (ours, bare)]
    return [name, str(size), str(batch), *speeds, f"{ratio:.2f}", f"{gain:.2f}"]


def _bare(
    loop: Loop,
    recipe: Recipe,
    x: torch.Tensor,
    labels: torch.Tensor,
    precision: AbstractContextManager[Any],
) -> float:
    optimiser = make_optimiser(loop.network, recipe.settings(0), [])
    loop.network.train()
    began = time.perf_counter()
    for _ in range(STEPS):
        with precision:
            scores = loop.network(x)
        loss = nn.functional.cross_entropy(scores.float(), labels)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
    float(loss.detach())
    return STEPS * len(x) / (time.perf_counter() - began)

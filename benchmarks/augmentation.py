"""Our augmentation beside kornia's and torchvision v2's: pictures a second, and accuracy.

`python -m benchmarks augmentation` measures speed. `python -m benchmarks.augmentation` trains
recipes with each of them by turns, on a share of the pictures and for a few epochs. kornia and
torchvision are no packages of ours: what is not installed is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.photographs import ROOT, unpacked
from benchmarks.table import Table, machine
from classify.augmentation import Augmenter
from classify.data import Pixels, decode_all, find_labelled
from classify.models import create_network
from classify.recipe import Augmentation, Recipe, read_recipe
from classify.run import Epoch
from classify.training.objective import Supervised
from classify.training.preparation import supervised_loop
from classify.training.validation import validate_labels
from retrieval.encoder import keep_freed_memory
from retrieval.images import Preprocessing

RECIPES = ("cifar10/cnn-augmented", "cifar10/resnet-20")
SETTINGS = {
    "T14: flip, translation": Augmentation(flip=0.5, translation=0.125, fill="zeros"),
    "T2: and erasing": Augmentation(flip=0.5, translation=0.125, fill="zeros", erase=0.25),
    "flip, rotation, translation, zoom": Augmentation(
        flip=0.5, rotation=15, translation=0.1, zoom=0.2, fill="zeros"
    ),
    "colours": Augmentation(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.05),
}
SHAPES = ((128, 32), (32, 128))  # pictures, side
ROUNDS, SECONDS, QUICK_SECONDS = 5, 1.0, 0.05  # of CPU time, each
BLOCKING = {"OMP_WAIT_POLICY": "passive"}  # else a thread that waits counts as one that works
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Augment = Callable[[np.ndarray, int], torch.Tensor]  # pixels and a seed -> (n, 3, size, size)


def measure(*, quick: bool) -> list[Table]:
    """Pictures a second of CPU time, with one thread and with two, each in its own process."""
    seconds = QUICK_SECONDS if quick else SECONDS
    table = Table(
        "Augmentation",
        "Thousands of pictures in a second of CPU time, from (n, side, side, 3) uint8 to "
        "normalised float32, with one thread of torch and with two. Each figure is the median of "
        f"{ROUNDS} rounds of {seconds} s by turns. CPU time is that of all threads; threads block "
        "while they wait. Since torchvision draws once a call, it is called once a picture; kornia "
        "and ours are called once a batch.",
        [
            "augmentation",
            "side",
            "batch",
            *LIBRARIES,
            *(f"{name}, 2 threads" for name in LIBRARIES),
        ],
    )
    most = 1 if quick else None
    for name in list(SETTINGS)[:most]:
        for n, side in SHAPES[:most]:
            speeds = [cell for count in (1, 2) for cell in _run(name, n, side, count, seconds)]
            table.add(name, str(side), str(n), *speeds)
    return [table]


def _run(name: str, n: int, side: int, threads: int, seconds: float) -> list[str]:
    """The cells of _speeds() in a process whose threads block; that is settled when torch loads."""
    asked = json.dumps([name, n, side, threads, seconds])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "benchmarks.augmentation", "--speeds", asked],
        env=os.environ | BLOCKING, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    cells: list[str] = json.loads(done.stdout.splitlines()[-1])
    return cells


def _speeds(name: str, n: int, side: int, threads: int, seconds: float) -> list[str]:
    """Thousands of pictures a second of CPU time of each library, or "-" where it is not here."""
    keep_freed_memory()
    torch.set_num_threads(threads)
    asked = SETTINGS[name]
    pixels = np.random.default_rng(0).integers(0, 256, (n, side, side, 3), np.uint8)
    preprocessing = Preprocessing(side, MEAN, STD)
    made = {name: make(asked, preprocessing) for name, make in LIBRARIES.items() if _is_here(name)}
    found: dict[str, list[float]] = {name: [] for name in made}
    for turn in range(ROUNDS + 1):
        for name, augment in made.items():
            began, done = time.process_time(), 0
            while time.process_time() - began < seconds:
                augment(pixels, done)
                done += n
            if turn:  # the first warms up
                found[name].append(done / (time.process_time() - began) / 1000)
    return [f"{statistics.median(found[n]):.3g}" if n in found else "-" for n in LIBRARIES]


def _ours(asked: Augmentation, preprocessing: Preprocessing) -> Augment:
    augmenter = Augmenter(asked, preprocessing)
    return lambda pixels, seed: augmenter(pixels, seed, torch.device("cpu"))


def _kornia(asked: Augmentation, preprocessing: Preprocessing) -> Augment:
    from kornia import augmentation as k

    a, size = asked, preprocessing.size
    steps: list[nn.Module] = [k.RandomHorizontalFlip(p=a.flip)] if a.flip else []
    if a.rotation:
        moved, zoomed = (a.translation, a.translation), (1 - a.zoom, 1 + a.zoom)
        steps.append(k.RandomAffine(a.rotation, translate=moved, scale=zoomed, p=1.0))
    elif a.translation:
        steps.append(k.RandomCrop((size, size), padding=round(a.translation * size), p=1.0))
    if a.brightness:
        steps.append(k.ColorJitter(a.brightness, a.contrast, a.saturation, a.hue, p=1.0))
    steps.append(k.Normalize(torch.tensor(preprocessing.mean), torch.tensor(preprocessing.std)))
    if a.erase:
        steps.append(k.RandomErasing(p=a.erase, scale=(0.02, 1 / 3), ratio=(0.3, 1 / 0.3)))
    chain = nn.Sequential(*steps)

    def augment(pixels: np.ndarray, seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        x = chain(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255)
        return x.contiguous(memory_format=torch.channels_last)

    return augment


def _torchvision(asked: Augmentation, preprocessing: Preprocessing) -> Augment:
    from torchvision.transforms import v2

    a, size = asked, preprocessing.size
    steps: list[nn.Module] = [v2.RandomHorizontalFlip(p=a.flip)] if a.flip else []
    if a.rotation:
        moved, zoomed = (a.translation, a.translation), (1 - a.zoom, 1 + a.zoom)
        bilinear = v2.InterpolationMode.BILINEAR
        steps.append(v2.RandomAffine(a.rotation, moved, zoomed, interpolation=bilinear))
    elif a.translation:
        steps.append(v2.RandomCrop(size, padding=round(a.translation * size)))
    if a.brightness:
        steps.append(v2.ColorJitter(a.brightness, a.contrast, a.saturation, a.hue))
    steps.append(v2.ToDtype(torch.float32, scale=True))
    steps.append(v2.Normalize(list(preprocessing.mean), list(preprocessing.std)))
    if a.erase:
        steps.append(v2.RandomErasing(p=a.erase, scale=(0.02, 1 / 3), ratio=(0.3, 1 / 0.3)))
    chain = v2.Compose(steps)

    def augment(pixels: np.ndarray, seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        x = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        return torch.stack([chain(one) for one in x]).contiguous(memory_format=torch.channels_last)

    return augment


LIBRARIES: dict[str, Callable[[Augmentation, Preprocessing], Augment]] = {
    "ours": _ours,
    "kornia": _kornia,
    "torchvision": _torchvision,
}


def _is_here(library: str) -> bool:
    return library == "ours" or find_spec(library) is not None


class _Replaced(Augmenter):
    """Pictures of another library, where the loop asks ours."""

    def __init__(self, augment: Augment, asked: Augmentation, size: Preprocessing) -> None:
        super().__init__(asked, size)
        self._augment = augment

    def __call__(self, pixels: np.ndarray, seed: int, device: torch.device) -> torch.Tensor:
        state = torch.get_rng_state()
        x = self._augment(pixels, seed)
        torch.set_rng_state(state)  # dropout draws the same beside every library
        return x.to(device)


def train_by_turns(fraction: float, epochs: int, seeds: int) -> Table:
    """Test accuracy of each recipe with each library's augmentation, for every seed in turn."""
    keep_freed_memory()
    table = Table(
        "Accuracy by augmentation",
        f"Accuracy on the 10,000 test pictures of CIFAR-10 after {epochs} epochs on {fraction:g} "
        f"of the training pictures: mean of {seeds} seeds (least to most).",
        ["recipe", *LIBRARIES],
    )
    for name in RECIPES:
        found: dict[str, list[float]] = {library: [] for library in LIBRARIES if _is_here(library)}
        for seed in range(seeds):
            overrides = [f"training.seed={seed}", f"training.epochs={epochs}"]
            recipe = read_recipe(name, overrides)
            train, test = _pixels(recipe, fraction, seed)
            for library, accuracies in found.items():
                accuracies.append(_accuracy(recipe, library, train, test))
                print(f"{name} seed {seed} {library}: {accuracies[-1]:.4f}", file=sys.stderr)
        table.add(name, *(_spread(found.get(library)) for library in LIBRARIES))
    return table


def _spread(found: list[float] | None) -> str:
    if not found:
        return "-"
    return f"{statistics.mean(found):.3f} ({min(found):.3f} to {max(found):.3f})"


def _pixels(recipe: Recipe, fraction: float, seed: int) -> tuple[Pixels, Pixels]:
    folder, size = unpacked(recipe.data.name), Preprocessing(recipe.input.size or 32, MEAN, STD)
    images = find_labelled(folder / "train")
    order = np.random.default_rng(seed).permutation(len(images))
    chosen = images.subset(np.sort(order[: round(fraction * len(images))]))
    return decode_all(chosen, size), decode_all(find_labelled(folder / "test"), size)


def _accuracy(recipe: Recipe, library: str, train: Pixels, test: Pixels) -> float:
    torch.manual_seed(recipe.training.seed)
    created = create_network(recipe.model, recipe.input, len(train.images.classes))
    none = replace(test, pixels=test.pixels[:0], images=test.images.subset(np.arange(0)))
    asked, judged = recipe.augmentation, list[nn.Module]()
    with tempfile.TemporaryDirectory() as folder:
        loop = supervised_loop(recipe, created, train, none, Path(folder))
        if not isinstance(loop.objective, Supervised):
            raise TypeError("a recipe of labels is needed")
        augment = LIBRARIES[library](asked, created.preprocessing)
        loop.objective.augmenter = _Replaced(augment, asked, created.preprocessing)
        history: list[Epoch] = []
        loop.run(
            history,
            on_best=lambda network: judged.__setitem__(slice(None), [network]),
            on_epoch=lambda _: None,
            restore_best=lambda _: None,
            should_stop=lambda: False,
        )
        found = validate_labels(judged[0], test, loop.augmenter)
    return found.accuracy if found is not None else float("nan")


def main() -> int:
    """Train by turns and print the table, or the speeds of one row."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.augmentation")
    parser.add_argument("--fraction", type=float, default=1.0, help="of the training pictures")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--speeds", type=json.loads, help=argparse.SUPPRESS)  # by _run()
    arguments = parser.parse_args()
    if arguments.speeds:
        print(json.dumps(_speeds(*arguments.speeds)))
        return 0
    print(f"{machine()}.\n")
    print(train_by_turns(arguments.fraction, arguments.epochs, arguments.seeds).markdown())
    return 0


if __name__ == "__main__":
    sys.exit(main())

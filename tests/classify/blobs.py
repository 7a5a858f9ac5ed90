"""Labelled pictures that a tiny network learns in seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from classify import recipe as recipes
from classify.recipe import Recipe

CLASSES = {"blue": (40, 60, 220), "green": (40, 200, 60), "red": (220, 50, 40)}
TINY = """
title = "tiny"
[input]
size = 16
[augmentation]
flip = 0.5
translation = 0.1
[model]
backbone = "cnn"
layers = [8, "pool", 16, "dropout:0.1", "pool"]
[model.head]
pool = "avg"
dense = [12]
dropout = 0.1
[training]
batch = 8
epochs = 3
lr = 1e-2
optimiser = "adam"
schedule = "constant"
"""


def blob(colour: tuple[int, int, int], seed: int, side: int = 24) -> Image.Image:
    """A coloured disc anywhere on grey noise."""
    random = np.random.default_rng(seed)
    pixels = random.integers(90, 150, (side, side, 3))
    x, y = random.integers(side // 4, 3 * side // 4, 2)
    rows, columns = np.mgrid[:side, :side]
    pixels[(columns - x) ** 2 + (rows - y) ** 2 < (side // 5) ** 2] = colour
    return Image.fromarray(pixels.astype(np.uint8))


def save_blobs(folder: Path, each: int = 12, first: int = 0) -> Path:
    """folder/<colour>/<n>.png."""
    for place, (name, colour) in enumerate(CLASSES.items()):
        (folder / name).mkdir(parents=True)
        for n in range(first, first + each):
            blob(colour, 1000 * place + n).save(folder / name / f"{n:03}.png")
    return folder


def tiny(*overrides: str) -> Recipe:
    """A recipe that trains in a second."""
    return recipes.parse_recipe(TINY, "tiny.toml", overrides)

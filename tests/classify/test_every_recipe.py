"""Every recipe of ours trains, an epoch of each phase, from random weights on a few images."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from classify import recipe as recipes
from classify.training import train


@pytest.fixture(scope="module")
def animals(blobs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the names of classes that a recipe weights."""
    folder = tmp_path_factory.mktemp("animals")
    for colour, animal in {"blue": "bird", "green": "cat", "red": "dog"}.items():
        shutil.copytree(blobs / "train" / colour, folder / "train" / animal)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", recipes.recipe_names())
def test_every_recipe_of_ours_starts(name: str, animals: Path, tmp_path: Path) -> None:
    overrides = ["model.weights=random", "training.epochs=1", "training.batch=8"]
    if recipes.read_recipe(name).distillation is not None:
        overrides.append("distillation.teacher=random:mobilenetv2_100")
    recipe = recipes.read_recipe(name, overrides)
    trained = train(animals, recipe, tmp_path / "run")
    assert not trained.failed
    epochs = (tmp_path / "run" / "history.jsonl").read_text().splitlines()
    assert len(epochs) == max(1, len(recipe.phases))
    assert json.loads(epochs[-1])["loss"] > 0

"""The default recipe for data."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from classify import recipe as recipes
from classify.data import ClassFolders, find_labelled, find_layout
from classify.recipe import Recipe
from retrieval.backbones import is_known, parse_name
from retrieval.errors import ImageError, RecipeError
from retrieval.images import open_image
from retrieval.suggestion import did_you_mean

WEIGHTS = ("pretrained", "random")
LOOKED_AT, SMALL_SIDE, MANY_IMAGES = 16, 64, 5000  # images, pixels, images


def default_recipe(folder: Path, how: ClassFolders = "auto") -> str:
    """Name a recipe of the package that fits the pictures' size and number.

    Raises DataError where the folder has no labelled images.
    """
    images = find_labelled(find_layout(folder, how).train, how)
    sides = []
    for place in np.linspace(0, len(images) - 1, LOOKED_AT).astype(int):
        try:
            _, width, height = open_image(images.files[place].path)
            sides.append(max(width, height))
        except ImageError:
            continue
    if sides and np.median(sides) <= SMALL_SIDE:
        return "default/tiny-pictures"
    return "default/many-images" if len(images) >= MANY_IMAGES else "default/few-images"


def recipe_with_weights(recipe: Recipe, weights: str | None) -> Recipe:
    """Set the backbone's weights of a recipe: a folder, "pretrained" or "random".

    Raises RecipeError where there is no such folder.
    """
    if weights is None:
        return recipe
    if weights not in WEIGHTS and not Path(weights).expanduser().is_dir():
        name = parse_name(weights)
        if name.folder is not None or not is_known(name):
            raise RecipeError(
                f"There is no folder {weights} for --weights. "
                f"{did_you_mean(weights, WEIGHTS)}Give a folder with model.safetensors, "
                "pretrained or random."
            )
    document = recipe.model_dump(mode="json", exclude_none=True)
    document["model"]["weights"] = weights
    return recipes.check(document, "--weights")

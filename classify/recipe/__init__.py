"""Recipes: a named, declarative experiment as TOML, ours in classify/recipes/ and a user's own.

schema.py    what a recipe may say
files.py     files of TOML, ours and a user's, -> Recipe, and back
"""

from classify.recipe.files import (
    check,
    parse_recipe,
    read_recipe,
    recipe_as_toml,
    recipe_names,
    with_overrides,
)
from classify.recipe.schema import (
    Augmentation,
    DataSettings,
    Distillation,
    Head,
    Input,
    Loss,
    MetricLearning,
    ModelSpec,
    Phase,
    Recipe,
    StatedFigures,
    Training,
    TrainingSettings,
)

__all__ = [
    "Augmentation",
    "DataSettings",
    "Distillation",
    "Head",
    "Input",
    "Loss",
    "MetricLearning",
    "ModelSpec",
    "Phase",
    "Recipe",
    "StatedFigures",
    "Training",
    "TrainingSettings",
    "check",
    "parse_recipe",
    "read_recipe",
    "recipe_as_toml",
    "recipe_names",
    "with_overrides",
]

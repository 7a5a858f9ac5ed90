"""Recipes: a named, declarative experiment as TOML, ours in classify/recipes/ and a user's own.

schema.py    what a recipe may say
reading.py   files of TOML, ours and a user's, -> Recipe, and back
"""

from classify.recipe.reading import as_toml, check, names, parse, read, with_overrides
from classify.recipe.schema import (
    Augmentation,
    Data,
    Distillation,
    Figures,
    Head,
    Input,
    Loss,
    Metric,
    ModelSpec,
    Phase,
    Recipe,
    Settings,
    Training,
)

__all__ = [
    "Augmentation",
    "Data",
    "Distillation",
    "Figures",
    "Head",
    "Input",
    "Loss",
    "Metric",
    "ModelSpec",
    "Phase",
    "Recipe",
    "Settings",
    "Training",
    "as_toml",
    "check",
    "names",
    "parse",
    "read",
    "with_overrides",
]

"""Recipes of the package and files of a user's own -> Recipe, and back."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any

import tomli_w
from pydantic import ValidationError

from classify.recipe.schema import Recipe
from retrieval.arguments import as_name, as_texts
from retrieval.errors import RecipeError, first_fault
from retrieval.recipe_files import SUFFIX, document_of, faulty, text_of


@cache
def _known() -> dict[str, Traversable]:
    found = {}
    root = resources.files("classify") / "recipes"
    for folder in sorted(root.iterdir(), key=lambda f: f.name):
        if folder.is_dir():
            for file in sorted(folder.iterdir(), key=lambda f: f.name):
                if file.name.endswith(SUFFIX):
                    found[f"{folder.name}/{file.name.removesuffix(SUFFIX)}"] = file
    return found


def recipe_names() -> list[str]:
    """List the recipes of the package."""
    return list(_known())


def read_recipe(name: str, overrides: str | Sequence[str] = ()) -> Recipe:
    """Read a recipe of the package by its name or the row it reproduces, or a user's file.

    overrides: one KEY=VALUE or several, see with_overrides(). Raises RecipeError, naming file and
    key, and ArgumentError for what is no name or no text.
    """
    name = as_name("name", name)
    return parse_recipe(_text(name), name, as_texts("overrides", overrides))


def _text(name: str) -> str:
    known, rows = _known(), set[str]()
    if name in known:
        return known[name].read_text("utf-8")
    for file in known.values():
        text = file.read_text("utf-8")
        of_file = str(tomllib.loads(text).get("reproduces", "")).partition(":")[0].split(", ")
        if name and name in of_file:
            return text
        rows.update(filter(None, of_file))
    from retrieval.comparison.recipes import experiment_names

    if name in experiment_names():
        raise RecipeError(
            f"{name} is an experiment of retrieval, not a recipe to train by. Give it to "
            "`imgret index` or `imgret compare`."
        )
    instead = "Give one that `imgret recipes` lists, or the path of a TOML file."
    return text_of(name, instead, [*known, *rows, *experiment_names()])


def parse_recipe(text: str, source: str, overrides: Sequence[str] = ()) -> Recipe:
    """Parse a recipe from TOML. Raises RecipeError, naming source and the key."""
    return check(with_overrides(document_of(text, source), overrides), source, overrides)


def check(document: dict[str, Any], source: str, overrides: Sequence[str] = ()) -> Recipe:
    """Check a recipe from its parsed file. Raises RecipeError, naming source and the key.

    overrides: those in the document already; --set is named where one of them is wrong.
    """
    try:
        return Recipe.model_validate(document)
    except ValidationError as error:
        wrong = first_fault(error)[0]
        keys = [override.partition("=")[0].strip() for override in overrides]
        is_set = any(f"{key}.".startswith(f"{wrong}." * bool(wrong)) for key in keys)
        raise faulty("--set" if is_set else source, error, Recipe) from error


def with_overrides(document: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Replace keys of a parsed recipe: "training.epochs=5", "phases.1.lr=1e-5".

    A value is TOML; what is none is taken as text. A key of training counts for all phases.
    Raises RecipeError for what is no KEY=VALUE, leads nowhere, or gives a key twice.

    >>> with_overrides({"training": {"epochs": 9}}, ["training.epochs=5"])
    {'training': {'epochs': 5}}
    """
    made: dict[str, Any] = tomllib.loads(tomli_w.dumps(document))
    _check_once([override.partition("=")[0].strip() for override in overrides])
    for override in overrides:
        key, equals, value = override.partition("=")
        *way, last = key.strip().split(".")
        if not equals or not last:
            raise RecipeError(
                f"--set {override!r} is not of the form KEY=VALUE. Write it like training.epochs=5."
            )
        if way[:1] == ["phases"]:
            _check_phase(key.strip(), way[1:], made.get("phases"))
        place: Any = made
        for part in way:
            if isinstance(place, list) and part.isdecimal() and int(part) < len(place):
                place = place[int(part)]
            elif isinstance(place, dict):
                place = place.setdefault(part, {})
            else:
                place = None
        if not isinstance(place, dict):
            raise RecipeError(f"--set {key}: a recipe has no such key. Give another key.")
        place[last] = _value(value.strip())
        if way == ["training"]:
            for phase in made.get("phases", []):
                phase.pop(last, None)
    return made


def _check_phase(key: str, way: Sequence[str], phases: Any) -> None:
    """Raise RecipeError for a key of phases that does not begin with the number of one."""
    count = len(phases) if isinstance(phases, list) else 0
    if way and way[0] in map(str, range(count)):
        return
    if not count:
        raise RecipeError(f"--set {key}: the recipe has no phases. Set a key of training instead.")
    raise RecipeError(
        f"--set {key}: the recipe has phases 0 to {count - 1}. Write it like phases.0.lr=1e-5."
    )


def _check_once(keys: Sequence[str]) -> None:
    for key in keys:
        if keys.count(key) > 1:
            raise RecipeError(f"--set {key} was given {keys.count(key)} times. Give it once.")


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"x = {text}")["x"]
    except (ValueError, RecursionError):
        return text


def recipe_as_toml(recipe: Recipe) -> str:
    """Write a recipe as the text of a file, with all settings."""
    return tomli_w.dumps(recipe.model_dump(mode="json", exclude_none=True))

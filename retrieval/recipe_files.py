"""Recipe files: what those of retrieval and of classifiers have in common."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from retrieval.errors import RecipeError, first_fault
from retrieval.files import read_bounded
from retrieval.objects import is_address
from retrieval.suggestion import did_you_mean
from retrieval.text import check_nesting, one_sentence

MAX_RECIPE_BYTES = 1 << 16
SUFFIX = ".toml"


def text_of(name: str, instead: str, known: Iterable[str] = ()) -> str:
    """Read a user's own file. Raises RecipeError.

    instead: what else to give. known: our recipes, of which one may be meant.
    """
    if is_address(name):
        raise RecipeError(f"{name} is an address. Give a recipe's file on this machine.")
    file = Path(name)
    try:
        return read_bounded(file, MAX_RECIPE_BYTES, is_named=True).decode(errors="replace")
    except FileNotFoundError as error:
        meant = did_you_mean(name, known)
        raise RecipeError(f"There is no recipe {name!r}. {meant}{instead}") from error
    except (OSError, ValueError) as error:
        reason = one_sentence(error)
        raise RecipeError(f"{file} cannot be read as a recipe ({reason}). {instead}") from error


def document_of(text: str, source: str) -> dict[str, Any]:
    """Parse a recipe's keys. Raises RecipeError, naming source."""
    try:
        check_nesting(text)
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"{source} is not valid TOML ({error}). Correct it.") from error
    if not document:
        raise RecipeError(f"{source} has no keys. Give a TOML file that sets some.")
    return document


def faulty(source: str, error: ValidationError, recipe: type[BaseModel]) -> RecipeError:
    """Make an error of what pydantic found wrong that names source and the key.

    recipe: what was to be made, whose keys may be meant by one that it has not.
    """
    key, fault = first_fault(error)
    first, meant = error.errors()[0], ""
    if not first["loc"]:  # keys that contradict one another
        return RecipeError(f"{source}: {fault}. Correct one of these keys.")
    if first["type"] == "extra_forbidden":
        *way, last = first["loc"]
        meant = did_you_mean(str(last), _keys_below(recipe, way))
    return RecipeError(f"{source}: {key}: {fault}. {meant}Correct this key.")


def _keys_below(model: type[BaseModel], way: Sequence[str | int]) -> list[str]:
    """List the keys of the table to which a way of keys leads; numbers are places in lists."""
    for part in way:
        field = model.model_fields.get(str(part))
        model = next(_models_in(field.annotation), model) if field else model
    return list(model.model_fields)


def _models_in(annotation: object) -> Iterator[type[BaseModel]]:
    """Go through the models in an annotation such as tuple[Phase, ...] or Head | None."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)

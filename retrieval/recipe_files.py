"""Recipe files: what those of retrieval and of classifiers have in common."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from retrieval.errors import RecipeError, first_fault
from retrieval.files import read_bounded
from retrieval.suggestion import did_you_mean
from retrieval.text import check_nesting, one_sentence

MAX_RECIPE_BYTES = 1 << 16
SUFFIX = ".toml"


def text_of(name: str, instead: str, known: Iterable[str] = ()) -> str:
    """Read a user's own file. Raises RecipeError.

    instead: what else to give. known: our recipes, of which one may be meant.
    """
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
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"{source} is not valid TOML ({error}). Correct it.") from error


def faulty(source: str, error: ValidationError) -> RecipeError:
    """Make an error of what pydantic found wrong that names source and the key."""
    key, fault = first_fault(error)
    return RecipeError(f"{source}: {key}: {fault}. Correct this key.")

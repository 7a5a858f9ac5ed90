"""The experiment that --recipe names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retrieval.errors import RecipeError

if TYPE_CHECKING:
    from retrieval.comparison import NamedExperiment


def find_experiment(name: str) -> NamedExperiment:
    """Read an experiment of retrieval. Raises RecipeError, also for a recipe to train by."""
    from retrieval.comparison.recipes import read_experiment

    try:
        return read_experiment(name)
    except RecipeError as error:
        from classify.recipe import recipe_names

        if name not in recipe_names():
            raise
        raise RecipeError(
            f"{name} is a recipe to train by, not an experiment of retrieval. Give it to "
            "`imgret train`."
        ) from error

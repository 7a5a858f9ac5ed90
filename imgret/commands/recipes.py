"""imgret recipes: the recipes and experiments that come with imgret."""

from __future__ import annotations

from typing import Any

import click

from imgret.command import Command
from imgret.options import format_option


@click.command(
    "recipes",
    cls=Command,
    epilog="""\b
Examples:
  imgret recipes
  imgret recipes cars/best > mine.toml
""",
)
@click.argument("name", required=False)
@format_option("text", "json")
def recipes_command(name: str | None, output: str) -> int:
    """List recipes of classifiers and experiments of retrieval, or print the file of NAME.

    Each row shows the name, the row that it reproduces, data, model and parameters. It ends with
    the figure to beat on the test images, and with ours if it was run in full. That figure is the
    accuracy of a classifier, and the precision@5 of an experiment.
    """
    from imgret.output import print_json, print_table

    if name is not None:
        return _show(name, output)
    rows = [*_of_retrieval(), *_of_classify()]
    if output == "json":
        print_json(rows)
        return 0
    print_table(list(rows[0]), [[_cell(value) for value in row.values()] for row in rows])
    return 0


def _show(name: str, output: str) -> int:
    import tomllib

    from classify import recipe as classifiers
    from imgret.output import print_json, print_text
    from retrieval.comparison import recipes as searches

    if name in searches.experiment_names():
        text = searches.experiment_as_toml(searches.read_experiment(name).recipe)
    else:
        text = classifiers.recipe_as_toml(classifiers.read_recipe(name))
    if output == "json":
        print_json(tomllib.loads(text))
    else:
        print_text(text)
    return 0


def _of_retrieval() -> list[dict[str, Any]]:
    from retrieval.comparison import recipes

    rows = []
    for name in recipes.experiment_names():
        recipe = recipes.read_experiment(name).recipe
        beat, ours = recipe.reference or recipes.Figures(), recipe.measured or recipes.Figures()
        rows.append(
            _row(
                name,
                recipe.reproduces.partition(":")[0],
                "cars",
                recipe.title,
                ours.parameters or beat.parameters,
                beat.precision_at_5,
                ours.precision_at_5,
                "; ".join(filter(None, ["precision@5", ours.note])),
            )
        )
    return rows


def _of_classify() -> list[dict[str, Any]]:
    from classify import recipe as recipes

    rows = []
    for name in recipes.recipe_names():
        recipe = recipes.read_recipe(name)
        rows.append(
            _row(
                name,
                recipe.reproduces,
                recipe.data.name,
                recipe.title or recipe.model.backbone,
                recipe.measured.parameters or recipe.reference.parameters,
                recipe.reference.accuracy,
                recipe.measured.accuracy,
                recipe.measured.note,
            )
        )
    return rows


def _row(
    name: str,
    reproduces: str,
    data: str,
    model: str,
    parameters: int | None,
    beat: float | None,
    ours: float | None,
    note: str,
) -> dict[str, Any]:
    return {
        "name": name,
        "row": reproduces,
        "data": data,
        "model": model,
        "parameters": parameters,
        "to beat": beat,
        "ours": ours,
        "note": note,
    }


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4f}" if isinstance(value, float) else str(value)

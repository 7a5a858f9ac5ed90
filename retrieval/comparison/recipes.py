"""Recipes: named experiments as TOML, ours in retrieval/recipes/ and a user's own."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

import tomli_w
from pydantic import Field, ValidationError

from retrieval import backbones
from retrieval import transform as transforms
from retrieval.arguments import as_name
from retrieval.errors import ImgretError, RecipeError
from retrieval.recipe_files import SUFFIX, document_of, faulty, text_of
from retrieval.settings import EmbeddingSettings, Frozen, SearchSettings
from retrieval.words import EMBEDDING, MOST_NEIGHBOURS


class Figures(Frozen):
    """Figures on the queries of cars/test, to beat or measured here.

    parameters: Keras' total, of the backbone without its classifier. note: why they cannot be
    compared as they are.
    """

    precision_at_5: float | None = Field(default=None, ge=0, le=1)
    parameters: int | None = Field(default=None, ge=0)
    note: str = ""


class Experiment(Frozen):
    """A recipe of retrieval: how images are embedded, and how they are searched.

    reproduces: the row of the systems that it reproduces, "" for none. k: of precision@k.
    reference, measured: figures to beat, and ours. Raises pydantic's ValidationError.
    """

    title: str = ""
    reproduces: str = ""
    k: int = Field(default=5, ge=1, le=MOST_NEIGHBOURS)
    encoding: EmbeddingSettings = EmbeddingSettings()
    search: SearchSettings = SearchSettings()
    reference: Figures | None = None
    measured: Figures | None = None

    @property
    def has_random_weights(self) -> bool:
        """Whether the weights of its backbone are random."""
        return backbones.parse_name(self.encoding.backbone).source == "random"


@dataclass(frozen=True)
class NamedExperiment:
    """An experiment under a name that is unique in its comparison."""

    name: str
    recipe: Experiment


def experiment_names() -> list[str]:
    """List the recipes of the package."""
    folder = resources.files("retrieval") / "recipes"
    return sorted(f.name.removesuffix(SUFFIX) for f in folder.iterdir() if f.name.endswith(SUFFIX))


def read_experiment(name: str) -> NamedExperiment:
    """Read a recipe of the package by its name, or a user's own file.

    Raises RecipeError, naming the file and the key, when it cannot be used, and ArgumentError for
    what is no name.
    """
    name = as_name("name", name)
    if name in experiment_names():
        text = (resources.files("retrieval") / "recipes" / f"{name}{SUFFIX}").read_text("utf-8")
        return NamedExperiment(name, parse_experiment(text, name))
    known = experiment_names()
    text = text_of(name, f"Give {', '.join(known)}, or a TOML file.", known)
    return NamedExperiment(Path(name).stem, parse_experiment(text, name))


def parse_experiment(text: str, source: str) -> Experiment:
    """Parse a recipe from TOML. Raises RecipeError, naming source and the key."""
    document = document_of(text, source)
    try:
        recipe = Experiment.model_validate(document)
        transforms.parse_spec(recipe.search.transform)
        _ = recipe.search.refinement
    except ValidationError as error:
        raise faulty(source, error, Experiment) from error
    except ImgretError as error:
        place = source if source.startswith("--") else f"{source}: search"
        raise RecipeError(f"{place}: {error}") from error
    return recipe


def experiment_as_toml(recipe: Experiment) -> str:
    """Write a recipe as the text of a file."""
    return tomli_w.dumps(recipe.model_dump(exclude_none=True))


def grid(recipe: Experiment, spans: Mapping[str, Sequence[object]]) -> list[NamedExperiment]:
    """Return every combination of the values given for keys of encoding and search.

    An experiment is named by the values that vary. Raises RecipeError for a value that is none.
    """
    spans = {key: values for key, values in spans.items() if values}
    varied = [key for key, values in spans.items() if len(values) > 1] or list(spans)[:1]
    experiments = []
    for values in itertools.product(*spans.values()):
        chosen = dict(zip(spans, values, strict=True))
        document = recipe.model_dump(exclude_none=True)
        for key, value in chosen.items():
            document["encoding" if key in EMBEDDING else "search"][key] = value
        name = " ".join(_short(key, chosen[key]) for key in varied) or "default"
        made = parse_experiment(
            tomli_w.dumps(document), f"--{' --'.join(chosen)}" if chosen else "default"
        )
        experiments.append(NamedExperiment(name, made))
    return experiments


def with_weights(
    experiment: NamedExperiment, folders: Sequence[Path], *, random_weights: bool
) -> NamedExperiment:
    """Take the weights of the experiment's backbone from the folder that holds its architecture.

    random_weights: without such a folder, take random weights, for shape and cost alone.
    """
    encoding = experiment.recipe.encoding
    name = backbones.parse_name(encoding.backbone)
    if name.source not in ("timm", "hub"):
        return experiment
    for folder in folders:
        if name.architecture == backbones.architecture_of(folder):
            name = backbones.BackboneName("folder", str(folder.resolve()))
            break
    else:
        if random_weights and name.architecture:
            name = backbones.BackboneName("random", name.architecture)
    encoding = encoding.model_copy(update={"backbone": str(name)})
    return replace(experiment, recipe=experiment.recipe.model_copy(update={"encoding": encoding}))


def check_used(folders: Sequence[Path], experiments: Sequence[NamedExperiment]) -> None:
    """Raise RecipeError for a folder of weights that no experiment took with with_weights()."""
    taken = {experiment.recipe.encoding.backbone for experiment in experiments}
    for folder in folders:
        if str(folder.resolve()) not in taken:
            architecture = backbones.architecture_of(folder)
            raise RecipeError(
                f"--weights {folder} holds weights of {architecture}, which no recipe given needs. "
                "Leave it out, or give it as --backbone."
            )


def unique(experiments: Sequence[NamedExperiment]) -> list[NamedExperiment]:
    """Number the experiments of the same name."""
    seen: dict[str, int] = {}
    made = []
    for experiment in experiments:
        seen[experiment.name] = count = seen.get(experiment.name, 0) + 1
        made.append(
            replace(experiment, name=f"{experiment.name} ({count})") if count > 1 else experiment
        )
    return made


def _short(key: str, value: object) -> str:
    """Return a value as a name shows it: of a folder or a hub's repository, its last part."""
    if key != "backbone":
        return str(value)
    name = backbones.parse_name(str(value))
    return name.last_part if name.source in ("folder", "hub") else str(value)

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from classify import recipe as recipes
from classify.models import create, parameters
from classify.recipe import Input, ModelSpec
from retrieval.errors import RecipeError
from tests.classify.blobs import TINY, tiny


@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_of_ours_is_valid_and_its_settings_are_whole(name: str) -> None:
    recipe = recipes.read(name)
    assert recipe.title
    assert recipes.parse(recipes.as_toml(recipe), name) == recipe
    for phase in range(len(recipe.phases)):
        assert recipe.settings(phase).epochs >= 1


def test_every_row_of_the_systems_has_a_recipe() -> None:
    rows = {recipes.read(name).reproduces for name in recipes.names()}
    wanted = [f"C{n}" for n in range(1, 7)] + [f"P{n}" for n in range(1, 4)]
    wanted += [f"T{n}" for n in range(1, 16)]
    assert set(wanted) <= rows


def test_a_recipe_is_found_by_the_row_it_reproduces() -> None:
    assert recipes.read("P1") == recipes.read("parts/cnn")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[model]\nbackbone = 'cnn'\nlayers = [8]\nheadd = 1", "mine: model.headd"),
        ("[training]\nlr = 0.1", "mine: model"),
        ("[model]\nbackbone = 'cnn'", "layers go with"),
        ("[model]\nlayers = [8]\n[model.head]\npool = 'avg'\ndropout = [0.1]\ndense=[4]", "2 for"),
        ("[model]\nlayers = [8]\n[training]\nlr = -1", "training.lr"),
        ("[model]\nlayers = [8]\n[training]\nlr = inf", "training.lr"),
        ("[model]\nlayers = [99999999]", "model.layers"),
        ("[model]\nbackbone='resnet18'\n[model.head]\npool='own'\ndense=[4]", "dense layers need"),
        ("[augmentation]\ncrop = [0.9, 0.2]\n[model]\nlayers = [8]", "range of areas"),
        ("[model\n", "not valid TOML"),
    ],
)
def test_a_wrong_key_is_named(text: str, said: str) -> None:
    with pytest.raises(RecipeError, match="mine") as caught:
        recipes.parse(text, "mine")
    assert said in str(caught.value)


def test_a_recipe_that_does_not_exist_says_where_to_look(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="imgret recipes"):
        recipes.read("no/such")
    (tmp_path / "large.toml").write_text("#" * 100_000)
    with pytest.raises(RecipeError, match="larger than a recipe"):
        recipes.read(str(tmp_path / "large.toml"))


def test_values_are_overridden_as_toml_or_text() -> None:
    recipe = tiny("training.epochs=7", "training.optimiser=sgd", "model.head.dense=[4, 4]",
                  "model.head.dropout=[0, 0, 0.5]", "loss.class_weights={red = 2.0}")  # fmt: skip
    assert (recipe.training.epochs, recipe.training.optimiser) == (7, "sgd")
    assert recipe.model.head.dropouts == (0, 0, 0.5)
    assert recipe.loss.class_weights == {"red": 2.0}


def test_a_key_of_training_counts_for_all_phases_and_one_of_a_phase_for_it() -> None:
    text = TINY + "[[phases]]\nopen='head'\nepochs=2\n[[phases]]\nepochs=9\nlr=1e-4"
    recipe = recipes.parse(text, "x", ["training.epochs=5", "phases.1.lr=0.5"])
    assert [recipe.settings(n).epochs for n in (0, 1)] == [5, 5]
    assert [recipe.settings(n).lr for n in (0, 1)] == [1e-2, 0.5]


@pytest.mark.parametrize("override", ["training.epochs", "=3", "title.x=1"])
def test_an_override_that_leads_nowhere_is_said(override: str) -> None:
    with pytest.raises(RecipeError, match="--set"):
        recipes.parse(TINY, "x", [override])


@pytest.mark.parametrize(
    ("key", "named"), [("training.epoch", "training.epoch"), ("phases.7.lr", "phases")]
)
def test_an_unknown_key_that_is_set_is_named(key: str, named: str) -> None:
    with pytest.raises(RecipeError, match=f"tiny.toml: {named}: "):
        tiny(f"{key}=3")


def keras_total(name: str, classes: int) -> int:
    recipe = recipes.read(name, ["model.weights=random"])
    return parameters(create(recipe.model, recipe.input, classes).network)


@pytest.mark.parametrize(
    ("row", "classes", "total"),
    [("P1", 5, 305_957), ("P3", 5, 1_013_621), ("T1", 10, 2_196_810), ("T2", 10, 2_200_394)],
)
def test_parameters_are_those_of_the_systems(row: str, classes: int, total: int) -> None:
    assert keras_total(row, classes) == total
    assert recipes.read(row).reference.parameters == total


@pytest.mark.parametrize(
    ("row", "classes", "total"),
    [("P2", 5, 6_083_925), ("T5", 10, 41_071_690), ("T9", 10, 49_723_082)],
)
def test_parameters_of_the_large_ones_are_those_of_the_systems(
    row: str, classes: int, total: int
) -> None:
    assert keras_total(row, classes) == total
    assert recipes.read(row).reference.parameters == total


@pytest.mark.parametrize(
    ("row", "total"),
    [("T3", 4_101_450), ("T4", 3_514_698), ("T12", 316_000), ("T13", 403_000), ("T14", 275_000),
     ("T15", 6_260_000)],
)  # fmt: skip
def test_parameters_without_a_layout_are_within_two_percent(row: str, total: int) -> None:
    assert keras_total(row, 10) == pytest.approx(total, rel=0.02)


@pytest.mark.parametrize("name", recipes.names())
def test_the_number_of_parameters_that_a_recipe_tells_is_true(name: str) -> None:
    recipe = recipes.read(name, ["model.weights=random"])
    if recipe.measured.parameters is None:
        return
    classes = {"cars": 196, "cifar10": 10, "parts": 4}[recipe.data.name]
    assert keras_total(name, classes) == recipe.measured.parameters


@pytest.mark.parametrize("layer", ["dense", "dropout:x", "residual:1:2", "residual:8:999:1"])
def test_a_layer_that_is_none_is_named(layer: str) -> None:
    spec = ModelSpec.model_validate({"layers": [layer], "head": {"pool": "avg"}})
    with pytest.raises(RecipeError, match=r"model\.layers"):
        create(spec, Input(size=32), 2)


@pytest.mark.parametrize("backbone", ["no_such_net", "torchvision:nothing", "imgret_classifier"])
def test_a_backbone_that_is_none_is_named(backbone: str) -> None:
    spec = ModelSpec.model_validate({"backbone": backbone, "head": {"pool": "avg"}})
    with pytest.raises(RecipeError, match=r"model\.backbone"):
        create(spec, Input(size=32), 2)


def test_a_recipe_is_written_with_all_its_settings() -> None:
    document = tomllib.loads(recipes.as_toml(tiny()))
    assert document["training"]["seed"] == 0
    assert document["augmentation"]["flip"] == 0.5

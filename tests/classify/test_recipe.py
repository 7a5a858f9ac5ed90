from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st

from classify import recipe as recipes
from classify.models import create_network, parameters
from classify.recipe import Augmentation, Input, Loss, ModelSpec, Phase, Recipe, Training
from retrieval.backbones import parse_name
from retrieval.comparison import recipes as searches
from retrieval.errors import RecipeError
from tests.classify.blobs import TINY, tiny


@pytest.mark.parametrize("name", recipes.recipe_names())
def test_every_recipe_of_ours_is_valid_and_its_settings_are_whole(name: str) -> None:
    recipe = recipes.read_recipe(name)
    assert recipe.title
    assert recipes.parse_recipe(recipes.recipe_as_toml(recipe), name) == recipe
    for phase in range(len(recipe.phases)):
        assert recipe.settings(phase).epochs >= 1


def test_every_row_of_the_systems_has_a_recipe() -> None:
    rows = {recipes.read_recipe(name).reproduces for name in recipes.recipe_names()}
    wanted = [f"C{n}" for n in range(1, 7)] + [f"P{n}" for n in range(1, 4)]
    wanted += [f"T{n}" for n in range(1, 16)]
    assert set(wanted) <= rows


def test_a_recipe_is_found_by_the_row_it_reproduces() -> None:
    assert recipes.read_recipe("P1") == recipes.read_recipe("parts/cnn")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[model]\nbackbone = 'cnn'\nlayers = [8]\nheadd = 1", "mine: model.headd"),
        ("[training]\nlr = 0.1", "mine: model"),
        ("[model]\nbackbone = 'cnn'", "need each other"),
        ("[model]\nlayers = [8]\n[model.head]\npool = 'avg'\ndropout = [0.1]\ndense=[4]", "2 for"),
        ("[model]\nlayers = [8]\n[training]\nlr = -1", "training.lr"),
        ("[model]\nlayers = [8]\n[training]\nlr = inf", "training.lr"),
        ("[model]\nlayers = [99999999]", "model.layers"),
        ("[model]\nbackbone='resnet18'\n[model.head]\npool='own'\ndense=[4]", "dense layers need"),
        ("[augmentation]\ncrop = [0.9, 0.2]\n[model]\nlayers = [8]", "range of areas"),
        ("[augmentation]\nflip = 1.5\n[model]\nlayers = [8]", "mine: augmentation.flip"),
        ("[augmentation]\nrand = 'm9'\n[model]\nlayers = [8]", "rand must be a policy"),
        ("[augmentation]\nrand = 'rand-m9-x2'\n[model]\nlayers = [8]", "rand must be a policy"),
        ("[model]\nlayers = [8]\n[model.head]\npool = 'avg'\nl2 = 0.1", "l2 needs dense layers"),
        ("[modle]\nlayers = [8]", "mine: model"),
        ("[model]\nlayers = [8]\n[[phases]]\n[[phases]]\nopne = 'all'", "mine: phases.1.opne"),
        ("[model]\nlayers = [8]\n[[phases]]\nopen = 'some'", "mine: phases.0.open"),
        ("phases = []\n[model]\nlayers = [8]", "mine: phases"),
        ("[model\n", "not valid TOML"),
        ("x = " + 5000 * "[", "not valid TOML"),
    ],
)
def test_a_wrong_key_is_named(text: str, said: str) -> None:
    with pytest.raises(RecipeError, match="mine") as caught:
        recipes.parse_recipe(text, "mine")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("layers = [8]\n[training]\nepoch = 1", "epochs"),
        ("layers = [8]\n[model.head]\ndropot = [0.1]", "dropout"),
        ("layers = [8]\n[[phases]]\n[[phases]]\nopne = 'all'", "open"),
        ("layers = [8]\n[modle]\nlayers = [8]", "model"),
    ],
)
def test_a_key_that_is_misspelt_is_answered_with_the_one_meant(text: str, meant: str) -> None:
    with pytest.raises(RecipeError, match=rf"no such key\. Did you mean {meant}\? Correct"):
        recipes.parse_recipe(f"[model]\n{text}", "mine")


def test_a_key_that_is_like_none_is_not_guessed_at() -> None:
    with pytest.raises(RecipeError, match=r"qqqq: there is no such key\. Correct"):
        recipes.parse_recipe("qqqq = 1\n[model]\nlayers = [8]", "mine")


def test_a_recipe_that_does_not_exist_says_where_to_look(tmp_path: Path) -> None:
    for name in ("no/such", "such"):
        with pytest.raises(RecipeError, match="imgret recipes"):
            recipes.read_recipe(name)


def test_a_file_larger_than_a_recipe_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "large.toml").write_text("#" * 100_000)
    with pytest.raises(RecipeError, match="larger than 65,536 bytes"):
        recipes.read_recipe(str(tmp_path / "large.toml"))


def test_values_are_overridden_as_toml_or_text() -> None:
    recipe = tiny("training.epochs=7", "training.optimiser=sgd", "model.head.dense=[4, 4]",
                  "model.head.dropout=[0, 0, 0.5]", "loss.class_weights={red = 2.0}")  # fmt: skip
    assert (recipe.training.epochs, recipe.training.optimiser) == (7, "sgd")
    assert recipe.model.head.dropouts == (0, 0, 0.5)
    assert recipe.loss.class_weights == {"red": 2.0}
    assert tiny("title=a = b").title == "a = b"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("loss.class_weights={red = 0}", "loss.class_weights.red: it takes 1e-06 or more, not 0."),
        ("loss.class_weights=rare", "loss.class_weights: it takes 'none' or 'balanced' or a table"),
        ("phases=[{open = 0}]", "phases.0.open: it takes 'head' or 'all' or 1 or more, not 0."),
        ("model.head.dropout=[0, 0, 2]", "model.head.dropout.2: it takes less than 1.0, not 2."),
    ],
)
def test_a_value_of_several_kinds_is_refused_by_the_one_that_fits(override: str, said: str) -> None:
    with pytest.raises(RecipeError) as error:
        tiny(override)
    assert said in str(error.value)


@given(
    st.integers(-(2**63), 2**63 - 1)
    | st.booleans()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.lists(st.integers(0, 9))
)
def test_a_value_that_is_set_is_read_as_toml(value: object) -> None:
    document = {"a": {"b": 0}, "c": 1}
    made = recipes.with_overrides(document, [f"a.b = {json.dumps(value)}"])
    assert made == {"a": {"b": value}, "c": 1}
    assert document == {"a": {"b": 0}, "c": 1}


PHASES = st.builds(
    Phase,
    open=st.sampled_from(["head", "all", 3]),
    epochs=st.none() | st.integers(1, 99),
    lr=st.none() | st.floats(1e-9, 9),
    schedule=st.none() | st.sampled_from(["cosine", "step"]),
    patience=st.none() | st.integers(0, 9),
)


@given(st.lists(PHASES, min_size=1, max_size=4), st.integers(1, 99), st.floats(1e-9, 9))
def test_a_phase_takes_from_training_what_it_does_not_say(
    phases: list[Phase], epochs: int, lr: float
) -> None:
    training = Training(epochs=epochs, lr=lr, schedule="plateau", patience=7, clip=0.5, factor=0.3)
    recipe = tiny().model_copy(update={"phases": tuple(phases), "training": training})
    for place, phase in enumerate(phases):
        settings = recipe.settings(place)
        for key in ("epochs", "lr", "schedule", "patience", "clip", "factor", "optimiser"):
            own = getattr(phase, key)
            assert getattr(settings, key) == (getattr(training, key) if own is None else own)


SHARES = st.floats(0, 1)
NAMES = st.text(st.characters(codec="utf-8"), max_size=9)


@given(
    st.builds(
        Recipe,
        title=NAMES,
        model=st.just(tiny().model),
        augmentation=st.builds(
            Augmentation, flip=SHARES, erase=SHARES, crop=st.none() | st.just((0.25, 1.0))
        ),
        loss=st.builds(Loss, class_weights=st.dictionaries(NAMES, st.floats(0.1, 9), max_size=4)),
        phases=st.lists(PHASES, min_size=1, max_size=3).map(tuple),
    )
)
def test_a_recipe_is_read_as_it_is_written(recipe: Recipe) -> None:
    assert recipes.parse_recipe(recipes.recipe_as_toml(recipe), "written") == recipe


def test_a_key_of_training_counts_for_all_phases_and_one_of_a_phase_for_it() -> None:
    text = TINY + "[[phases]]\nopen='head'\nepochs=2\n[[phases]]\nepochs=9\nlr=1e-4"
    recipe = recipes.parse_recipe(text, "x", ["training.epochs=5", "phases.1.lr=0.5"])
    assert [recipe.settings(n).epochs for n in (0, 1)] == [5, 5]
    assert [recipe.settings(n).lr for n in (0, 1)] == [1e-2, 0.5]


@pytest.mark.parametrize("override", ["training.epochs", "=3", "title.x=1"])
def test_an_override_that_leads_nowhere_is_said(override: str) -> None:
    with pytest.raises(RecipeError, match="--set"):
        recipes.parse_recipe(TINY, "x", [override])


@pytest.mark.parametrize(
    ("key", "named"), [("training.epoch", "training.epoch"), ("input.sise", "input.sise")]
)
def test_an_unknown_key_that_is_set_is_named(key: str, named: str) -> None:
    with pytest.raises(RecipeError, match=f"^--set: {named}: there is no such key"):
        tiny(f"{key}=3")


def test_a_value_that_is_set_is_blamed_where_a_table_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"^--set: augmentation: rand must be a policy"):
        tiny("augmentation.rand=zz")
    with pytest.raises(RecipeError, match=r"^--set: distillation cannot be combined with mixup"):
        tiny("augmentation.mixup=0.2", 'distillation={teacher="resnet18"}')


def network(name: str, classes: int) -> Any:
    """The network of a recipe without memory for its weights, and the side of its input."""
    recipe = recipes.read_recipe(name, ["model.weights=random"])
    with torch.device("meta"):
        created = create_network(recipe.model, recipe.input, classes)
    return created.network, created.preprocessing.size


def keras_total(name: str, classes: int) -> int:
    return parameters(network(name, classes)[0])


@pytest.mark.long
@pytest.mark.parametrize("name", recipes.recipe_names())
def test_every_recipe_of_ours_makes_a_network_of_its_size(name: str) -> None:
    made, side = network(name, 7)
    assert (
        side == recipes.read_recipe(name).input.size or recipes.read_recipe(name).input.size is None
    )
    assert made(torch.zeros(2, 3, side, side, device="meta")).shape == (2, 7)


@pytest.mark.parametrize(
    ("row", "classes", "total"),
    [("P1", 5, 305_957), ("P2", 5, 6_083_925), ("P3", 5, 1_013_621), ("T1", 10, 2_196_810),
     ("T2", 10, 2_200_394), ("T5", 10, 41_071_690), ("T9", 10, 49_723_082)],
)  # fmt: skip
def test_parameters_are_those_of_the_systems(row: str, classes: int, total: int) -> None:
    assert keras_total(row, classes) == total
    assert recipes.read_recipe(row).reference.parameters == total


CLASSES = {"cars": 196, "cifar10": 10, "parts": 5, "": 10, "mini": 320}


@pytest.mark.parametrize("name", recipes.recipe_names())
def test_every_recipe_of_ours_states_its_parameters(name: str) -> None:
    recipe = recipes.read_recipe(name)
    made, _ = network(name, CLASSES[recipe.data.name])
    head = parameters(made.get_classifier()) if recipe.data.name == "mini" else 0
    assert recipe.measured.parameters == parameters(made) - head


@pytest.mark.parametrize("name", searches.experiment_names())
def test_every_recipe_of_retrieval_states_the_parameters_of_its_backbone(name: str) -> None:
    recipe = searches.read_experiment(name).recipe
    architecture = parse_name(recipe.encoding.backbone).architecture
    with torch.device("meta"):
        backbone = timm.create_model(architecture, num_classes=0)
    assert recipe.measured
    assert recipe.measured.parameters == parameters(backbone)


@pytest.mark.parametrize(
    ("row", "total"),
    [("T3", 4_101_450), ("T4", 3_514_698), ("T12", 316_000), ("T13", 403_000), ("T14", 275_000),
     ("T15", 6_260_000)],
)  # fmt: skip
def test_parameters_without_a_layout_are_within_two_percent(row: str, total: int) -> None:
    assert keras_total(row, 10) == pytest.approx(total, rel=0.02)


@pytest.mark.parametrize(
    "layer",
    ["dense", "dropout:x", "dropout:nan", "dropout:1", "residual:1:2", "residual:8:999:1", ""],
)
def test_a_layer_that_is_none_is_named(layer: str) -> None:
    spec = ModelSpec.model_validate({"layers": [layer], "head": {"pool": "avg"}})
    with pytest.raises(RecipeError, match=r"model\.layers"):
        create_network(spec, Input(size=32), 2)


def test_a_picture_that_is_pooled_away_is_said() -> None:
    spec = ModelSpec.model_validate({"layers": [4, *["pool"] * 5], "head": {"pool": "avg"}})
    with pytest.raises(RecipeError, match=r"16 px are too few.*input\.size"):
        create_network(spec, Input(size=16), 2)


def test_a_backbone_without_a_map_takes_no_declared_head() -> None:
    spec = {"backbone": "vit_tiny_patch16_224", "head": {"pool": "avg"}}
    with pytest.raises(RecipeError, match="Set pool = own"):
        create_network(ModelSpec.model_validate(spec), Input(size=224), 2)


@pytest.mark.parametrize("backbone", ["no_such_net", "torchvision:nothing", "imgret_classifier"])
def test_a_backbone_that_is_none_is_named(backbone: str) -> None:
    spec = ModelSpec.model_validate({"backbone": backbone, "head": {"pool": "avg"}})
    with pytest.raises(RecipeError, match=r"model\.backbone"):
        create_network(spec, Input(size=32), 2)


def test_a_recipe_is_written_with_all_its_settings() -> None:
    document = tomllib.loads(recipes.recipe_as_toml(tiny()))
    assert document["training"]["seed"] == 0
    assert document["augmentation"]["flip"] == 0.5


@pytest.mark.parametrize("mixed", ["augmentation.mixup=0.2", "augmentation.cutmix=1"])
@pytest.mark.parametrize("name", ["arcface", "proxy-anchor"])
def test_a_metric_loss_needs_pictures_of_one_label(mixed: str, name: str) -> None:
    overrides = [f"loss.metric.name={name}", mixed]
    assert recipes.read_recipe("cifar10/cnn-5", overrides[:1]).loss.metric
    with pytest.raises(RecipeError, match="cannot be combined with mixup or cutmix"):
        recipes.read_recipe("cifar10/cnn-5", overrides)

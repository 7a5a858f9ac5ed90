from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from classify.models import create_network, embed_features, head_parameters, layers_of, parameters
from classify.models.cnn import ConvNet, Residual
from classify.recipe import Head, Input, ModelSpec
from classify.run import save_model
from retrieval.backbones import BackboneName, load_classifier
from retrieval.errors import BackboneError, RecipeError
from tests.samples import save_weights
from tests.timm_versions import as_the_table, need_network, read_by_timm

SMALL = "mobilenetv3_small_050"


def made(size: int = 32, classes: int = 3, **spec: Any) -> nn.Module:
    return create_network(ModelSpec.model_validate(spec), Input(size=size), classes).network.eval()


def test_a_list_of_layers_is_the_network_written_out() -> None:
    torch.manual_seed(0)
    ours = ConvNet([4, "pool", 8, "dropout:0.5", "avgpool"], norm=True).eval()
    convs = [m for m in ours if isinstance(m, nn.Conv2d)]
    norms = [m for m in ours if isinstance(m, nn.BatchNorm2d)]
    theirs = nn.Sequential(
        convs[0], norms[0], nn.ReLU(), nn.MaxPool2d(2), convs[1], norms[1], nn.ReLU(),
        nn.AvgPool2d(2),
    ).eval()  # fmt: skip
    x = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(ours(x), theirs(x))
    assert ours.channels == 8


def test_a_residual_block_is_torchvisions() -> None:
    from torchvision.models.resnet import BasicBlock

    torch.manual_seed(0)
    down = nn.Sequential(nn.Conv2d(8, 16, 1, 2, bias=False), nn.BatchNorm2d(16))
    theirs = BasicBlock(8, 16, 2, down).eval()
    ours = Residual(8, 16, 2).eval()
    state = {k.replace("downsample", "shortcut"): v for k, v in theirs.state_dict().items()}
    ours.load_state_dict(state)
    x = torch.randn(2, 8, 8, 8)
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize(
    ("pool", "width"), [("avg", 8), ("max", 8), ("avg+max", 16), ("flatten", 8 * 4 * 4)]
)
def test_pooling_decides_the_width_of_the_head(pool: str, width: int) -> None:
    network = made(16, layers=[8, "pool", "pool"], head={"pool": pool})
    assert network.head.fc.in_features == width  # type: ignore[union-attr]
    assert network(torch.randn(2, 3, 16, 16)).shape == (2, 3)


def test_poolings_are_torchs() -> None:
    maps = {"avg": nn.AdaptiveAvgPool2d(1), "max": nn.AdaptiveMaxPool2d(1)}
    for pool in ("avg", "max", "avg+max"):
        network = made(16, layers=[8, "pool"], head={"pool": pool})
        x = torch.randn(2, 3, 16, 16)
        features = network.forward_features(x)  # type: ignore[operator]
        theirs = torch.cat([maps[name](features).flatten(1) for name in pool.split("+")], dim=1)
        torch.testing.assert_close(embed_features(network, x)[0], theirs)


def test_a_head_is_its_layers_written_out() -> None:
    head = {"pool": "flatten", "dense": [6, 5], "norm_input": True, "norm": True,
            "dropout": [0.1, 0.2, 0.3]}  # fmt: skip
    network = made(16, layers=[4, "pool", "pool"], head=head)
    kinds = [type(step).__name__ for step in network.head.steps]  # type: ignore[union-attr]
    dense = ["Linear", "BatchNorm1d", "ReLU", "Dropout"]
    assert kinds == ["BatchNorm1d", "Dropout", *dense, *dense]
    rates = [s.p for s in network.head.steps if isinstance(s, nn.Dropout)]  # type: ignore[union-attr]
    assert rates == [0.1, 0.2, 0.3]
    x = torch.randn(2, 3, 16, 16)
    flat = network.forward_features(x).flatten(1)  # type: ignore[operator]
    theirs = nn.Sequential(*network.head.steps, network.head.fc)(flat)  # type: ignore[union-attr]
    torch.testing.assert_close(network(x), theirs)
    assert network.head.fc.in_features == 5  # type: ignore[union-attr]


def test_regularisation_of_timms_own_head_is_timms() -> None:
    network = made(64, backbone=SMALL, head={"dropout": 0.4}, drop_path=0.2)
    assert network.drop_rate == 0.4
    assert any(getattr(m, "drop_prob", None) for m in network.modules())


def test_embedding_and_scores_are_those_of_the_network() -> None:
    for network in (
        made(16, layers=[8], head={"pool": "avg", "dense": [5], "norm": True, "dropout": 0.5}),
        made(64, backbone=SMALL, head={"dropout": 0.3}),
    ):
        x = torch.randn(2, 3, 64, 64)
        embeddings, scores = embed_features(network, x)
        torch.testing.assert_close(scores, network(x))
        assert embeddings.shape[1] == network.get_classifier().in_features  # type: ignore[operator]


def test_a_network_without_classes_gives_the_embedding() -> None:
    network = made(16, layers=[8], head={"pool": "avg", "dense": [5]})
    x = torch.randn(2, 3, 16, 16)
    embeddings, _ = embed_features(network, x)
    network.reset_classifier(0)  # type: ignore[operator]
    torch.testing.assert_close(network(x), embeddings)


def test_the_parts_of_timms_head_that_a_declared_one_replaces_are_gone() -> None:
    network = made(64, backbone=SMALL, head={"pool": "avg"})
    assert not any("conv_head" in name for name, _ in network.named_parameters())
    network(torch.randn(1, 3, 64, 64)).sum().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_parameters_count_running_statistics_as_keras_does() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    assert parameters(network) == 3 * 8 * 9 + 8 + 4 * 8


def test_layers_are_counted_with_timms_norms_and_without_identities() -> None:
    network = made(64, backbone=SMALL, head={"pool": "avg"})
    layers = layers_of(network)
    assert sum(p.numel() for m in layers for p in m.parameters(recurse=False)) == sum(
        p.numel()
        for p in network.backbone.parameters()  # type: ignore[union-attr]
    )
    assert not any(isinstance(m, (nn.Identity, nn.Dropout)) for m in layers)
    heads = {id(p) for p in head_parameters(network)}
    assert not any(id(p) in heads for m in layers for p in m.parameters())


def test_weights_of_a_folder_become_the_backbones(tmp_path: Path) -> None:
    folder = save_weights(tmp_path / "w", seed=3)
    torch.manual_seed(3)
    theirs = timm.create_model(SMALL, num_classes=0).eval()
    x = torch.randn(2, 3, 64, 64)
    plain = made(64, backbone=SMALL, weights=str(folder))
    torch.testing.assert_close(embed_features(plain, x)[0], theirs(x))
    headed = made(64, backbone=SMALL, weights=str(folder), head={"pool": "avg", "dense": [4]})
    torch.testing.assert_close(headed.forward_features(x), theirs.forward_features(x))  # type: ignore[operator]


def test_biases_that_keras_has_change_nothing(tmp_path: Path) -> None:
    folder = str(save_weights(tmp_path / "w", seed=3))
    head = {"pool": "avg"}
    with_bias = made(64, backbone=SMALL, weights=folder, conv_bias=True, head=head)
    without = made(64, backbone=SMALL, weights=folder, head=head)
    x = torch.randn(2, 3, 64, 64)
    maps = [n.forward_features(x) for n in (with_bias, without)]  # type: ignore[operator]
    torch.testing.assert_close(*maps)
    assert parameters(with_bias) > parameters(without)


def test_weights_of_torchvision_become_the_backbones(tmp_path: Path) -> None:
    import torchvision

    theirs = torchvision.models.squeezenet1_1(weights=None).eval()
    save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    head = {"pool": "avg"}
    ours = made(64, backbone="torchvision:squeezenet1_1", weights=str(tmp_path), head=head)
    x = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(ours.forward_features(x), theirs.features(x))  # type: ignore[operator]


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    folder = save_weights(tmp_path / "w", seed=3)
    with pytest.raises(BackboneError, match=r"mobilenetv3_small_050.*resnet18"):
        made(64, backbone="resnet18", weights=str(folder))
    with pytest.raises(BackboneError, match="lacks"):
        made(64, backbone="torchvision:squeezenet1_1", weights=str(folder), head={"pool": "avg"})


def test_weights_that_are_damaged_or_not_there_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"not safetensors")
    for weights in (str(tmp_path), str(tmp_path / "nothing")):
        with pytest.raises(BackboneError, match="cannot be read"):
            made(64, backbone="torchvision:squeezenet1_1", weights=weights, head={"pool": "avg"})


def test_the_small_networks_have_no_weights_to_be_had() -> None:
    for weights in ("pretrained", "runs/cnn"):
        with pytest.raises(BackboneError, match="trained from random weights alone"):
            made(32, layers=[8], weights=weights)
    with pytest.raises(BackboneError, match="no weights on a hub"):
        made(64, backbone="torchvision:squeezenet1_1", weights="pretrained", head={"pool": "avg"})


def test_a_run_with_a_head_of_its_own_starts_no_other(run: Path) -> None:
    with pytest.raises(BackboneError, match="head of its own, which no training can start from"):
        made(32, backbone="test_vit", weights=str(run))


def test_a_hostile_layout_is_refused() -> None:
    import classify.models.classifier  # noqa: F401  registers it

    for layout in ({"layers": [10**9]}, {"layers": [8], "head": {"pool": "avg", "dense": [10**9]}}):
        with pytest.raises(Exception, match="model: "):
            timm.create_model("imgret_classifier", layout=layout, num_classes=2)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("deit_tiny_distilled_patch16_224", 32),
        ("levit_128s", 32),
        ("dla46_c", 32),
        ("crossvit_tiny_240", 120),
        pytest.param("volo_d1_224", 32, marks=as_the_table),
    ],
)
def test_what_a_head_of_several_layers_is_trained_on_is_what_it_is_judged_by(
    name: str, size: int
) -> None:
    torch.manual_seed(0)
    network = made(size, backbone=name)
    x = torch.randn(2, 3, size, size)
    with torch.no_grad():
        embeddings, scores = embed_features(network, x)
        torch.testing.assert_close(scores, network(x))
        plain = copy.deepcopy(network)
        plain.reset_classifier(0)  # type: ignore[operator]
        torch.testing.assert_close(embeddings, plain(x))
    network.requires_grad_(requires_grad=False)
    heads = head_parameters(network)
    for parameter in heads:
        parameter.requires_grad = True
    embed_features(network.train(), x)[1].sum().backward()
    assert all(parameter.grad is not None for parameter in heads)
    assert not any(parameter.shape[0] == 3 for parameter in set(network.parameters()) - set(heads))


@pytest.mark.parametrize(
    "name", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "test_maxvit"]
)
def test_a_network_of_one_input_size_is_made_for_the_recipes(name: str) -> None:
    need_network(name)
    network = made(64, backbone=name)
    assert network(torch.zeros(1, 3, 64, 64)).shape == (1, 3)


def test_a_declared_head_takes_a_network_of_one_input_size() -> None:
    need_network("test_maxvit")
    network = made(64, backbone="test_maxvit", head={"pool": "avg"})
    assert network(torch.zeros(1, 3, 64, 64)).shape == (1, 3)


def test_random_weights_take_the_size_that_the_architecture_is_made_for() -> None:
    for name, size in (("test_vit", 160), ("cait_xxs24_384", 384), ("efficientvit_m0", 224)):
        assert create_network(ModelSpec(backbone=name), Input(), 3).preprocessing.size == size


@pytest.mark.parametrize("name", ["timm/test_vit", "test_vit.r160_in1k", "timm/test_vit.r160_in1k"])
def test_a_backbone_is_timms_however_its_name_is_written(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert ModelSpec(backbone=name).architecture == BackboneName("timm", "test_vit")
    assert made(160, backbone=name)(torch.zeros(1, 3, 160, 160)).shape == (1, 3)


def test_a_short_name_is_a_backbone_of_a_recipe() -> None:
    assert ModelSpec(backbone="efficientnet-b7").architecture.id == "tf_efficientnet_b7"


@pytest.mark.parametrize("name", ["./weights", "mini", "hf-hub:user/model"])
def test_a_backbone_of_a_recipe_is_an_architecture_and_no_weights(name: str) -> None:
    with pytest.raises(
        RecipeError, match=r"model\.backbone: .* not a network of timm.*model\.weights"
    ):
        made(backbone=name)


def test_weights_made_for_one_size_start_a_network_of_another(tmp_path: Path) -> None:
    folder = save_weights(tmp_path / "w", seed=3, architecture="vit_tiny_patch16_224", size=224)
    network = made(64, backbone="vit_tiny_patch16_224", weights=str(folder))
    theirs = read_by_timm(folder, num_classes=0, img_size=64).eval()
    x = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(embed_features(network, x)[0], theirs(x))


@pytest.mark.parametrize(
    ("size", "spec", "said"),
    [
        (100, {"backbone": "vit_tiny_patch16_224"}, "patches of 16 px"),
        (16, {"backbone": "resnetv2_18", "drop_path": 0.1}, None),
        (96, {"backbone": "pvt_v2_b0"}, None),  # of overlapping patches
        (72, {"backbone": "pit_ti_224"}, None),
        (64, {"backbone": "vgg11", "drop_path": 0.1}, r"for 64 px.*Set model\.drop_path = 0"),
        (100, {"backbone": "levit_128s"}, "gives no scores for 100 px"),
        (80, {"backbone": "test_maxvit"}, "80 px"),
        (64, {"backbone": "naflexvit_base_patch16_radio_v3"}, None),
        (64, {"backbone": "test_vit.r16_in1k"}, "no weights 'r16_in1k', only r160_in1k"),
        (64, {"backbone": "imgret_classifier"}, "timm has no network 'imgret_classifier'"),
    ],
)
def test_a_network_that_cannot_be_trained_is_one_sentence(
    size: int, spec: dict[str, object], said: str | None
) -> None:
    need_network(spec["backbone"])
    if said is None:
        made(size, **spec)
        return
    with pytest.raises(RecipeError, match=said):
        made(size, **spec)


def test_layers_that_share_weights_are_saved_and_read_again(tmp_path: Path) -> None:
    created = create_network(ModelSpec(backbone="coat_tiny"), Input(size=32), 2)
    save_model(tmp_path, created.network, created.preprocessing, ["a", "b"], created.arguments)
    x = torch.randn(2, 3, 32, 32)
    loaded = load_classifier(tmp_path)
    torch.testing.assert_close(loaded.network(x), created.network.eval()(x))


@pytest.mark.parametrize("pool", ["own", "avg"])
def test_a_network_of_torchvision_without_a_square_map_is_told_why(pool: str) -> None:
    spec = ModelSpec(backbone="torchvision:swin_t", head=Head(pool=pool))
    with pytest.raises(RecipeError, match=r"torchvision:swin_t gives no square map") as error:
        create_network(spec, Input(size=64), 3)
    assert "pool = own" not in str(error.value)

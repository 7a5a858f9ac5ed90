from __future__ import annotations

import json
import os
import shutil
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import run
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from retrieval.backbones import folder_fingerprint, load_backbone, parse_name, with_random_weights
from retrieval.encoder import open_encoder
from retrieval.errors import BackboneError, GalleryError
from retrieval.retriever import Retriever
from tests.samples import save_weights
from tests.timm_versions import as_the_table, read_by_timm

PIXELS = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def copy(weights: Path, tmp_path: Path) -> Path:
    """The weights, for a test to damage."""
    return Path(shutil.copytree(weights, tmp_path / "copy"))


def change(folder: Path, **keys: object) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | keys))


def change_weights(
    folder: Path, change: Callable[[str, torch.Tensor], torch.Tensor | None]
) -> None:
    """Replace each stored tensor by what change makes of it; None leaves it out."""
    file = folder / "model.safetensors"
    changed = {key: change(key, tensor) for key, tensor in load_file(file).items()}
    save_file({key: tensor for key, tensor in changed.items() if tensor is not None}, file)


def embed(folder: Path, **options: Any) -> torch.Tensor:
    with torch.inference_mode():
        return torch.as_tensor(load_backbone(str(folder), **options).network(PIXELS))


def test_short_names_stand_for_timm_names() -> None:
    import timm

    for name in ("mobilenetv2", "resnet50", "efficientnet-b7"):
        assert str(parse_name(name)) in timm.list_pretrained()


def test_every_kind_of_name_has_one_form(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(weights.parent)
    monkeypatch.setenv("HOME", str(weights.parent))
    for name in (str(weights), "small", "./small", "~/small", "local-dir:small"):
        assert str(parse_name(name)) == str(weights)
    assert str(parse_name("hf-hub:someone/model")) == "hf-hub:someone/model"
    assert str(parse_name("vit_tiny_patch16_224")) == "vit_tiny_patch16_224"


def test_a_folder_as_timm_writes_it_gives_what_timm_reads_from_it(tmp_path: Path) -> None:
    import timm
    from timm.models._hub import save_for_hf

    torch.manual_seed(0)
    model = timm.create_model("mobilenetv3_small_050", num_classes=7)
    save_for_hf(model, str(tmp_path), safe_serialization=True)
    theirs = read_by_timm(tmp_path, num_classes=0).eval()
    with torch.inference_mode():
        assert torch.equal(embed(tmp_path), theirs(PIXELS))
    spec = load_backbone(str(tmp_path)).spec
    assert (spec.dim, spec.preprocessing.size) == (1024, 224)
    assert spec.weights_sha256 == folder_fingerprint(parse_name(str(tmp_path)))


@pytest.mark.long
@pytest.mark.parametrize("made", [{"act_layer": "gelu"}, {"bn_eps": 0.5}, {"global_pool": "max"}])
def test_how_a_network_is_made_is_part_of_what_it_is(
    weights: Path, copy: Path, tmp_path: Path, made: dict[str, object]
) -> None:
    change(copy, model_args=made)
    one, two = load_backbone(str(weights)), load_backbone(str(copy))
    assert one.spec.fingerprint != two.spec.fingerprint
    assert two.spec.weights_sha256 == folder_fingerprint(parse_name(str(copy)))
    pixels = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), np.uint8)
    kept = tmp_path / "cache"  # of exports: the second has one of its own
    embedded = [
        open_encoder(b.spec, lambda b=b: b, cache=kept).encode(pixels)  # type: ignore[misc]
        for b in (one, two)
    ]
    alone = open_encoder(two.spec, lambda: two, cache=tmp_path / "other").encode(pixels)
    assert embedded[1] == pytest.approx(alone, abs=1e-3)
    assert (embedded[0] * embedded[1]).sum(axis=1).max() < 0.99


def test_where_to_load_from_is_no_part_of_it(weights: Path, copy: Path) -> None:
    change(copy, model_args={"num_classes": 0, "checkpoint_path": "elsewhere", "in_chans": 3})
    assert load_backbone(str(copy)).spec.fingerprint == load_backbone(str(weights)).spec.fingerprint


@pytest.mark.parametrize("made", [{"model_args": {"act_layer": "gelu"}}, {"architecture": "other"}])
def test_a_gallery_refuses_a_network_that_is_made_in_another_way(
    copy: Path, pictures: Path, tmp_path: Path, made: dict[str, object]
) -> None:
    Retriever(tmp_path / "g", backbone=str(copy)).index(pictures)
    change(copy, **made)
    with pytest.raises(GalleryError, match=r"other weights of .*--reembed"):
        Retriever(tmp_path / "g").index(pictures)


def test_weights_may_be_stored_in_half_precision(weights: Path, copy: Path) -> None:
    change_weights(copy, lambda _, x: x.half() if x.is_floating_point() else x)
    ours, half = embed(weights), embed(copy)
    assert half.dtype == torch.float32
    assert torch.cosine_similarity(ours, half).min() > 0.9999


def test_preprocessing_comes_from_the_models_own_config(copy: Path) -> None:
    cfg = {"input_size": [3, 96, 96], "mean": [0.1, 0.2, 0.3], "interpolation": "bilinear"}
    change(copy, pretrained_cfg=cfg | {"std": [0.4, 0.5, 0.6], "crop_pct": 0.8})
    p = load_backbone(str(copy)).spec.preprocessing
    assert (p.size, p.mean, p.std) == (96, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert (p.interpolation, p.crop_pct, p.fit) == ("bilinear", 0.8, "squash")
    assert load_backbone(str(copy), size=128, fit="crop").spec.preprocessing.size == 128


def test_an_older_config_has_the_preprocessing_at_its_top(copy: Path) -> None:
    old = {"architecture": "mobilenetv3_small_050", "input_size": [3, 96, 96], "num_classes": 0}
    (copy / "config.json").write_text(json.dumps(old | {"mean": [0.1, 0.2, 0.3]}))
    p = load_backbone(str(copy)).spec.preprocessing
    assert (p.size, p.mean) == (96, (0.1, 0.2, 0.3))


@pytest.mark.parametrize("size", [128, 224, 600])
def test_a_cnn_takes_any_size(weights: Path, size: int) -> None:
    assert load_backbone(str(weights), size=size).spec.preprocessing.size == size


def test_a_transformer_takes_another_size(tmp_path: Path) -> None:
    folder = save_weights(tmp_path / "vit", seed=0, architecture="vit_tiny_patch16_224", size=224)
    backbone = load_backbone(str(folder), size=96)
    assert backbone.network(torch.zeros(1, 3, 96, 96)).shape == (1, 192)
    assert backbone.spec.preprocessing.size == 96
    with pytest.raises(BackboneError, match=r"patches of 16 px, and 100 px is not a multiple"):
        load_backbone(str(folder), size=100)


@pytest.mark.parametrize(("name", "size"), [("pvt_v2_b0", 96), ("pit_ti_224", 72)])
def test_a_network_of_overlapping_patches_takes_any_size(name: str, size: int) -> None:
    backbone = load_backbone(f"random:{name}", size=size)
    expected = backbone.network(torch.zeros(1, 3, size, size)).shape
    assert expected == (1, backbone.spec.dim)


def test_every_part_of_a_spec_but_the_name_is_in_its_fingerprint(weights: Path, copy: Path) -> None:
    one = load_backbone(str(weights)).spec.fingerprint
    assert load_backbone(str(copy)).spec.fingerprint == one
    assert load_backbone(str(weights), size=96).spec.fingerprint != one
    change(copy, pretrained_cfg={"input_size": [3, 64, 64], "mean": [0, 0, 0]})
    assert load_backbone(str(copy)).spec.fingerprint != one


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("resnet5", "There is no backbone named 'resnet5'. Did you mean"),
        ("zzz", "Give a name that `imgret backbones` lists"),
        ("resnet50.none_such", "has no weights 'none_such'. Use one of a1_in1k"),
        ("/no/such/folder", "does not exist"),
    ],
)
def test_a_wrong_name_is_told_what_would_be_right(name: str, said: str) -> None:
    with pytest.raises(BackboneError, match=said):
        load_backbone(name)


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("config.json", b"{", "config.json cannot be read"),
        ("config.json", b"[]", "is not a timm configuration"),
        ("config.json", b"{}", "names no architecture"),
        ("config.json", b'{"architecture": "none_such"}', r"has no .*copy/config\.json"),
        (
            "config.json",
            b'{"architecture": "resnet18", "model_args": {"act_layer": "x"}}',
            "nothing is known as 'x'",
        ),
        ("config.json", b'{"architecture": "resnet18"}', "cannot be loaded"),
        ("config.json", b'{"architecture": "resnet18", "model_args": 3}', "is not a timm"),
        ("config.json", b"[" * 200_000, "cannot be read"),
        ("model.safetensors", b"", "cannot be loaded"),
        ("model.safetensors", struct.pack("<Q", 1 << 60) + b"{}", "cannot be loaded"),
        ("model.safetensors", struct.pack("<Q", 2) + b"{}", "cannot be loaded"),
        ("model.safetensors", b"garbage" * 99, "cannot be loaded"),
    ],
)
def test_a_broken_folder_is_one_sentence(copy: Path, file: str, content: bytes, said: str) -> None:
    (copy / file).write_bytes(content)
    with pytest.raises(BackboneError, match=said):
        load_backbone(str(copy))


def test_truncated_weights_are_one_sentence(copy: Path) -> None:
    content = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(BackboneError, match="cannot be loaded"):
        load_backbone(str(copy))


def test_a_pickle_is_never_read(copy: Path) -> None:
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(BackboneError, match=r"has no model\.safetensors"):
        load_backbone(str(copy))


ELSEWHERE = {"url": "http://127.0.0.1/x", "custom_load": True, "hf_hub_id": "x/y"}


@pytest.mark.parametrize(
    "keys",
    [
        lambda file: {"pretrained_cfg": ELSEWHERE | {"file": file}},
        lambda file: {"pretrained_cfg": ELSEWHERE | {"source": "hf-hub"}},
        lambda file: {"pretrained_cfg": ELSEWHERE | {"source": "local-dir", "file": file}},
        lambda file: {"pretrained_cfg": ELSEWHERE | {"custom_load": "hf"}},
        lambda file: {"model_args": {"pretrained_cfg": {"file": file}}},
        lambda file: {"model_args": {"pretrained_cfg_overlay": {"file": file}}},
        lambda file: {"model_args": {"checkpoint_path": file, "pretrained": False}},
        lambda file: {"file": file, "url": "http://127.0.0.1/x", "custom_load": True},
    ],
)
def test_a_config_cannot_point_to_other_weights(
    weights: Path, other_weights: Path, copy: Path, keys: Callable[[str], dict[str, object]]
) -> None:
    change(copy, **keys(str(other_weights / "model.safetensors")))
    assert torch.equal(embed(copy, size=64), embed(weights, size=64))


@pytest.mark.parametrize(
    "cfg",
    [
        {"mean": 3}, {"mean": [0.1]}, {"mean": [1, 2, "x"]}, {"mean": [float("nan")] * 3},
        {"std": [0, 0, 0]}, {"input_size": [3]}, {"input_size": [3, 0, 0]},
        {"input_size": [3, -64, -64]}, {"input_size": [3, 64, 96]}, {"input_size": "large"},
        {"input_size": [3, 10**6, 10**6]}, {"interpolation": "magic"}, {"interpolation": ["x"]},
        {"crop_pct": "x"}, {"crop_pct": 5}, pytest.param({"first_conv": 7}, marks=as_the_table),
        {"fixed_input_size": True},
    ],
    ids=json.dumps,
)  # fmt: skip
def test_a_preprocessing_that_makes_no_sense_is_one_sentence(
    copy: Path, cfg: dict[str, object]
) -> None:
    change(copy, pretrained_cfg={"input_size": [3, 64, 64]} | cfg)
    with pytest.raises(BackboneError, match="copy"):
        load_backbone(str(copy), size=64 if "fixed_input_size" in cfg else None)


@pytest.mark.parametrize(
    "arguments",
    [
        {"drop_rate": "x"}, {"global_pool": 7}, {"act_layer": "os.system"}, {"name": "x"},
        {"size": 5}, {"weights": "x"}, {"cfg": {}}, {"model_name": "x"}, {"device": "meta"},
        {"pretrained_filter_fn": "x"}, {"model_cls": "x"}, {"width_mult": 9999},
        {"global_pool": ""},
    ],
    ids=json.dumps,
)  # fmt: skip
def test_arguments_that_make_no_sense_are_one_sentence(
    copy: Path, arguments: dict[str, object]
) -> None:
    change(copy, model_args=arguments)
    with pytest.raises(BackboneError, match="copy"):
        load_backbone(str(copy))


@pytest.mark.parametrize(
    "name", ["mobilenetv3_small_050.none_such", "hf-hub:x/y", "../x", "", "x" * 10_000, 7, None]
)
def test_an_architecture_that_timm_does_not_know_is_one_sentence(copy: Path, name: object) -> None:
    change(copy, architecture=name)
    with pytest.raises(BackboneError, match=r"architecture|tag") as caught:
        load_backbone(str(copy))
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("classes", [0, 1000])
def test_a_prefix_of_all_weights_is_named(copy: Path, classes: int) -> None:
    change(copy, num_classes=classes, pretrained_cfg={"num_classes": classes})
    weights = load_file(copy / "model.safetensors")
    renamed = {f"encoder.body.{key}": value for key, value in weights.items()}
    save_file({**renamed, "head.weight": torch.zeros(2, 2)}, copy / "model.safetensors")
    said = r"has 'encoder\.body\.' before the names .* Remove it from each name\."
    with pytest.raises(BackboneError, match=said):
        load_backbone(str(copy))


def test_weights_that_leave_a_part_random_are_refused(copy: Path) -> None:
    # a classifier in the config makes timm itself pass over what is missing
    change(copy, num_classes=1000, pretrained_cfg={"num_classes": 1000, "classifier": "classifier"})
    change_weights(copy, lambda key, x: None if key.startswith("blocks.3") else x)
    with pytest.raises(
        BackboneError, match=r"lacks \d+ of the network's weights, such as blocks\.3"
    ):
        load_backbone(str(copy))


def test_weights_that_are_not_numbers_are_refused(copy: Path) -> None:
    change_weights(copy, lambda _, x: x * float("nan") if x.is_floating_point() else x)
    with pytest.raises(BackboneError, match="not finite"):
        load_backbone(str(copy))


def test_a_network_for_grey_images_is_refused(tmp_path: Path) -> None:
    import timm
    from timm.models._hub import save_for_hf

    model = timm.create_model("mobilenetv3_small_050", in_chans=1, num_classes=0)
    config = {"input_size": [1, 64, 64], "num_classes": 0}
    save_for_hf(model, str(tmp_path), model_config=config, safe_serialization=True)
    with pytest.raises(BackboneError, match=r"\w"):
        load_backbone(str(tmp_path))
    config = json.loads((tmp_path / "config.json").read_text())
    change(tmp_path, pretrained_cfg=config["pretrained_cfg"] | {"input_size": [1, 64, 64]})
    with pytest.raises(BackboneError, match="imgret needs 3 channels"):
        load_backbone(str(tmp_path))


def test_a_size_that_a_transformer_cannot_take_is_one_sentence() -> None:
    with pytest.raises(BackboneError, match="size"):
        with_random_weights("vit_tiny_patch16_224", size=8)


def test_weights_that_are_not_here_and_no_hub_are_told_with_the_ways_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for name in ("resnet50", "hf-hub:nobody/nothing"):
        with pytest.raises(BackboneError) as caught:
            load_backbone(name)
        for part in (
            str(parse_name(name)),
            "not on this machine",
            "model.safetensors",
            "HF_HOME",
        ):
            assert part in str(caught.value)


NO_HUB = "http://127.0.0.1:9"  # where nothing listens
HUB = {
    "mobilenetv3_small_050.lamb_in1k": "timm/mobilenetv3_small_050.lamb_in1k",
    "hf-hub:someone/model": "someone/model",
    "hf-hub:other/model@v1": "other/model",
}


def fill_hub_cache(cache: Path, repository: str, files: Path) -> Path:
    """The layout in which the hub library keeps a repository, at the revisions main and v1."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    shutil.copytree(files, folder / "snapshots" / "abc")
    (folder / "refs").mkdir()
    for revision in ("main", "v1"):
        (folder / "refs" / revision).write_text("abc")
    return folder / "snapshots" / "abc"


@pytest.mark.long
@pytest.mark.parametrize("offline", ["0", "1"])
def test_a_filled_hub_cache_serves_without_a_network(
    weights: Path, tmp_path: Path, offline: str
) -> None:
    for repository in HUB.values():
        fill_hub_cache(tmp_path, repository, weights)
    code = (
        "import sys; from retrieval.backbones import load_backbone\n"
        "events = []\n"
        "sys.addaudithook(lambda event, _: events.append(event))\n"
        "for name in sys.argv[1:]: print(load_backbone(name, size=64).spec.weights_sha256)\n"
        "print(events.count('socket.connect'), file=sys.stderr)"
    )
    done = run(
        [sys.executable, "-W", "ignore", "-c", code, *HUB],
        env=os.environ
        | {"HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": offline, "HF_ENDPOINT": NO_HUB},
        capture_output=True, text=True,
    )  # fmt: skip
    expected = folder_fingerprint(parse_name(str(weights)))
    assert done.stdout.split() == [expected] * 3, done.stderr[-1000:]
    tries = int(done.stderr.splitlines()[-1])  # between them the hub's client waits, ever longer
    assert tries == 0 if offline == "1" else tries <= 2 * len(HUB)


def test_a_pickle_in_the_hub_cache_is_never_read(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    for name, repository in HUB.items():
        snapshot = fill_hub_cache(tmp_path, repository, weights)
        (snapshot / "model.safetensors").rename(snapshot / "pytorch_model.bin")
        change(snapshot, pretrained_cfg={"hf_hub_filename": "pytorch_model.bin"})
        with pytest.raises(BackboneError, match="not on this machine"):
            load_backbone(name)


def test_weights_that_exist_only_as_a_pickle_are_refused() -> None:
    with pytest.raises(BackboneError, match="no weights in safetensors"):
        load_backbone("legacy_seresnet18.in1k")


def saved(folder: Path, name: str, **options: Any) -> Any:
    """A network of timm's, kept in a folder as timm keeps it."""
    import timm
    from timm.models._hub import save_for_hf

    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=2, **options).eval()
    save_for_hf(network, str(folder), safe_serialization=True)
    return network


@pytest.mark.parametrize("size", [None, 96])
def test_an_input_size_that_a_config_names_is_honoured(tmp_path: Path, size: int | None) -> None:

    saved(tmp_path, "test_vit", img_size=128)
    asked = {"img_size": size} if size else {}
    theirs = read_by_timm(tmp_path, num_classes=0, **asked)
    ours = load_backbone(str(tmp_path), size=size)
    side = ours.spec.preprocessing.size
    x = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(ours.network(x), theirs.eval()(x))
    assert ours.network.state_dict()["pos_embed"].shape[1] == (size or 128) ** 2 // 16**2 + 1


@pytest.mark.parametrize(
    "size",
    [0, -16, 10**6, "128", True, 64.0, [], [64], [64, 64, 64], [64, "x"], {}],
    ids=json.dumps,
)
def test_an_input_size_that_makes_no_sense_is_one_sentence(tmp_path: Path, size: object) -> None:
    saved(tmp_path, "test_vit")
    change(tmp_path, model_args={"img_size": size})
    with pytest.raises(BackboneError, match=r"model_args\.img_size"):
        load_backbone(str(tmp_path))


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_weights_of_a_wrapped_network_are_read_as_timm_reads_them(
    weights: Path, copy: Path, prefix: str
) -> None:
    stored = load_file(copy / "model.safetensors")
    save_file({prefix + k: v for k, v in stored.items()}, copy / "model.safetensors")
    assert torch.equal(embed(copy), embed(weights))


def test_weights_that_timm_renames_are_read_as_timm_reads_them(tmp_path: Path) -> None:

    theirs = saved(tmp_path, "convnext_atto")
    stored = load_file(tmp_path / "model.safetensors")
    former = {  # of the paper's repository, which timm's filter knows
        k.replace("head.norm.", "norm.").replace("head.fc.", "head."): v for k, v in stored.items()
    }
    assert former.keys() != stored.keys()
    save_file(former, tmp_path / "model.safetensors")
    theirs = read_by_timm(tmp_path, num_classes=0).eval()
    with torch.inference_mode():
        assert torch.equal(embed(tmp_path, size=64), theirs(PIXELS))


def test_weights_under_names_that_timm_does_not_know_are_refused(copy: Path) -> None:
    stored = load_file(copy / "model.safetensors")
    save_file({"encoder." + k: v for k, v in stored.items()}, copy / "model.safetensors")
    with pytest.raises(BackboneError, match=r"has 'encoder\.' before the names"):
        load_backbone(str(copy))


@pytest.mark.parametrize("name", ["efficientvit_m0", "xcit_nano_12_p16_224"])
def test_a_network_whose_tokens_come_from_convolutions_is_a_backbone(name: str) -> None:
    assert with_random_weights(name, size=64).spec.preprocessing.size == 64

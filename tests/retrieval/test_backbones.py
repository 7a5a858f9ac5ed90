from __future__ import annotations

import json
import os
import shutil
import struct
import sys
from pathlib import Path
from subprocess import run

import numpy as np
import pytest
import torch

from retrieval.backbones import folder_fingerprint, load, resolve, with_random_weights
from retrieval.errors import BackboneError
from tests.samples import save_weights


@pytest.fixture
def copy(weights: Path, tmp_path: Path) -> Path:
    """The weights, for a test to damage."""
    return Path(shutil.copytree(weights, tmp_path / "copy"))


def change(folder: Path, **keys: object) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | keys))


def test_short_names_stand_for_timm_names() -> None:
    import timm

    for name in ("mobilenetv2", "resnet50", "efficientnet-b7"):
        assert resolve(name) in timm.list_pretrained()


def test_a_folder_gives_what_timm_itself_reads_from_it(weights: Path) -> None:
    import timm

    theirs = timm.create_model(f"local-dir:{weights}", pretrained=True, num_classes=0).eval()
    ours = load(str(weights))
    pixels = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(ours.network(pixels), theirs(pixels))
    assert ours.spec.dim == 1024
    assert ours.spec.weights_sha256 == folder_fingerprint(str(weights))


def test_the_classifier_of_a_checkpoint_is_left_out(tmp_path: Path) -> None:
    import timm
    from safetensors.torch import save_file

    network = timm.create_model("mobilenetv3_small_050", num_classes=7)
    tmp_path.joinpath("c").mkdir()
    save_file(network.state_dict(), tmp_path / "c" / "model.safetensors")
    config = {"architecture": "mobilenetv3_small_050", "num_classes": 7, "pretrained_cfg": {}}
    (tmp_path / "c" / "config.json").write_text(json.dumps(config))
    assert load(str(tmp_path / "c"), size=64).spec.dim == 1024


def test_preprocessing_comes_from_the_models_own_config(copy: Path) -> None:
    cfg = {"input_size": [3, 96, 96], "mean": [0.1, 0.2, 0.3], "interpolation": "bilinear"}
    change(copy, pretrained_cfg=cfg | {"std": [0.4, 0.5, 0.6], "crop_pct": 0.8})
    p = load(str(copy)).spec.preprocessing
    assert (p.size, p.mean, p.std) == (96, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert (p.interpolation, p.crop_pct, p.fit) == ("bilinear", 0.8, "squash")
    assert load(str(copy), size=128, fit="crop").spec.preprocessing.size == 128


def test_a_transformer_takes_another_size() -> None:
    backbone = with_random_weights("vit_tiny_patch16_224", size=96)
    assert backbone.network(torch.zeros(1, 3, 96, 96)).shape == (1, 192)


def test_every_part_of_a_spec_but_the_name_is_in_its_fingerprint(weights: Path, copy: Path) -> None:
    one = load(str(weights)).spec.fingerprint
    assert load(str(copy)).spec.fingerprint == one
    assert load(str(weights), size=96).spec.fingerprint != one
    change(copy, pretrained_cfg={"input_size": [3, 64, 64], "mean": [0, 0, 0]})
    assert load(str(copy)).spec.fingerprint != one


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("resnet5", "There is no backbone named 'resnet5'. Did you mean"),
        ("zzz", "Give a timm name or a folder"),
        ("resnet50.none_such", "has no weights 'none_such', only a1_in1k"),
        ("/no/such/folder", "does not exist"),
    ],
)
def test_a_wrong_name_is_told_what_would_be_right(name: str, said: str) -> None:
    with pytest.raises(BackboneError, match=said):
        load(name)


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("config.json", b"{", "config.json cannot be read"),
        ("config.json", b"[]", "is not a timm configuration"),
        ("config.json", b"{}", "names no architecture"),
        ("config.json", b'{"architecture": "none_such"}', "knows no architecture"),
        ("config.json", b'{"architecture": "resnet18"}', "cannot be loaded"),
        ("config.json", b'{"architecture": "resnet18", "model_args": 3}', "is not a timm"),
        ("config.json", b"[" * 200_000, "cannot be read"),
        ("model.safetensors", b"", "cannot be loaded"),
        ("model.safetensors", struct.pack("<Q", 1 << 60) + b"{}", "cannot be loaded"),
        ("model.safetensors", b"garbage" * 99, "cannot be loaded"),
    ],
)
def test_a_broken_folder_is_one_sentence(copy: Path, file: str, content: bytes, said: str) -> None:
    (copy / file).write_bytes(content)
    with pytest.raises(BackboneError, match=said):
        load(str(copy))


def test_truncated_weights_are_one_sentence(copy: Path) -> None:
    content = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(BackboneError, match="cannot be loaded"):
        load(str(copy))


def test_a_pickle_is_never_read(copy: Path) -> None:
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(BackboneError, match=r"has no model\.safetensors"):
        load(str(copy))


def test_a_config_cannot_point_to_other_weights(copy: Path, tmp_path: Path) -> None:
    other = save_weights(tmp_path / "other", seed=5)
    cfg = {"input_size": [3, 64, 64], "file": str(other / "model.safetensors"), "url": "http://x"}
    change(copy, pretrained_cfg=cfg | {"custom_load": True, "hf_hub_id": "x/y", "source": "hf-hub"})
    change(copy, model_args={"pretrained_cfg": cfg, "checkpoint_path": str(other)})
    ours = load(str(copy)).network.state_dict()["conv_stem.weight"]
    assert not np.allclose(ours, load(str(other)).network.state_dict()["conv_stem.weight"])


def test_a_backbone_of_one_channel_is_refused(copy: Path) -> None:
    change(copy, pretrained_cfg={"input_size": [1, 64, 64]})
    with pytest.raises(BackboneError, match=r"\w"):
        load(str(copy))


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
            load(name)
        for part in (resolve(name), "not on this machine", "model.safetensors", "HF_HUB_OFFLINE"):
            assert part in str(caught.value)


@pytest.mark.parametrize("name", ["mobilenetv3_small_050.lamb_in1k", "hf-hub:someone/model"])
def test_a_filled_hub_cache_serves_without_a_network(
    weights: Path, tmp_path: Path, name: str
) -> None:
    repository = "timm/mobilenetv3_small_050.lamb_in1k" if "hf-hub" not in name else "someone/model"
    folder = tmp_path / f"models--{repository.replace('/', '--')}"
    shutil.copytree(weights, folder / "snapshots" / "abc")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc")
    code = (
        "import sys; from retrieval.backbones import load\n"
        "print(load(sys.argv[1], size=64).spec.dim)"
    )
    done = run(
        [sys.executable, "-W", "ignore", "-c", code, name],
        env=os.environ | {"HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "0"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout == "1024\n", done.stderr[-1000:]

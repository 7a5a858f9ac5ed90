from __future__ import annotations

import json
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional

from classify.slim import slim
from retrieval import backbones
from retrieval.encoder.openvino_cpu import compiled, read_network
from retrieval.encoder.torch_runners import normalised
from retrieval.errors import BackboneError, ImgretError
from tests.timm_versions import read_by_timm

pytest.importorskip("onnx")


@pytest.fixture
def mobilenet(tmp_path: Path) -> Path:
    """A folder as `imgret train` writes it, of a network with a classifier."""
    torch.manual_seed(0)
    network = timm.create_model("mobilenetv2_035", num_classes=3)
    folder = tmp_path / "run"
    folder.mkdir()
    save_file(network.state_dict(), folder / "model.safetensors")
    config = {
        "architecture": "mobilenetv2_035",
        "num_classes": 3,
        "label_names": ["a", "b", "c"],
        "pretrained_cfg": {
            "input_size": [3, 96, 96],
            "interpolation": "bicubic",
            "crop_pct": 1.0,
            "crop_mode": "squash",
            "mean": [0.4, 0.4, 0.4],
            "std": [0.2, 0.2, 0.2],
        },
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_a_slim_backbone_embeds_like_its_run_in_half_the_bytes(
    mobilenet: Path, tmp_path: Path
) -> None:
    slim(mobilenet, tmp_path / "slim")
    whole, thin = (backbones.load_backbone(str(f)) for f in (mobilenet, tmp_path / "slim"))
    x = torch.randn(4, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        agreement = functional.cosine_similarity(whole.network(x), thin.network(x))
    assert agreement.min() > 0.9999
    assert thin.spec.preprocessing == whole.spec.preprocessing
    sizes = [(f / "model.safetensors").stat().st_size for f in (tmp_path / "slim", mobilenet)]
    assert sizes[0] < 0.52 * sizes[1]


def test_a_slim_backbones_graph_has_the_same_weights_at_any_size(
    mobilenet: Path, tmp_path: Path
) -> None:
    slim(mobilenet, tmp_path / "slim")
    thin = backbones.load_backbone(str(tmp_path / "slim"))
    for size in (96, 64):
        pixels = torch.randint(256, (3, size, size, 3), dtype=torch.uint8)
        run = compiled(read_network(tmp_path / "slim" / "model.onnx", size), "fp32")
        with torch.inference_mode():
            wanted = normalised(thin)(pixels)
        agreement = functional.cosine_similarity(torch.from_numpy(run(pixels.numpy())), wanted)
        assert agreement.min() > 0.9999
    assert (tmp_path / "slim" / "model.onnx").stat().st_size < 200_000


def test_a_slim_backbone_has_no_classifier_and_timm_reads_it(
    mobilenet: Path, tmp_path: Path
) -> None:
    slim(mobilenet, tmp_path / "slim")
    stored = load_file(tmp_path / "slim" / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}
    assert not any(name.startswith("classifier") for name in stored)
    network = read_by_timm(tmp_path / "slim")
    assert network(torch.zeros(2, 3, 96, 96)).shape == (2, network.num_features)


def test_numbers_beyond_float16_are_refused(mobilenet: Path, tmp_path: Path) -> None:
    tensors = load_file(mobilenet / "model.safetensors")
    tensors["bn1.running_var"][0] = 1e6
    save_file(tensors, mobilenet / "model.safetensors")
    with pytest.raises(BackboneError, match=r"bn1.running_var has numbers that float16 cannot"):
        slim(mobilenet, tmp_path / "slim")
    assert not (tmp_path / "slim").exists()


def test_a_folder_that_cannot_be_written_is_named(mobilenet: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ImgretError, match="file cannot be written"):
        slim(mobilenet, tmp_path / "file")

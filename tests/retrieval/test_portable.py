"""A backbone as ONNX or OpenVINO's files, and what runs them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from imgret.cli import cli
from retrieval.backbones import Backbone, load_backbone, with_random_weights
from retrieval.encoder import compiled, export_backbone, normalise
from retrieval.encoder.onnx_files import write_onnx
from retrieval.encoder.torch_runners import torch_runner
from retrieval.errors import BackboneError, ImgretError
from retrieval.libraries import is_installed

needs_onnx = pytest.mark.skipif(not is_installed("onnx"), reason="onnx is not installed")
PIXELS = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)


@pytest.fixture(scope="module")
def backbone(weights: Path) -> Backbone:
    return load_backbone(str(weights))


def worst_cosine(network: Path, backbone: Backbone) -> float:
    runs = compiled(network, "fp32"), torch_runner(backbone)
    ours, torchs = (normalise(run(PIXELS)) for run in runs)
    return float((ours * torchs).sum(axis=1).min())


@pytest.mark.long
@pytest.mark.parametrize("name", [pytest.param("b.onnx", marks=needs_onnx), "b.64px/"])
def test_what_is_written_embeds_as_torch_does(
    backbone: Backbone, tmp_path: Path, name: str
) -> None:
    cosine = export_backbone(backbone, f"{tmp_path}/{name}")
    out = tmp_path / name
    assert cosine > 0.9999
    assert worst_cosine(out / "model.xml" if out.is_dir() else out, backbone) > 0.9999
    assert list(out.parent.iterdir()) == [out]


@needs_onnx
def test_an_onnx_file_is_one_by_the_rules(backbone: Backbone, tmp_path: Path) -> None:
    import onnx

    export_backbone(backbone, tmp_path / "b.onnx")
    onnx.checker.check_model(str(tmp_path / "b.onnx"), full_check=True)
    graph = onnx.load(str(tmp_path / "b.onnx")).graph
    assert [tensor.name for tensor in (*graph.input, *graph.output)] == ["pixels", "embedding"]


@needs_onnx
def test_a_transformer_is_written_too(tmp_path: Path) -> None:
    vit = with_random_weights("test_vit", size=64)
    export_backbone(vit, tmp_path / "vit.onnx")
    assert worst_cosine(tmp_path / "vit.onnx", vit) > 0.9999


@pytest.mark.parametrize("name", ["there", "model.xml"])
def test_a_folder_that_is_there_and_a_name_of_neither_kind_are_refused(
    backbone: Backbone, tmp_path: Path, name: str
) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(ImgretError, match=r"Name a new|Use \.onnx"):
        export_backbone(backbone, tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


@pytest.mark.skipif(is_installed("onnx"), reason="onnx is installed")
def test_without_onnx_a_sentence_says_how_to_install_it(backbone: Backbone, tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=r"Run `pip install 'imgret\S*\[onnx\]'"):
        write_onnx(backbone, tmp_path / "b.onnx")


@pytest.mark.long
def test_the_command_writes_openvinos_files_and_says_what_goes_in(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["export-backbone", str(weights), "--out", str(tmp_path / "out"), "--size", "64"]
    assert cli.main(arguments, standalone_mode=False) == 0
    assert "pixels, n x 64 x 64 x 3, uint8, RGB" in capsys.readouterr().out
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"model.xml", "model.bin", "encoder.json"}

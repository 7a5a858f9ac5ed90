from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from retrieval.backbones import Backbone, load_backbone
from retrieval.encoder import cache_folder, exported_encoder, normalise, open_encoder
from retrieval.encoder.torch_runners import normalised
from retrieval.errors import BackboneError
from retrieval.words import Engine
from tests.samples import picture

PIXELS = np.stack([np.asarray(picture(n, 64, 64)) for n in range(7)])


@pytest.fixture(scope="module")
def backbone(weights: Path) -> Backbone:
    return load_backbone(str(weights))


def never() -> Backbone:
    raise AssertionError("an export is here, so the network is not needed")


def in_torch(backbone: Backbone) -> np.ndarray:
    """The textbook way: pixels to [0, 1], the mean off, over the standard deviation."""
    p = backbone.spec.preprocessing
    planes = torch.from_numpy(PIXELS).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (p.mean, p.std))
    with torch.inference_mode():
        return normalise(backbone.network((planes - mean) / std).numpy())


@pytest.mark.parametrize("engine", ["openvino-fp32", "torch-fp32"])
def test_engines_agree_with_torch(backbone: Backbone, cache: Path, engine: str) -> None:
    encoder = open_encoder(backbone.spec, lambda: backbone, engine=engine, cache=cache)  # type: ignore[arg-type]
    embeddings = encoder.encode(PIXELS)
    assert (embeddings.shape, embeddings.dtype) == ((7, 1024), np.float32)
    assert (embeddings * in_torch(backbone)).sum(axis=1).min() > 0.9999
    assert encoder.encode(PIXELS[:1]) == pytest.approx(embeddings[:1], abs=1e-4)


def test_the_engine_chosen_agrees_with_torch(backbone: Backbone, cache: Path) -> None:
    encoder = open_encoder(backbone.spec, lambda: backbone, cache=cache)
    assert encoder.engine in {"openvino-bf16", "openvino-fp32", "torch-cuda-bf16"}
    assert (encoder.encode(PIXELS) * in_torch(backbone)).sum(axis=1).mean() > 0.999


def test_an_export_is_used_again(backbone: Backbone, cache: Path) -> None:
    first = open_encoder(backbone.spec, lambda: backbone, cache=cache)
    again = open_encoder(backbone.spec, never, cache=cache)
    assert (again.encode(PIXELS) == first.encode(PIXELS)).all()


class Tiny(torch.nn.Module):
    """A network whose export takes little time."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv2d(3, 4, 8, stride=8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.conv(x)).mean(dim=(2, 3))


@pytest.fixture
def tiny(backbone: Backbone) -> Backbone:
    return Backbone(replace(backbone.spec, dim=4, weights_sha256="1" * 64), Tiny().eval())


@pytest.mark.parametrize("n", [1, 2, 5, 7])
@pytest.mark.parametrize("engine", [None, "openvino-fp32", "torch-fp32"])
def test_batches_may_be_of_any_size(
    tiny: Backbone, cache: Path, engine: Engine | None, n: int
) -> None:
    encoder = open_encoder(tiny.spec, lambda: tiny, engine=engine, cache=cache)
    embeddings = encoder.encode(PIXELS[:n])
    assert (embeddings.shape, embeddings.dtype) == ((n, 4), np.float32)
    assert np.linalg.norm(embeddings, axis=1) == pytest.approx(np.ones(n), abs=1e-3)
    assert (embeddings * in_torch(tiny)[:n]).sum(axis=1).min() > 0.99


def test_pixels_need_not_be_contiguous(tiny: Backbone, cache: Path) -> None:
    encoder = open_encoder(tiny.spec, lambda: tiny, cache=cache)
    flipped = PIXELS[:, :, ::-1]
    assert (encoder.encode(flipped) == encoder.encode(flipped.copy())).all()


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("model.xml", lambda content: content[:100]),
        ("model.bin", lambda content: content[:100]),
        ("encoder.json", lambda content: content[:10]),
        ("encoder.json", lambda content: b"[]"),
        ("model.xml", lambda content: b"x" * len(content)),
        ("model.xml", lambda content: content[: len(content) // 2].ljust(len(content))),
        ("model.bin", None),
        ("model.xml", None),
    ],
)
def test_a_damaged_export_is_made_again(
    tiny: Backbone, tmp_path: Path, file: str, damage: Callable[[bytes], bytes] | None
) -> None:
    before = open_encoder(tiny.spec, lambda: tiny, cache=tmp_path).encode(PIXELS)
    (found,) = tmp_path.rglob(file)
    content = found.read_bytes()
    found.unlink()
    if damage:
        found.write_bytes(damage(content))
    engine: Engine = "openvino-bf16"
    assert exported_encoder(tiny.spec, engine, tmp_path) is None
    again = open_encoder(tiny.spec, lambda: tiny, cache=tmp_path)
    assert again.engine.startswith("openvino")
    assert again.encode(PIXELS) == pytest.approx(before, abs=1e-4)
    assert exported_encoder(tiny.spec, engine, tmp_path) is not None


def test_a_cache_that_cannot_be_written_is_done_without(tiny: Backbone, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    encoder = open_encoder(tiny.spec, lambda: tiny, cache=tmp_path / "file" / "cache")
    assert encoder.engine.startswith("openvino")
    assert "cannot be written (Not a directory)" in str(encoder.notice)
    assert encoder.encode(PIXELS).shape == (7, 4)


def test_the_cache_is_where_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("IMGRET_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    monkeypatch.delenv("IMGRET_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder().name == "imgret"


def test_two_that_export_at_once_do_not_disturb_each_other(tiny: Backbone, tmp_path: Path) -> None:
    def encode(own: Backbone) -> np.ndarray:
        return open_encoder(own.spec, lambda: own, cache=tmp_path).encode(PIXELS)

    networks = [Backbone(tiny.spec, Tiny().eval()) for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        one, *others = pool.map(encode, networks)
    assert all((one == other).all() for other in others)
    (export,) = (tmp_path / "encoders").iterdir()
    assert {file.name for file in export.iterdir()} == {"model.xml", "model.bin", "encoder.json"}


def test_other_weights_than_the_gallerys_are_refused(
    backbone: Backbone, other_weights: Path, tmp_path: Path
) -> None:
    other = load_backbone(str(other_weights))
    with pytest.raises(BackboneError, match="are not the ones used before"):
        open_encoder(backbone.spec, lambda: other, cache=tmp_path)


def test_the_same_weights_prepared_otherwise_are_refused_by_what_has_changed(
    backbone: Backbone, tmp_path: Path
) -> None:
    changed = replace(backbone.spec.preprocessing, mean=(0.1, 0.2, 0.3))
    other = replace(backbone, spec=replace(backbone.spec, preprocessing=changed))
    with pytest.raises(BackboneError, match=r"has the weights used before, but its config\.json"):
        open_encoder(backbone.spec, lambda: other, cache=tmp_path)


class Stubborn(torch.nn.Module):
    """A network that no exporter can follow: its way depends on the pixels."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        embeddings = x.mean(dim=(2, 3))
        for _ in range(int(x.abs().max().item() * 10) % 3 + 1):
            embeddings = torch.cat([embeddings, embeddings * 2], dim=1)[:, :4]
        return embeddings


class Unsupported(torch.nn.Module):
    """An operator that OpenVINO does not have."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.special.bessel_j0(x.mean(dim=(2, 3))) + 1


@pytest.mark.parametrize(("network", "dim"), [(Stubborn, 4), (Unsupported, 3)])
def test_torch_runs_what_openvino_cannot_convert(
    backbone: Backbone, tmp_path: Path, network: type[torch.nn.Module], dim: int
) -> None:
    spec = replace(backbone.spec, dim=dim, weights_sha256="0" * 64)
    stubborn = Backbone(spec, network())
    encoder = open_encoder(spec, lambda: stubborn, cache=tmp_path)
    assert encoder.engine == "torch-fp32"
    assert "OpenVINO cannot run" in str(encoder.notice)
    assert "\n" not in str(encoder.notice)
    assert encoder.encode(PIXELS).shape == (7, dim)
    with pytest.raises(BackboneError, match="Use --engine torch-fp32"):
        open_encoder(spec, lambda: stubborn, engine="openvino-fp32", cache=tmp_path)
    assert list((tmp_path / "encoders").iterdir()) == []


def test_a_failed_conversion_leaves_the_root_logger_as_it_was(
    backbone: Backbone, tmp_path: Path
) -> None:
    root = logging.getLogger()
    before = root.level, [*root.filters], [*root.handlers]
    spec = replace(backbone.spec, dim=3, weights_sha256="0" * 64)
    open_encoder(spec, lambda: Backbone(spec, Unsupported()), cache=tmp_path)
    assert (root.level, root.filters, root.handlers) == before


class Baked(torch.nn.Module):
    """A network whose trace holds the size of the batch that it was traced with."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = int(x.shape[0]) if torch.jit.is_tracing() else x.shape[0]
        return x.mean(dim=(2, 3)).reshape(rows, 3)


def test_what_cannot_be_traced_goes_through_torch_export(
    backbone: Backbone, tmp_path: Path
) -> None:
    spec = replace(backbone.spec, dim=3, weights_sha256="0" * 64)
    encoder = open_encoder(spec, lambda: Backbone(spec, Baked()), cache=tmp_path)
    assert encoder.engine.startswith("openvino")
    assert encoder.notice is None
    by_hand = normalise(normalised(Backbone(spec, Baked()))(torch.from_numpy(PIXELS)).numpy())
    assert (encoder.encode(PIXELS) * by_hand).sum(axis=1).min() > 0.9999


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
def test_cuda_without_a_device_is_one_sentence(backbone: Backbone, cache: Path) -> None:
    with pytest.raises(BackboneError, match="has no CUDA device"):
        open_encoder(backbone.spec, lambda: backbone, engine="torch-cuda-bf16", cache=cache)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_agrees_with_torch_on_the_cpu(backbone: Backbone, cache: Path) -> None:
    wanted = in_torch(backbone)
    encoder = open_encoder(backbone.spec, lambda: backbone, engine="torch-cuda-bf16", cache=cache)
    assert (encoder.encode(PIXELS) * wanted).sum(axis=1).mean() > 0.999


def test_a_gallery_of_another_machines_engine_can_be_searched(
    backbone: Backbone, cache: Path
) -> None:
    open_encoder(backbone.spec, lambda: backbone, cache=cache)
    assert exported_encoder(backbone.spec, "torch-cuda-bf16", cache) is not None


def test_threads_share_an_encoder(backbone: Backbone, cache: Path) -> None:
    encoder = open_encoder(backbone.spec, lambda: backbone, cache=cache)
    alone = [encoder.encode(PIXELS[n : n + 1]) for n in range(7)]
    with ThreadPoolExecutor(7) as pool:
        together = list(pool.map(lambda n: encoder.encode(PIXELS[n : n + 1]), range(7)))
    assert all((a == b).all() for a, b in zip(alone, together, strict=True))


@pytest.mark.long
@pytest.mark.parametrize("start", ["", "from imgret.process import _start_lean as s; s()\n"])
def test_openvino_is_kept_from_reporting_home(weights: Path, tmp_path: Path, start: str) -> None:
    """Whether it is imported with what converts networks, or a command leaves that out at first."""
    code = (
        f"{start}import sys, json; from pathlib import Path\n"
        "from retrieval.backbones import load_backbone\n"
        "from retrieval.encoder import open_encoder\n"
        "b = load_backbone(sys.argv[1]); open_encoder(b.spec, lambda: b, cache=Path(sys.argv[2]))\n"
        "assert 'convert_model' in dir(sys.modules['openvino.tools.ovc'])\n"
        "print(json.dumps([m for m in sys.modules if 'openvino_telemetry' in m]))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(weights), str(tmp_path / "cache")],
        env=os.environ | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout.splitlines()[-1]) == []
    assert not (tmp_path / "intel").exists()

"""imgret's own encoder: the default, read from the package, run without torch or timm."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from retrieval import backbones
from retrieval.backbones import MINI, Backbone, BackboneSpec, packaged_spec, parse_name
from retrieval.comparison import recipes
from retrieval.encoder import open_encoder
from retrieval.encoder.openvino_cpu import precision_of, read_network
from retrieval.errors import BackboneError, GalleryError
from retrieval.gallery import Gallery
from retrieval.retriever import Retriever
from retrieval.settings import EmbeddingSettings
from retrieval.words import Engine
from tests.samples import picture


def never() -> Backbone:
    raise AssertionError("imgret's own encoder needs no network of torch's")


def spec_of(**options: object) -> BackboneSpec:
    spec = packaged_spec(EmbeddingSettings(**options))  # type: ignore[arg-type]
    assert spec is not None
    return spec


def pixels_of(size: int) -> np.ndarray:
    return np.stack([np.asarray(picture(n, size, size)) for n in range(5)])


def worst_cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float((one * other).sum(axis=1).min())


def test_its_name_is_stored_and_hides_a_folder_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mini").mkdir()
    assert str(parse_name("mini")) == "mini"
    assert str(parse_name("./mini")) == str(tmp_path / "mini")
    assert backbones.input_size(parse_name("mini")) == spec_of().preprocessing.size


@pytest.mark.parametrize("options", [{}, {"size": 96, "fit": "crop"}])
def test_its_files_alone_tell_what_timm_makes_of_them(options: dict[str, object]) -> None:
    assert spec_of(**options) == backbones.load_backbone("mini", **options).spec  # type: ignore[arg-type]


@pytest.mark.long
@pytest.mark.parametrize("size", [None, 96, 224])
def test_it_embeds_as_torch_and_an_export_do(size: int | None, cache: Path) -> None:
    spec, from_folder = (
        spec_of(size=size),
        backbones.load_backbone(str(parse_name(MINI).folder), size=size),
    )
    pixels = pixels_of(spec.preprocessing.size)

    def embed(spec: BackboneSpec, load: Callable[[], Backbone], engine: Engine) -> np.ndarray:
        return open_encoder(spec, load, engine=engine, cache=cache).encode(pixels)

    direct = embed(spec, never, "openvino-fp32")
    exported = embed(from_folder.spec, lambda: from_folder, "openvino-fp32")
    in_torch = embed(from_folder.spec, lambda: from_folder, "torch-fp32")
    assert worst_cosine(direct, exported) > 0.9999
    assert worst_cosine(direct, in_torch) > 0.9999


@pytest.mark.skipif(precision_of(None) != "bf16", reason="this processor has no bfloat16")
def test_in_bfloat16_it_embeds_nearly_the_same(cache: Path) -> None:
    spec, pixels = spec_of(), pixels_of(spec_of().preprocessing.size)
    engines: tuple[Engine, Engine] = ("openvino-bf16", "openvino-fp32")
    one, other = (open_encoder(spec, never, engine=e, cache=cache).encode(pixels) for e in engines)
    assert worst_cosine(one, other) > 0.999


def test_nothing_is_exported_for_it(tmp_path: Path) -> None:
    encoder = open_encoder(spec_of(), never, cache=tmp_path / "cache")
    assert encoder.engine.startswith("openvino")
    assert not (tmp_path / "cache" / "encoders").exists()


@pytest.mark.long
def test_other_pools_and_views_go_through_timm(cache: Path) -> None:
    for options in ({"pool": "gem"}, {"views": "flip"}):
        assert packaged_spec(EmbeddingSettings(**options)) is None  # type: ignore[arg-type]
        backbone = backbones.load_backbone("mini", **options)  # type: ignore[arg-type]
        encoder = open_encoder(backbone.spec, lambda b=backbone: b, cache=cache)  # type: ignore[misc]
        pixels = pixels_of(backbone.spec.preprocessing.size)
        assert encoder.encode(pixels).shape == (5, backbone.spec.dim)


def test_it_is_the_default_and_says_so_once_a_gallery(pictures: Path, tmp_path: Path) -> None:
    retriever = Retriever(tmp_path / "g")
    report = retriever.index(pictures)
    assert (report.backbone, report.added) == ("mini", 24)
    assert "imgret's own small encoder" in str(report.notice)
    assert retriever.index(pictures).notice is None
    assert "imgret's own small encoder" in str(retriever.index(pictures, reembed=True).notice)
    assert Retriever(tmp_path / "named", backbone="mini").index(pictures).notice is None
    assert retriever.search(picture(3), k=1)[0].path.name == "03.jpg"


def test_a_gallery_of_another_engine_is_searched_without_it(pictures: Path, tmp_path: Path) -> None:
    Retriever(tmp_path / "g", backbone="mini", engine="torch-fp32").index(pictures)
    (best,) = Retriever(tmp_path / "g").search(pictures / "class0" / "03.jpg", k=1)
    assert (best.path.name, best.score) == ("03.jpg", pytest.approx(1, abs=1e-3))


def test_a_folder_of_the_same_weights_is_the_same_backbone(pictures: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(str(parse_name(MINI).folder), tmp_path / "copy")
    Retriever(tmp_path / "g", backbone=str(copy)).index(pictures)
    assert Retriever(tmp_path / "g", backbone="mini").index(pictures).unchanged == 24


def test_a_gallery_of_other_weights_of_it_asks_for_reembed(pictures: Path, tmp_path: Path) -> None:
    retriever = Retriever(tmp_path / "g")
    retriever.index(pictures)
    settings = retriever.gallery.settings().without_derived()
    old = replace(settings.backbone, weights_sha256="0" * 64)
    Gallery(tmp_path / "old").create(replace(settings, backbone=old))
    for again in (Retriever(tmp_path / "old"), Retriever(tmp_path / "old", backbone="mini")):
        with pytest.raises(GalleryError, match=r"other weights of mini .* --reembed"):
            again.index(pictures)
    with pytest.raises(BackboneError, match="--reembed"):
        Retriever(tmp_path / "old").encode([picture(3)])
    assert Retriever(tmp_path / "old").index(pictures, reembed=True).added == 24


def test_recipes_take_it_by_default_and_need_no_weights_for_it(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('[search]\ntransform = "none"\n')
    experiment = recipes.read_experiment(str(tmp_path / "mine.toml"))
    assert experiment.recipe.encoding.backbone == "mini"
    assert recipes.with_weights(experiment, [], random_weights=True) == experiment


@pytest.mark.long
def test_index_and_query_import_neither_torch_nor_timm(
    pictures: Path, tmp_path: Path, cache: Path
) -> None:
    code = (
        "import json, sys; from pathlib import Path; from imgret import Retriever\n"
        "retriever = Retriever(sys.argv[2])\n"
        "if sys.argv[1] == 'index': assert retriever.index(sys.argv[3]).added == 24\n"
        "else: assert len(retriever.search(sys.argv[3] + '/class0/03.jpg', k=3)) == 3\n"
        "print(json.dumps([m for m in ('torch', 'timm', 'sklearn', 'scipy', 'matplotlib',"
        " 'huggingface_hub') if m in sys.modules]))"
    )
    for verb in ("index", "query"):
        done = subprocess.run(
            [sys.executable, "-c", code, verb, str(tmp_path / "g"), str(pictures)],
            env=os.environ | {"IMGRET_CACHE": str(tmp_path / "cache")},
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-1000:]
        assert json.loads(done.stdout) == [], verb
    assert not (tmp_path / "cache" / "encoders").exists()


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """Its ONNX file with the weights beside it, for a test to damage."""
    folder = parse_name(MINI).folder
    assert folder is not None
    return Path(shutil.copytree(folder, tmp_path / "mini")) / "model.onnx"


def test_its_onnx_file_holds_the_graph_alone(network: Path) -> None:
    assert network.stat().st_size < 200_000
    assert read_network(network, 96).input(0).partial_shape.to_string() == "[?,96,96,3]"


@pytest.mark.parametrize("content", [b"", b"garbage" * 99])
@pytest.mark.parametrize("name", ["model.onnx", "model.safetensors"])
def test_a_file_that_is_none_is_one_sentence(network: Path, name: str, content: bytes) -> None:
    for change in (lambda f: f.write_bytes(content), Path.unlink):
        change(network.with_name(name))
        with pytest.raises(BackboneError, match=r"cannot be read .* Install imgret again") as said:
            read_network(network, 152)
        assert "\n" not in str(said.value)

"""A compiled network is kept, is opened as it was compiled, and is made again where it is wrong."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retrieval.backbones import load_backbone, packaged_network
from retrieval.backbones.packaged import packaged_spec
from retrieval.encoder import exported_encoder, open_encoder, precision_of
from retrieval.encoder.compilation import LARGEST_KEPT, open_compiled
from retrieval.encoder.openvino_cpu import read_network
from retrieval.settings import EmbeddingSettings
from tests.samples import picture

PIXELS = np.stack([np.asarray(picture(n, 152, 152)) for n in range(3)])
PRECISION = precision_of(None)


class Network:
    """The packaged network, which counts how often it is read."""

    def __init__(self) -> None:
        spec = packaged_spec(EmbeddingSettings(backbone="mini"))
        assert spec
        self.file = packaged_network(spec)
        self.reads = 0

    def __call__(self) -> Any:
        assert self.file
        self.reads += 1
        return read_network(self.file, PIXELS.shape[1])


def opened(network: Network, folder: Path, identity: str = "", *files: Path) -> np.ndarray:
    return open_compiled(network, PRECISION, files, folder / "mini", identity)(PIXELS)


def test_a_network_is_compiled_once(tmp_path: Path) -> None:
    network = Network()
    first = opened(network, tmp_path / "compiled")
    again = opened(network, tmp_path / "compiled")
    assert network.reads == 1
    assert np.array_equal(first, again)
    assert len(list((tmp_path / "compiled").iterdir())) == 1


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize(
    "damage",
    [flipped, lambda content: content[:-1], lambda content: content[:32], lambda content: b""],
    ids=["a flipped bit", "cut short", "the digest alone", "empty"],
)
def test_a_damaged_one_is_made_again(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    network = Network()
    first = opened(network, tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(damage(file.read_bytes()))
    assert np.array_equal(opened(network, tmp_path), first)
    assert network.reads == 2
    opened(network, tmp_path)
    assert network.reads == 2


def test_one_made_of_something_else_is_not_used(tmp_path: Path) -> None:
    network, file = Network(), tmp_path / "graph"
    for content, identity in [(b"a", "1"), (b"b", "1"), (b"b", "2")]:
        file.write_bytes(content)
        for _ in range(2):
            opened(network, tmp_path / "compiled", identity, file)
    assert network.reads == 3


def test_one_of_large_files_is_not_kept(tmp_path: Path) -> None:
    network, file = Network(), tmp_path / "graph"
    with file.open("wb") as stream:
        stream.truncate(LARGEST_KEPT + 1)
    opened(network, tmp_path / "compiled", "", file)
    assert not (tmp_path / "compiled").exists()


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    network = Network()
    opened(network, tmp_path / "here")
    (file,) = (tmp_path / "here").iterdir()
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / file.name).symlink_to(file)
    opened(network, tmp_path / "there")
    assert network.reads == 2
    assert not (tmp_path / "there" / file.name).is_symlink()


def test_a_folder_that_cannot_be_written_keeps_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    network = Network()
    first, again = (opened(network, tmp_path / "file" / "compiled") for _ in range(2))
    assert network.reads == 2
    assert np.array_equal(first, again)


def test_queries_of_mini_open_what_was_kept(tmp_path: Path) -> None:
    spec = packaged_spec(EmbeddingSettings(backbone="mini"))
    assert spec
    first, again = (exported_encoder(spec, "openvino-fp32", tmp_path) for _ in range(2))
    assert first
    assert again
    (file,) = (tmp_path / "compiled").iterdir()
    assert file.name.startswith(spec.fingerprint[:32])
    assert np.array_equal(first.encode(PIXELS), again.encode(PIXELS))


@pytest.mark.long
def test_an_export_is_compiled_once_and_again_when_it_changed(tmp_path: Path) -> None:
    backbone = load_backbone("random:resnet18", size=32)
    spec, engine = (
        backbone.spec,
        open_encoder(backbone.spec, lambda: backbone, cache=tmp_path).engine,
    )
    assert not (tmp_path / "compiled").exists()  # it may be given up, and is compiled for itself
    (graph,) = tmp_path.glob("encoders/*/model.xml")
    pixels, found = PIXELS[:, :32, :32], []
    for _ in range(2):
        encoder = exported_encoder(spec, engine, tmp_path)
        assert encoder
        (kept,) = (tmp_path / "compiled").iterdir()
        found.append((encoder.encode(pixels), kept.stat().st_mtime_ns))
    assert np.array_equal(found[0][0], found[1][0])
    assert found[0][1] == found[1][1]
    os.utime(graph, ns=(1, 1))
    exported_encoder(spec, engine, tmp_path)
    assert kept.stat().st_mtime_ns > found[1][1]

"""Pooling and views against what torch gives by hand, and through OpenVINO."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from retrieval import backbones
from retrieval.encoder import open_encoder
from retrieval.errors import BackboneError
from retrieval.words import POOLS, Pool, Views

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)


def planes(seed: int = 0) -> torch.Tensor:
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(seed))


def run(network: torch.nn.Module, x: torch.Tensor) -> np.ndarray:
    with torch.inference_mode():
        return network(x).numpy()


@pytest.mark.parametrize("pool", [pool for pool in POOLS if pool != "own"])
def test_a_map_is_pooled_as_by_hand(weights: Path, pool: Pool) -> None:
    plain = backbones.load_backbone(str(weights)).network
    with torch.inference_mode():
        places = plain.forward_features(planes()).flatten(2).numpy().astype(np.float64)  # type: ignore[operator]
    by_hand = {
        "avg": places.mean(axis=2),
        "max": places.max(axis=2),
        "gem": (np.maximum(places, 1e-6) ** 3).mean(axis=2) ** (1 / 3),
    }
    parts = [by_hand[kind] for kind in pool.split("+")]
    if len(parts) > 1:
        parts = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in parts]
    ours = backbones.load_backbone(str(weights), pool=pool)
    np.testing.assert_allclose(
        run(ours.network, planes()), np.concatenate(parts, axis=1), rtol=1e-3, atol=1e-5
    )
    assert ours.spec.dim == sum(part.shape[1] for part in parts)


def test_tokens_are_pooled_without_the_class_token() -> None:
    whole = backbones.with_random_weights("vit_tiny_patch16_224", size=64, pool="avg")
    tokens = backbones.with_random_weights("vit_tiny_patch16_224", size=64)
    with torch.inference_mode():
        patches = tokens.network.forward_features(planes())[:, 1:]  # type: ignore[operator]
    np.testing.assert_allclose(
        run(whole.network, planes()), patches.mean(dim=1).numpy(), rtol=1e-4, atol=1e-5
    )


def test_a_map_whose_channels_come_last_is_pooled_over_its_places() -> None:
    swin = backbones.with_random_weights("swin_tiny_patch4_window7_224", pool="max")
    assert swin.spec.dim == 768


def test_with_flip_a_picture_and_its_mirror_image_are_one(weights: Path) -> None:
    flip = backbones.load_backbone(str(weights), views="flip").network
    plain = backbones.load_backbone(str(weights)).network
    x = planes()
    np.testing.assert_allclose(run(flip, x), run(flip, x.flip(3)), atol=1e-6)
    assert not np.allclose(run(plain, x), run(plain, x.flip(3)), rtol=1e-3)


def test_several_scales_are_the_mean_of_each(weights: Path) -> None:
    plain = backbones.load_backbone(str(weights)).network
    views = backbones.load_backbone(str(weights), views="multiscale").network
    parts = []
    for side in (64, 32, 96):
        x = torch.nn.functional.interpolate(planes(), (side, side), mode="bilinear")
        part = run(plain, planes() if side == 64 else x)
        parts.append(part / np.linalg.norm(part, axis=1, keepdims=True))
    mean = np.mean(parts, axis=0)
    mean /= np.linalg.norm(mean, axis=1, keepdims=True)
    np.testing.assert_allclose(run(views, planes()), mean, atol=1e-5)


@pytest.mark.long
@pytest.mark.parametrize(
    ("pool", "views"),
    [
        ("avg+max", "none"),
        ("avg+gem", "flip"),
        pytest.param("own", "flip+multiscale", marks=pytest.mark.slow),
    ],
)
def test_openvino_agrees_with_torch(weights: Path, cache: Path, pool: Pool, views: Views) -> None:
    backbone = backbones.load_backbone(str(weights), pool=pool, views=views)
    exported, plain = (
        open_encoder(backbone.spec, lambda: backbone, engine=engine, cache=cache)
        for engine in ("openvino-fp32", "torch-fp32")
    )
    cosines = (exported.encode(PIXELS) * plain.encode(PIXELS)).sum(axis=1)
    assert cosines.min() > 0.9999


def test_pooling_and_views_are_part_of_the_fingerprint(weights: Path) -> None:
    prints = {
        backbones.load_backbone(str(weights), pool=pool, views=views).spec.fingerprint
        for pool, views in (("own", "none"), ("avg", "none"), ("max", "none"), ("own", "flip"))
    }
    assert len(prints) == 4


def test_a_network_of_one_size_sees_no_other() -> None:
    with pytest.raises(BackboneError, match="one size only"):
        backbones.with_random_weights("vit_tiny_patch16_224", size=64, views="multiscale")


def test_random_weights_have_a_name_and_are_the_same_each_time() -> None:
    first, second = (
        backbones.load_backbone("random:mobilenetv3_small_050", size=64) for _ in range(2)
    )
    assert first.spec == second.spec
    assert first.spec.name == "random:mobilenetv3_small_050"
    assert str(backbones.parse_name("random:resnet50")) == "random:resnet50"

"""The table of timm's backbones says what timm says."""

from __future__ import annotations

import random

import pytest
import timm
import torch
from timm.models import get_pretrained_cfg

from retrieval.backbones import SHORT_NAMES, KnownBackbone, alike, known_backbones
from retrieval.backbones.names import TIMM
from tests.timm_versions import as_the_table

SMALL = 40_000_000  # parameters: networks that are made in a blink
HERE = set(timm.list_pretrained())  # an older timm than that of the table has fewer
BY_NAME = {known.name: known for known in known_backbones() if known.name in HERE}
CHOSEN = [
    "resnet50.a1_in1k",  # its width is num_features
    "mobilenetv3_small_050.lamb_in1k",  # its width is not
    "vit_tiny_patch16_224.augreg_in21k_ft_in1k",  # built for one size
    *random.Random(0).sample(sorted(n for n, b in BY_NAME.items() if b.parameters < SMALL), 9),  # noqa: S311
]


@pytest.mark.parametrize("name", CHOSEN)
def test_a_row_is_what_timms_network_is(name: str) -> None:
    known, cfg = BY_NAME[name], get_pretrained_cfg(name)
    network = timm.create_model(name, num_classes=0).eval()
    with torch.inference_mode():
        embedding = network(torch.zeros(1, *cfg.input_size))
    assert embedding.shape == (1, known.width)
    assert known.input == cfg.input_size[-1]
    assert known.parameters == sum(p.numel() for p in network.parameters())


@as_the_table
def test_every_row_has_the_repository_and_the_licence_that_timm_names() -> None:
    for known in BY_NAME.values():
        cfg = get_pretrained_cfg(known.name, allow_unregistered=False)
        assert known.repository == cfg.hf_hub_id
        assert known.licence == (cfg.license if cfg.license not in (None, "unknown") else "")
        assert known.input == cfg.input_size[-1]


@as_the_table
def test_the_table_has_all_that_timm_has_weights_for_but_a_few() -> None:
    assert {known.name for known in known_backbones()} <= HERE
    assert len(BY_NAME) > 0.97 * len(HERE)
    assert set(SHORT_NAMES.values()) <= set(BY_NAME)


def test_most_repositories_are_timms_own() -> None:
    own = [known for known in known_backbones() if known.repository == TIMM + known.name]
    assert len(own) > 0.9 * len(BY_NAME)


def test_a_row_knows_its_architecture() -> None:
    known = KnownBackbone("resnet18.a1_in1k", 512, 224, 1, "", "timm/resnet18.a1_in1k")
    assert known.architecture == "resnet18"


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("resnt50", "resnet50"),
        ("RESNET50D.none", "resnet50d"),
        ("dinov2", "vit_base_patch14_dinov2"),
        ("mobilnetv2", "mobilenetv2"),
        ("efficientnet-b77", "efficientnet-b7"),
    ],
)
def test_names_that_are_alike_are_told(wrong: str, meant: str) -> None:
    assert meant in alike(wrong, *SHORT_NAMES)
    assert len(alike(wrong)) <= 5


def test_nothing_is_like_nonsense() -> None:
    assert alike("§§§§") == []
    assert len(alike("")) <= 5

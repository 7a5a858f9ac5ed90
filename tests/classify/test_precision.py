"""What a network is computed in."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from classify.training.precision import autocast

CPU = torch.device("cpu")
IN_BFLOAT16 = bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (nn.Conv2d(4, 8, 3), IN_BFLOAT16),
        (nn.Conv2d(4, 8, 3, groups=2), IN_BFLOAT16),
        (nn.Conv2d(1, 8, 3), IN_BFLOAT16),
        (nn.Sequential(nn.Conv2d(4, 8, 3), nn.Conv2d(8, 8, 3, groups=8)), False),
    ],
)
def test_bfloat16_is_for_machines_that_have_it_and_networks_without_depthwise_convolutions(
    network: nn.Module, expected: bool
) -> None:
    first = network if isinstance(network, nn.Conv2d) else network[0]
    pictures = torch.rand(2, first.in_channels, 8, 8)
    with autocast(network, CPU):
        computed = network(pictures).dtype
    assert computed == (torch.bfloat16 if expected else torch.float32)
    assert network(pictures).dtype == torch.float32

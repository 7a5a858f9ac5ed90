"""bfloat16 where the machine and the network gain from it."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import nn


def autocast(network: nn.Module, device: torch.device) -> AbstractContextManager[object]:
    """Give a context that computes in bfloat16, or in float32 if that is faster.

    A CPU computes convolutions up to twice as fast in bfloat16, and depthwise ones slower
    (docs/benchmarks.md, Training).
    """
    gains = device.type == "cuda" or (
        torch.ops.mkldnn._is_mkldnn_bf16_supported() and not _is_depthwise(network)
    )
    return torch.autocast(device.type, torch.bfloat16, enabled=bool(gains))


def _is_depthwise(network: nn.Module) -> bool:
    return any(
        isinstance(module, nn.Conv2d) and 1 < module.groups == module.in_channels
        for module in network.modules()
    )

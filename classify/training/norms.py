"""Batch norms: which of them learn, and the statistics that they are judged with."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

NORMS = (nn.modules.batchnorm._BatchNorm,)


def training_mode(network: nn.Module, *, running: bool = False) -> None:
    """Training mode, but for frozen batch norms, whose statistics must not move either.

    running: all batch norms keep and use their moving statistics, while their weights may learn.
    """
    network.train()
    for module in network.modules():
        if isinstance(module, NORMS) and module.weight is not None:
            module.train(module.weight.requires_grad and not running)


def measure_norms(network: nn.Module, pictures: Iterable[torch.Tensor]) -> None:
    """Replace the moving statistics of batch norms that learn by the mean over these batches.

    Moving averages lag behind quickly changing weights, and pictures with large even backgrounds
    leave little room for error (Wu and Johnson 2021, "Rethinking 'Batch' in BatchNorm").
    """
    training_mode(network)
    norms = [m for m in network.modules() if isinstance(m, NORMS) and m.training]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch's word for the mean of all batches
    with torch.no_grad():
        for batch in pictures:
            network(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum

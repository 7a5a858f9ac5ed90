"""The statistics of batch norms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from classify.training.norms import measure_norms


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.BatchNorm2d(3))


def pictures() -> torch.Tensor:
    return torch.randn(4, 6, 3, 5, 5, generator=torch.Generator().manual_seed(1)) * 3 + 7


def test_measured_statistics_are_the_means_over_the_batches() -> None:
    norms, batches = network(), pictures()
    norms[0].running_mean.fill_(99)
    measure_norms(norms, batches)
    values = batches.double().numpy().transpose(0, 2, 1, 3, 4).reshape(4, 3, -1)
    np.testing.assert_allclose(norms[0].running_mean, values.mean(-1).mean(0), rtol=1e-5)
    np.testing.assert_allclose(norms[0].running_var, values.var(-1, ddof=1).mean(0), rtol=1e-5)
    normal = (values - values.mean(-1, keepdims=True)) / values.std(-1, keepdims=True)
    after = np.maximum(normal, 0)
    np.testing.assert_allclose(norms[2].running_mean, after.mean(-1).mean(0), rtol=1e-4)


def test_measuring_leaves_weights_momentum_and_frozen_norms_alone() -> None:
    norms = network()
    norms[2].requires_grad_(requires_grad=False)
    norms[0].momentum = 0.25
    measure_norms(norms, pictures())
    assert norms[0].momentum == 0.25
    assert norms[2].running_mean.eq(0).all()
    assert norms[2].running_var.eq(1).all()
    assert all(
        norm.weight.grad is None and norm.weight.eq(1).all() for norm in (norms[0], norms[2])
    )


def test_an_even_background_is_judged_by_its_own_statistics() -> None:
    white = torch.full((2, 4, 3, 5, 5), 2.0) + pictures()[:2, :4] / 1000
    norms = network().requires_grad_(requires_grad=False).train()
    norms(white[0])  # one step of a moving average
    moving = norms.eval()(white[1]).mean()
    measure_norms(norms.requires_grad_(), white)
    with torch.no_grad():
        measured = norms.eval()(white[1]).mean()
    assert float(measured) == pytest.approx(0, abs=0.05)
    assert abs(float(moving)) > 0.5

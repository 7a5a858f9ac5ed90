"""Which layers learn, in which groups, how fast."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler, StepLRScheduler
from timm.scheduler.scheduler import Scheduler
from torch import nn

from classify.models import head_parameters, layers_of
from classify.recipe import Phase, TrainingSettings
from retrieval.errors import RecipeError

NEVER = 10**9  # steps


def open_layers(network: nn.Module, phase: Phase) -> None:
    """Let the head learn, and as much of the backbone as the phase says."""
    network.requires_grad_(requires_grad=phase.open == "all")
    if isinstance(phase.open, int):
        for layer in layers_of(network)[-phase.open :]:
            layer.requires_grad_(requires_grad=True)
    for parameter in head_parameters(network):
        parameter.requires_grad = True


def make_optimiser(
    network: nn.Module, settings: TrainingSettings, extra: Sequence[nn.Parameter]
) -> torch.optim.Optimizer:
    """Make timm's optimiser of that name. extra: proxies of a metric loss, at the head's rate.

    Biases and batch norms have no weight decay. Raises RecipeError for a name that timm lacks.
    """
    heads = {id(p) for p in head_parameters(network)} | {id(p) for p in extra}
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter in [*network.parameters(), *extra]:
        if parameter.requires_grad:
            key = (id(parameter) in heads, parameter.ndim > 1)
            groups.setdefault(key, []).append(parameter)
    described = [
        {
            "params": parameters,
            "lr": settings.lr * (1 if is_head else settings.backbone_lr),
            "weight_decay": settings.weight_decay if decays else 0.0,
        }
        for (is_head, decays), parameters in sorted(groups.items(), reverse=True)
    ]
    name = settings.optimiser
    try:
        optimiser = create_optimizer_v2(described, opt=name, lr=settings.lr)
    except (ValueError, AssertionError) as error:
        raise RecipeError(
            f"training.optimiser: timm has no optimiser {name!r}. Use adam, adamw, sgd or lamb."
        ) from error
    if getattr(optimiser, "is_second_order", False):
        raise RecipeError(
            f"training.optimiser: {name} needs second derivatives, which are not computed here. "
            "Use adam, adamw, sgd or lamb."
        )
    return optimiser


class Rate:
    """The learning rate of each step, a function of the step and of the epochs' results alone."""

    def __init__(
        self, optimiser: torch.optim.Optimizer, settings: TrainingSettings, steps_per_epoch: int
    ) -> None:
        warmup = round(settings.warmup * steps_per_epoch)
        common = {"warmup_t": warmup, "warmup_lr_init": 0.0, "t_in_epochs": False}
        total = settings.epochs * steps_per_epoch
        self._scheduler: Scheduler
        if settings.schedule == "cosine":
            self._scheduler = CosineLRScheduler(  # of one step it warns
                optimiser, t_initial=max(total - warmup, 2), warmup_prefix=True, **common
            )
        else:
            every = settings.wait * steps_per_epoch if settings.schedule == "step" else NEVER
            self._scheduler = StepLRScheduler(
                optimiser, decay_t=every, decay_rate=settings.factor, **common
            )
        self._optimiser = optimiser
        self._settings = settings

    def set(self, step: int, gains: Sequence[bool]) -> float:
        """Set the rate of a step of the phase; gains: which of its epochs gained. Returns it."""
        self._scheduler.step_update(step)
        scale = 1.0
        if self._settings.schedule == "plateau":
            scale = self._settings.factor ** plateaus(gains, self._settings.wait)
        for group in self._optimiser.param_groups:
            group["lr"] *= scale
        return float(max(group["lr"] for group in self._optimiser.param_groups))


def is_out_of_patience(gains: Sequence[bool], patience: int) -> bool:
    """Tell whether the last `patience` epochs brought no gain; with 0 never."""
    recent = gains[-patience:] if patience else []
    return bool(patience) and len(recent) == patience and not any(recent)


def plateaus(gains: Sequence[bool], wait: int) -> int:
    """Count how many times `wait` epochs in a row brought no gain.

    As `patience` counts, and Keras; torch's ReduceLROnPlateau waits one epoch more.

    >>> plateaus([True, False, False, False, False, True], wait=2)
    2
    """
    found = without = 0
    for gained in gains:
        without = 0 if gained else without + 1
        if without == wait:
            found, without = found + 1, 0
    return found

"""Which layers learn, in which groups, how fast."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from timm.optim import create_optimizer_v2, list_optimizers
from timm.scheduler import CosineLRScheduler, StepLRScheduler
from timm.scheduler.scheduler import Scheduler
from torch import nn

from classify.models import head_parameters, layers_of
from classify.recipe import Phase, Recipe, TrainingSettings
from classify.training.checkpoint import check_can_save
from classify.training.validation import device
from retrieval.errors import RecipeError
from retrieval.text import one_sentence

NEVER = 10**9  # steps


def check_optimisers(recipe: Recipe) -> None:
    """Raise RecipeError for an optimiser that takes no step here, or that no run could resume."""
    names = [recipe.settings(phase).optimiser for phase in range(len(recipe.phases))]
    with torch.random.fork_rng(devices=[]):  # what follows is as if nothing had been tried
        for name in dict.fromkeys(names):
            with warnings.catch_warnings(action="ignore"):
                _try(name)


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

    Biases and batch norms have no weight decay. Raises RecipeError for one that timm lacks, or
    that cannot be made here.
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
    return _of_timm(settings.optimiser, described, settings.lr)


def _of_timm(
    name: str, described: Sequence[dict[str, Any]], lr: float = 1e-3
) -> torch.optim.Optimizer:
    """Make timm's optimiser of a name for groups of parameters. Raises RecipeError."""
    if name.lower().removeprefix("lookahead_") not in list_optimizers():
        raise RecipeError(
            f"training.optimiser: timm has no optimiser {name!r}. Use adam, adamw, sgd or lamb."
        )
    try:
        optimiser: torch.optim.Optimizer = create_optimizer_v2(described, opt=name, lr=lr)
    except Exception as error:  # whatever one raises that needs what is not here
        raise _not_here(name, error) from error
    if getattr(optimiser, "is_second_order", False):
        raise RecipeError(
            f"training.optimiser: {name} needs second derivatives, which are not computed here. "
            "Use adam, adamw, sgd or lamb."
        )
    return optimiser


def _try(name: str) -> None:
    """Take a step with an optimiser and look at its state, in a network of a few weights."""
    network = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(2, 2)).to(device())
    optimiser = _of_timm(name, [{"params": list(network.parameters())}])
    network(torch.ones(1, 3, 3, 3, device=device())).sum().backward()
    try:
        with _uncompiled():
            optimiser.step()
        check_can_save(optimiser)
    except Exception as error:  # whatever one raises, or a compiler that is not here
        raise _not_here(name, error) from error


def _uncompiled() -> contextlib.AbstractContextManager[object]:
    """Run what an optimiser would have compiled as it is, for a step: compiling takes minutes."""
    stance = getattr(torch.compiler, "set_stance", None)  # torch 2.6
    return stance("force_eager") if stance else contextlib.nullcontext()


def _not_here(name: str, error: Exception) -> RecipeError:
    return RecipeError(
        f"training.optimiser: {name} cannot be used here ({one_sentence(error)}). Use adam, "
        "adamw, sgd or lamb."
    )


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

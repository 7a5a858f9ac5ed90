"""The one loop that runs every recipe: phases, epochs, steps."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError
from timm.utils import ModelEmaV3
from torch import nn

from classify.augmentation import Augmenter
from classify.data import Pixels, batches
from classify.recipe import Recipe, TrainingSettings
from classify.run import LAST_STATE, Epoch
from classify.training.checkpoint import damaged, load_state, read_facts, save_state
from classify.training.norms import measure_norms, training_mode
from classify.training.objective import Objective
from classify.training.optimiser import (
    Rate,
    is_out_of_patience,
    make_optimiser,
    open_layers,
)
from classify.training.precision import autocast
from classify.training.validation import Validate, device
from retrieval.progress import Progress
from retrieval.text import counted

SECONDS_BETWEEN_SAVES = 300.0
NORMS_STEP = 2**31  # no step of an epoch: its own random numbers


class DivergedError(Exception):
    """The loss is no longer a number."""


@dataclass
class Place:
    """How far a run is. best: the monitored figure of the best epoch, higher is better; None
    before the first. phase_best: the same within the phase. gains: for each epoch of the phase."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    phase: int = 0
    epoch: int = 0
    step: int = 0
    best: float | None = None
    best_epoch: int = 0
    phase_best: float | None = None
    gains: list[bool] = field(default_factory=list)
    loss_sum: float = 0.0
    correct: float | None = 0.0
    seen: int = 0
    seconds: float = 0.0
    total_seconds: float = 0.0

    @classmethod
    def read(cls, file: Path) -> Place:
        """Read the place that save_state() wrote. Raises RunError if that cannot be read."""
        try:
            return TypeAdapter(cls).validate_python(read_facts(file))
        except ValidationError as error:
            raise damaged(file, error) from error


class Loop:
    """Trains one network; all that it is after a step is in place, network and optimiser.

    objective: what the network is trained for. validate: judges a network after each epoch.
    learnt: what of the loss learns beside the network, such as the proxies of a metric loss.
    augmenter: of the pictures that batch norms are measured on. folder: where the state is saved.
    """

    def __init__(
        self,
        recipe: Recipe,
        network: nn.Module,
        objective: Objective,
        validate: Validate,
        augmenter: Augmenter,
        train: Pixels,
        folder: Path,
        learnt: nn.Module | None = None,
    ) -> None:
        self.recipe = recipe
        self.device = device()
        self.network = network
        self.objective = objective
        self.validate = validate
        self.augmenter = augmenter
        self.train = train
        self.folder = folder
        self.learnt = learnt
        self.place = Place()
        self._phase: _PhaseState | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches of an epoch, without a last short one."""
        return len(self.train.images) // self._batch

    @property
    def _steps_of_phase(self) -> int:
        """Number of steps done in this phase."""
        return len(self.place.gains) * self.steps_per_epoch + self.place.step

    @property
    def _batch(self) -> int:
        size = min(self.recipe.training.batch, len(self.train.images))
        return size - size % 2 if self.recipe.augmentation.mixes else size  # timm mixes pairs

    @property
    def settings(self) -> TrainingSettings:
        """Return the settings of the present phase."""
        return self.recipe.settings(self.place.phase)

    def run(
        self,
        history: list[Epoch],
        *,
        on_best: Callable[[nn.Module], None],
        on_epoch: Callable[[Epoch], None],
        restore_best: Callable[[nn.Module], None],
        should_stop: Callable[[], bool],
        progress: Progress | None = None,
    ) -> str:
        """Train to the end; returns why it ended, "" when it was stopped.

        on_best: called with the network whose weights are the best so far. on_epoch: called after
        each epoch. restore_best: gives a network those weights, before another phase. should_stop:
        asked after each step; when it says so, the state is saved and the run ends.
        Raises DivergedError when the loss is no number; what was best is kept.
        """
        why = ""
        if self._phase is None:
            self.begin()
        for phase in range(self.place.phase, len(self.recipe.phases)):
            if phase != self.place.phase:
                restore_best(self.network)
                self.place.phase, self.place.gains, self.place.phase_best = phase, [], None
                self.begin()
            why = "all epochs are done"
            while len(self.place.gains) < self.settings.epochs and not self._out_of_patience():
                if not self._epoch(should_stop, progress):
                    return ""
                history.append(self._close_epoch(on_best))
                on_epoch(history[-1])
                self._save()
            if self._out_of_patience():
                why = f"{counted(self.settings.patience, 'epoch')} without gain"
        return why

    def begin(self) -> None:
        """Make the optimiser of the present phase. Raises RecipeError for one that timm lacks."""
        self.network.zero_grad(set_to_none=True)  # clipping would count those of frozen layers
        open_layers(self.network, self.recipe.phases[self.place.phase])
        extra = list(self.learnt.parameters()) if self.learnt is not None else []
        optimiser = make_optimiser(self.network, self.settings, extra)
        rate = Rate(optimiser, self.settings, self.steps_per_epoch)
        decay = self.recipe.training.ema
        ema = ModelEmaV3(self.network, decay=decay, use_warmup=True) if decay else None
        self._phase = _PhaseState(optimiser, rate, ema)

    def resume(self, place: Place) -> None:
        """Continue from the last state in the folder."""
        self.place = place
        self.begin()
        load_state(self.folder / LAST_STATE, self._modules(), self._state.optimiser)

    @property
    def _state(self) -> _PhaseState:
        """The state of the phase, which begin() makes."""
        if self._phase is None:
            raise RuntimeError("no phase has begun: call begin()")
        return self._phase

    @property
    def _judged(self) -> nn.Module:
        """The network that is validated and kept, of averaged weights where there are any."""
        ema = self._state.ema
        return self.network if ema is None else ema.module

    def _modules(self) -> dict[str, nn.Module]:
        modules = {"network": self.network}
        if self._state.ema is not None:
            modules["ema"] = self._state.ema.module
        if self.learnt is not None:
            modules["metric"] = self.learnt
        return modules

    def _save(self) -> None:
        save_state(
            self.folder / LAST_STATE, self._modules(), self._state.optimiser, asdict(self.place)
        )

    def _epoch(self, should_stop: Callable[[], bool], progress: Progress | None) -> bool:
        """Train one epoch, or the rest of it; False when stopped."""
        place, saved, began = self.place, time.monotonic(), time.monotonic()
        training_mode(self.network, running=self.settings.statistics == "running")
        for places in self._batches():
            self._step(places)
            place.step += 1
            now = time.monotonic()
            place.seconds += now - began
            began = now
            if progress:
                progress(f"epoch {place.epoch + 1}", place.step, self.steps_per_epoch)
            if should_stop():
                self._save()
                return False
            if now - saved > SECONDS_BETWEEN_SAVES:
                self._save()
                saved = began = time.monotonic()
        return True

    def _batches(self) -> Iterator[np.ndarray]:
        recipe, n = self.recipe.training, len(self.train.images)
        order = np.random.default_rng([recipe.seed, self.place.epoch]).permutation(n)
        return iter(list(batches(n, self._batch, order))[self.place.step :])

    def _step(self, places: np.ndarray) -> None:
        state = self._state
        seed = _mixed(self.recipe.training.seed, self.place.epoch, self.place.step)
        torch.manual_seed(seed)
        labels = self.train.images.labels[places]
        batch = self.objective.pictures(self.train.pixels[places], labels, seed)
        state.rate.set(self._steps_of_phase, self.place.gains)
        loss = self.objective.loss(self.network, batch)
        value = float(loss.value.detach())
        if not math.isfinite(value):
            raise DivergedError
        state.optimiser.zero_grad(set_to_none=True)
        loss.value.backward()  # type: ignore[no-untyped-call]
        if self.settings.clip:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.clip)
        state.optimiser.step()
        if state.ema is not None:
            state.ema.update(self.network, step=self._steps_of_phase)
        self.place.loss_sum += value * len(places)
        right = loss.correct
        self.place.correct = None if right is None else (self.place.correct or 0.0) + right
        self.place.seen += len(places)

    def _close_epoch(self, on_best: Callable[[nn.Module], None]) -> Epoch:
        place, began, judged = self.place, time.monotonic(), self._judged
        if self.recipe.training.precise_norm and self.settings.statistics == "batch":
            self._measure_norms(judged)
        found = self.validate(judged)
        loss = found.loss if found is not None else None
        accuracy = found.accuracy if found is not None else None
        if loss is not None and not math.isfinite(loss):
            raise DivergedError
        figure = accuracy if self.recipe.training.monitor == "accuracy" else loss
        if figure is None:
            figure = float(place.epoch)  # nothing to choose by: the last is kept
        elif self.recipe.training.monitor == "loss":
            figure = -figure
        gained = place.phase_best is None or figure > place.phase_best
        is_best = place.best is None or figure > place.best
        if gained:
            place.phase_best = figure
        if is_best:
            place.best, place.best_epoch = figure, place.epoch + 1
            on_best(judged)
        spent = place.seconds + time.monotonic() - began
        epoch = Epoch(
            epoch=place.epoch + 1,
            phase=place.phase + 1,
            lr=self._state.rate.set(self._steps_of_phase - 1, place.gains),
            loss=place.loss_sum / place.seen,
            accuracy=None if place.correct is None else place.correct / place.seen,
            validation_loss=loss,
            validation_accuracy=accuracy,
            images_per_second=place.seen / max(place.seconds, 1e-9),
            seconds=spent,
            is_best=is_best,
        )
        place.gains.append(gained)
        place.epoch, place.step = place.epoch + 1, 0
        place.loss_sum = place.seconds = place.correct = 0.0
        place.seen = 0
        place.total_seconds += spent
        return epoch

    def _measure_norms(self, network: nn.Module) -> None:
        n, epoch = len(self.train.images), self.place.epoch
        seed = _mixed(self.recipe.training.seed, epoch, NORMS_STEP)
        order = np.random.default_rng(seed).permutation(n)
        torch.manual_seed(seed)
        chosen = itertools.islice(batches(n, self._batch, order), self.recipe.training.precise_norm)
        with autocast(network, self.device):
            measure_norms(
                network, (self.augmenter(self.train.pixels[p], seed, self.device) for p in chosen)
            )

    def _out_of_patience(self) -> bool:
        return is_out_of_patience(self.place.gains, self.settings.patience)


@dataclass(frozen=True)
class _PhaseState:
    """What a phase begins anew. ema: the average of the weights, where the recipe has one."""

    optimiser: torch.optim.Optimizer
    rate: Rate
    ema: ModelEmaV3 | None


def _mixed(*numbers: int) -> int:
    """Mix several numbers into one seed."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])

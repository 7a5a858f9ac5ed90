"""The one loop that runs every recipe: phases, epochs, steps."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timm.utils import ModelEmaV3
from torch import nn

from classify.augmentation import Augmenter, mixer
from classify.data import (
    Pixels,
    batches,
)
from classify.losses import ClassificationLoss, class_weights, metric_loss
from classify.models import embed_features
from classify.models.classifier import RecipeClassifier
from classify.ranks import are_right
from classify.recipe import Recipe
from classify.run import LAST, Epoch
from classify.training.checkpoint import damaged, load_state, read_facts, save_state
from classify.training.device import device, loss_and_accuracy, score_all
from classify.training.distillation import Distilling, EmbeddingAndScores, Maps
from classify.training.norms import measure_norms, training_mode
from classify.training.optimiser import (
    Rate,
    is_out_of_patience,
    make_optimiser,
    open_layers,
)
from classify.training.precision import autocast
from retrieval.encoder import keep_freed_memory
from retrieval.progress import Progress

SECONDS_BETWEEN_SAVES = 300.0
NORMS_STEP = 2**31  # no step of an epoch: its own random numbers


class DivergedError(Exception):
    """The loss is no number any more."""


@dataclass
class Place:
    """How far a run is. best: the monitored figure of the best epoch, higher is better; None
    before the first. phase_best: the same within the phase. gains: for each epoch of the phase."""

    phase: int = 0
    epoch: int = 0
    step: int = 0
    best: float | None = None
    best_epoch: int = 0
    phase_best: float | None = None
    gains: list[bool] = field(default_factory=list)
    loss_sum: float = 0.0
    correct: float = 0.0
    seen: int = 0
    seconds: float = 0.0
    total_seconds: float = 0.0

    @classmethod
    def read(cls, file: Path) -> Place:
        """The place that save_state() wrote. Raises ImgretError when it is none."""
        try:
            return cls(**read_facts(file))
        except TypeError as error:
            raise damaged(file, error) from error


class Loop:
    """Trains one network; all that it is after a step is in place, network and optimiser.

    on_best: called with the network whose weights are the best so far. on_epoch: called after each
    epoch. should_stop: asked after each step; when it says so, the state is saved and run() ends.
    """

    def __init__(
        self,
        recipe: Recipe,
        network: nn.Module,
        augmenter: Augmenter,
        train: Pixels,
        validation: Pixels,
        folder: Path,
        distilling: Distilling | None = None,
    ) -> None:
        keep_freed_memory()
        self.recipe = recipe
        self.device = device()
        self.distilling = distilling
        self.network = network.to(self.device).to(memory_format=torch.channels_last)
        self.augmenter = augmenter
        self.train, self.validation = train, validation
        self.folder = folder
        self.place = Place()
        classes = train.images.classes
        weights = class_weights(recipe.loss, train.images.labels, classes)
        self.loss = ClassificationLoss(recipe.loss, weights).to(self.device)
        width = self._width() if recipe.loss.metric is not None else 0
        metric = metric_loss(recipe.loss, width, len(classes))
        self.metric = metric.to(self.device) if metric is not None else None
        self.mix = mixer(recipe.augmentation, len(classes))
        self.ema: Any = None
        self._begin_phase()

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch; the last short one is left out."""
        return len(self.train.images) // self._batch

    @property
    def _steps_of_phase(self) -> int:
        """Done in this phase."""
        return len(self.place.gains) * self.steps_per_epoch + self.place.step

    @property
    def _batch(self) -> int:
        size = min(self.recipe.training.batch, len(self.train.images))
        return size - size % 2 if self.mix is not None else size  # timm mixes pairs

    @property
    def settings(self) -> Any:
        """Return the settings of the present phase."""
        return self.recipe.settings(self.place.phase)

    def _width(self) -> int:
        """Of an embedding, which a metric loss is about."""
        x = torch.zeros(1, 3, self.augmenter.size, self.augmenter.size, device=self.device)
        with torch.no_grad():
            return int(embed_features(self.network.eval(), x)[0].shape[1])

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

        Raises DivergedError when the loss is no number; what was best is kept.
        """
        why = ""
        for phase in range(self.place.phase, len(self.recipe.phases)):
            if phase != self.place.phase:
                restore_best(self.network)
                self.place.phase, self.place.gains, self.place.phase_best = phase, [], None
                self._begin_phase()
            why = "all epochs are done"
            while len(self.place.gains) < self.settings.epochs and not self._out_of_patience():
                if not self._epoch(should_stop, progress):
                    return ""
                history.append(self._close_epoch(on_best))
                on_epoch(history[-1])
                self._save()
            if self._out_of_patience():
                why = f"{self.settings.patience} epochs without gain"
        return why

    def resume(self, place: Place) -> None:
        """Go on from the last state in the folder."""
        self.place = place
        self._begin_phase()
        load_state(self.folder / LAST, self._modules(), self.optimiser)

    def _begin_phase(self) -> None:
        self.network.zero_grad(set_to_none=True)  # clipping would count those of frozen layers
        open_layers(self.network, self.recipe.phases[self.place.phase])
        extra = list(self.metric.parameters()) if self.metric is not None else []
        self.optimiser = make_optimiser(self.network, self.settings, extra)
        self.rate = Rate(self.optimiser, self.settings, self.steps_per_epoch)
        decay = self.recipe.training.ema
        self.ema = ModelEmaV3(self.network, decay=decay, use_warmup=True) if decay else None

    def _modules(self) -> dict[str, nn.Module]:
        modules = {"network": self.network}
        if self.ema is not None:
            modules["ema"] = self.ema.module
        if self.metric is not None:
            modules["metric"] = self.metric
        return modules

    def _save(self) -> None:
        save_state(self.folder / LAST, self._modules(), self.optimiser, vars(self.place))

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

    def _watching(self) -> AbstractContextManager[Maps]:
        return self.distilling.watching(self.network) if self.distilling else nullcontext({})

    def _batches(self) -> Iterator[np.ndarray]:
        recipe, n = self.recipe.training, len(self.train.images)
        order = np.random.default_rng([recipe.seed, self.place.epoch]).permutation(n)
        return iter(list(batches(n, self._batch, order))[self.place.step :])

    def _step(self, places: np.ndarray) -> None:
        seed = _mixed(self.recipe.training.seed, self.place.epoch, self.place.step)
        torch.manual_seed(seed)
        x, taught = self._pictures(places, seed)
        labels = torch.from_numpy(self.train.images.labels[places]).to(self.device)
        target = labels
        if self.mix is not None:
            x, target = _seeded_mix(self.mix, x, labels, seed)
        self.rate.set(self._steps_of_phase, self.place.gains)
        if self.distilling is not None and self.distilling.spec.apart:
            with autocast(self.network, self.device):
                loss = self.distilling.loss_of_layers(self.network, x)
        else:
            loss = self._loss(x, target, labels, taught)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise DivergedError
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.settings.clip:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.clip)
        self.optimiser.step()
        if self.ema is not None:
            self.ema.update(self.network, step=self._steps_of_phase)
        self.place.loss_sum += value * len(places)
        self.place.seen += len(places)

    def _pictures(self, places: np.ndarray, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Augmented, for the network and for the teacher."""
        pixels = self.train.pixels[places]
        if self.distilling is not None:
            return self.distilling.pictures(pixels, seed, self.augmenter.size)
        x = self.augmenter(pixels, seed, self.device)
        return x, x

    def _loss(
        self,
        x: torch.Tensor,
        target: torch.Tensor,
        labels: torch.Tensor,
        taught: torch.Tensor,
    ) -> torch.Tensor:
        with autocast(self.network, self.device), self._watching() as maps:
            embeddings, scores = embed_features(self.network, x)
        loss: torch.Tensor = self.loss(scores.float(), target)
        if self.distilling is not None:
            with autocast(self.network, self.device):
                distance = self.distilling.loss(embeddings, maps, taught)
            loss = distance + self.distilling.spec.labels * loss
        if self.metric is not None and self.recipe.loss.metric is not None:
            loss = loss + self.recipe.loss.metric.weight * self.metric(embeddings.float(), labels)
        if self.recipe.model.head.l2:
            loss = loss + self.recipe.model.head.l2 * _squared_dense_weights(self.network)
        self.place.correct += float(are_right(scores, labels).sum())
        return loss

    def _close_epoch(self, on_best: Callable[[nn.Module], None]) -> Epoch:
        place, began = self.place, time.monotonic()
        judged = self.ema.module if self.ema is not None else self.network
        if self.recipe.training.precise_norm and self.settings.statistics == "batch":
            self._measure_norms(judged)
        loss = accuracy = None
        if len(self.validation.images):
            network = judged if self.distilling is None else EmbeddingAndScores(judged)
            found = self.scores(network, self.validation)
            scores = found[:, -len(self.train.images.classes) :]
            loss, accuracy = loss_and_accuracy(scores, self.validation.images.labels)
            if self.distilling is not None:
                loss = self.distilling.disagreement(found[:, : -scores.shape[1]])
            if not math.isfinite(loss):
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
            lr=self.rate.set(self._steps_of_phase - 1, place.gains),
            loss=place.loss_sum / place.seen,
            accuracy=place.correct / place.seen,
            validation_loss=loss,
            validation_accuracy=accuracy,
            images_per_second=place.seen / max(place.seconds, 1e-9),
            seconds=spent,
            is_best=is_best,
        )
        place.gains.append(gained)
        place.epoch, place.step = place.epoch + 1, 0
        place.loss_sum = place.correct = place.seconds = 0.0
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

    def scores(self, network: nn.Module, images: Pixels) -> np.ndarray:
        """What a network gives of pictures that are not augmented, (n, width) float32."""
        return score_all(network, images.pixels, self.augmenter, self.device)


def _squared_dense_weights(network: nn.Module) -> torch.Tensor:
    steps = list(network.head.steps) if isinstance(network, RecipeClassifier) else []
    dense = [step.weight for step in steps if isinstance(step, nn.Linear)]
    return torch.stack([(weight**2).sum() for weight in dense]).sum()


def _seeded_mix(
    mix: Any, x: torch.Tensor, labels: torch.Tensor, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """timm's Mixup draws from NumPy's global generator."""
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    try:
        return mix(x, labels)
    finally:
        np.random.set_state(state)  # noqa: NPY002


def _mixed(*numbers: int) -> int:
    """One seed of several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def with_best(history: Sequence[Epoch]) -> Epoch | None:
    """The epoch whose weights are kept."""
    return next((epoch for epoch in reversed(history) if epoch.is_best), None)

"""What is trained, on what, where; continues a run that was interrupted."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from classify import recipe as recipes
from classify.data import (
    KeptImage,
    Splits,
    find_splits,
    fingerprint,
    kept_of,
    listing,
    read_kept,
    write_kept,
)
from classify.models import parameters
from classify.recipe import Recipe
from classify.run import (
    HISTORY,
    LAST_STATE,
    RECIPE,
    RUN_FACTS,
    RUN_FORMAT,
    RUN_WEIGHTS,
    SPLIT,
    Epoch,
    Run,
    RunFacts,
    read_history,
    save_model,
    with_best,
    write_facts,
    write_history,
)
from classify.training.lock import only_trainer
from classify.training.loop import DivergedError, Place
from classify.training.optimiser import check_optimisers
from classify.training.preparation import Prepared, prepare
from retrieval.arguments import path_of
from retrieval.encoder import keep_freed_memory
from retrieval.errors import ArgumentError, DataError, RunError, WriteError
from retrieval.files import check_can_make, make_folder, write_atomically
from retrieval.loader import default_workers
from retrieval.plain import Plain
from retrieval.progress import Progress
from retrieval.text import unwritable

DIVERGED = "the loss was not a number"


@dataclass(frozen=True)
class Trained(Plain):
    """A trained run.

    best: the epoch whose weights were kept, None if there is none. failed: images that cannot
    be used, and why. is_random: whether the backbone began with random weights.
    """

    run: Run
    history: tuple[Epoch, ...]
    best: Epoch | None
    failed: tuple[tuple[Path, str], ...]
    is_random: bool


@dataclass(frozen=True)
class _Told:
    """Who is told what, and asked whether to stop; see train()."""

    progress: Progress | None
    on_epoch: Callable[[Epoch], None] | None
    on_split: Callable[[Sequence[str]], object]
    should_stop: Callable[[], bool]


@dataclass(frozen=True)
class _Begun:
    """A run that can go on. history: of the epochs that are done; the loop adds to it."""

    out: Path
    splits: Splits
    prepared: Prepared
    facts: RunFacts
    history: list[Epoch]


def train(
    folder: Path | str,
    recipe: Recipe,
    out: Path | str,
    *,
    resume: bool = False,
    progress: Progress | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
    on_split: Callable[[Sequence[str]], object] = lambda _: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Trained:
    """Train a classifier on the class folders of a folder, or on its train/ and val/.

    out: folder of the run, which is made. resume: continue the run in out, to the same result as
    if it had never stopped; its own recipe then replaces recipe. A finished run is returned as it
    is. on_epoch: told each epoch. on_split: told in sentences which folders were taken for what,
    before an image is decoded, and then which classes lack readable images.
    should_stop: asked after each step; True saves the state and ends.

    Tells glibc to keep freed memory, in the whole process. Raises DataError for data that cannot be
    trained on or is not the run's. Raises RecipeError for a network or an optimiser that cannot be
    used, and BackboneError for weights that cannot be loaded. Raises WriteError, and RunError where
    out already has a run, where another process trains it, or when the loss becomes NaN (the best
    weights are kept).
    """
    folder, out = path_of("folder", folder), path_of("out", out)
    _check_recipe(recipe)
    told = _Told(progress, on_epoch, on_split, should_stop)
    if not resume:
        _check_new(out)
        return _train(folder, recipe, out, None, told)
    if (run := Run.read(out)).facts.ended:
        return _finished(run)
    with only_trainer(out):
        run = Run.read(out)  # another process may have ended it
        return _finished(run) if run.facts.ended else _train(folder, run.recipe, out, run, told)


def _train(folder: Path, recipe: Recipe, out: Path, run: Run | None, told: _Told) -> Trained:
    """Train a run that begins, or one that was interrupted."""
    check_optimisers(recipe)
    splits = find_splits(folder, recipe.data, recipe.training.seed, told.progress)
    if run and fingerprint(splits) != run.facts.fingerprint:
        raise _other_images(folder, out)
    told.on_split(splits.notes)
    keep_freed_memory()
    prepared = prepare(recipe, splits, out, told.progress)
    told.on_split(prepared.notes)
    with _writing(out):
        make_folder(out)
        with contextlib.nullcontext() if run else only_trainer(out):
            return _trained(_begun(folder, recipe, out, run, splits, prepared), told)


def _begun(
    folder: Path, recipe: Recipe, out: Path, run: Run | None, splits: Splits, prepared: Prepared
) -> _Begun:
    """Write the beginning of a run, or read where it was interrupted."""
    facts = _facts(folder, splits, prepared)
    history: list[Epoch] = []
    if run:
        _check_same(run, folder, splits, prepared)
        history = read_history(out / HISTORY)
        if (out / LAST_STATE).is_file():
            prepared.loop.resume(Place.read(out / LAST_STATE))
    else:
        _check_new(out)  # another process may have begun it
        _write_beginning(out, recipe, folder, splits, prepared, facts)
    return _Begun(out, splits, prepared, facts, history[: prepared.loop.place.epoch])


def _trained(begun: _Begun, told: _Told) -> Trained:
    out, prepared, loop = begun.out, begun.prepared, begun.prepared.loop

    def note(epoch: Epoch) -> None:
        write_history(out / HISTORY, begun.history)
        if told.on_epoch:
            told.on_epoch(epoch)

    try:
        why = loop.run(
            begun.history,
            on_best=lambda network: _save_best(out, network, prepared, begun.splits),
            on_epoch=note,
            restore_best=lambda network: _restore(network, out),
            should_stop=told.should_stop,
            progress=told.progress,
        )
    except DivergedError as error:
        raise _diverged(out, loop.place, begun.facts) from error
    seconds, best = round(loop.place.total_seconds, 1), loop.place.best_epoch
    write_facts(out, replace(begun.facts, best_epoch=best, ended=why, seconds=seconds))
    history, is_random = begun.history, prepared.created.is_random
    return Trained(Run.read(out), tuple(history), with_best(history), prepared.failed, is_random)


def _check_recipe(recipe: object) -> None:
    if not isinstance(recipe, Recipe):
        raise ArgumentError(f"recipe is {recipe!r}. Give a Recipe, as read_recipe() returns it.")


def _check_new(out: Path) -> None:
    """Raise RunError where out holds a run, and WriteError where none can be made there."""
    if (out / RUN_FACTS).exists():
        raise RunError(f"{out} already holds a run. Give --resume, or another --out.")
    try:
        check_can_make(out)
    except OSError as error:
        raise unwritable(out, error) from error


def _save_best(out: Path, network: nn.Module, prepared: Prepared, splits: Splits) -> None:
    created = prepared.created
    save_model(out, network, created.preprocessing, splits.train.classes, created.arguments)


def _facts(folder: Path, splits: Splits, prepared: Prepared) -> RunFacts:
    """What is known of a run that begins."""
    files, listed = listing(folder)
    return RunFacts(
        format=RUN_FORMAT,
        data=str(folder.resolve()),
        fingerprint=fingerprint(splits),
        files=files,
        listing=listed,
        parameters=parameters(prepared.loop.network),
        trained_on=len(prepared.loop.train.images),
        validated_on=len(prepared.validation.images),
        failed=len(prepared.failed),
        best_epoch=0,
        ended="",
        seconds=0.0,
        machine=machine(),
        held_out=sum(map(bool, prepared.test_contents)),
    )


def _write_beginning(
    out: Path,
    recipe: Recipe,
    folder: Path,
    splits: Splits,
    prepared: Prepared,
    facts: RunFacts,
) -> None:
    """Keep the recipe, which images are trained on and held out, and the facts, which come last."""
    write_atomically(out / RECIPE, recipes.recipe_as_toml(recipe).encode())
    write_kept(out / SPLIT, _kept(folder, splits, prepared))
    write_facts(out, facts)


def _kept(folder: Path, splits: Splits, prepared: Prepared) -> list[KeptImage]:
    trained_on, validated_on = prepared.loop.train, prepared.validation
    kept = kept_of(trained_on.images, trained_on.contents, "train", folder)
    kept += kept_of(validated_on.images, validated_on.contents, "validation", folder)
    return kept + kept_of(splits.test, prepared.test_contents, "test", folder)


def _check_same(run: Run, folder: Path, splits: Splits, prepared: Prepared) -> None:
    """Raise DataError where an image has other content than when a run began, at the same size."""
    began_with = set(read_kept(run.folder / SPLIT, run.counts))
    if began_with != set(_kept(folder, splits, prepared)):
        raise _other_images(folder, run.folder)


def _other_images(folder: Path, out: Path) -> DataError:
    return DataError(
        f"{folder} does not hold the images that {out} was started with. Bring them back, or train "
        "into another folder."
    )


def _finished(run: Run) -> Trained:
    """What train() gave of a run that has ended. Raises RunError where its loss became NaN."""
    if run.facts.ended.startswith(DIVERGED):
        raise RunError(f"{run.folder} has ended: {run.facts.ended}. Train into another folder.")
    history = read_history(run.folder / HISTORY)
    return Trained(run, tuple(history), with_best(history), (), is_random=False)


def machine() -> str:
    """Name the machine that it was trained on."""
    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    cores = default_workers()
    return f"{platform.machine()}, {cores} core{'s' * (cores > 1)}"


def _restore(network: nn.Module, out: Path) -> None:
    network.load_state_dict(load_file(out / RUN_WEIGHTS))


def _diverged(out: Path, place: Place, facts: RunFacts) -> RunError:
    ended = f"{DIVERGED} in epoch {place.epoch + 1}"
    write_facts(out, replace(facts, best_epoch=place.best_epoch, ended=ended))
    kept = f"The weights of epoch {place.best_epoch} are kept in {out}. " * bool(place.best_epoch)
    return RunError(
        f"The loss became NaN in epoch {place.epoch + 1}, so training stopped. {kept}Set "
        "a lower training.lr, or training.clip=1."
    )


@contextlib.contextmanager
def _writing(out: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        told = unwritable(out, error)
        if not (out / RUN_FACTS).exists():
            raise told from error
        raise WriteError(f"{told} Use --resume to continue the run.") from error

"""A recipe and splits -> a loop that is ready to run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from classify.augmentation import Augmenter, kept_side, mixer
from classify.data import LabelledImages, Pixels, Splits, decode_all, verify_all
from classify.losses import class_weights
from classify.models import Created, create_network
from classify.recipe import Recipe
from classify.training.distillation import Distilled, validate_agreement
from classify.training.loop import Loop
from classify.training.objective import Supervised, make_label_loss
from classify.training.teacher import Teacher
from classify.training.validation import device, score_all, validate_labels
from retrieval.errors import DataError
from retrieval.progress import Progress
from retrieval.text import visible


@dataclass(frozen=True)
class Prepared:
    """A loop and what it was made of.

    test_contents: SHA-256 of each test image, "" of those that cannot be read. failed: images of
    any split that cannot be used, and why. notes: sentences on classes that lost theirs.
    """

    loop: Loop
    created: Created
    validation: Pixels
    test_contents: tuple[str, ...]
    failed: tuple[tuple[Path, str], ...]
    notes: tuple[str, ...]


def prepare(
    recipe: Recipe, splits: Splits, out: Path, progress: Progress | None = None
) -> Prepared:
    """Load the networks of a recipe and decode the images, for a run in the folder out.

    Raises DataError for images that cannot be trained on, RecipeError for networks that do not
    fit one another and for weights of classes that are not there, BackboneError for weights that
    cannot be had.
    """
    class_weights(recipe.loss, splits.train.labels, splits.train.classes)  # that it names no other
    torch.manual_seed(recipe.training.seed)
    created = create_network(recipe.model, recipe.input, len(splits.train.classes))
    pixels, teacher = created.preprocessing, None
    if recipe.distillation is not None:
        teacher = Teacher.load(recipe.distillation, created.network, pixels, device())
    largest = max(pixels.size, teacher.size if teacher else 0)
    side = kept_side(recipe.augmentation, largest)
    train = decode_all(splits.train, replace(pixels, size=side), progress, purpose="training")
    validation = decode_all(splits.validation, pixels, progress, purpose="validation")
    parts = splits.train, splits.validation
    broken = _broken(parts, train.failed + validation.failed)
    _check_usable(splits, train, validation, broken)
    if teacher is None:
        loop = supervised_loop(recipe, created, train, validation, out)
    else:
        loop = _distilled_loop(recipe, created, teacher, train, validation, out, progress)
    loop.begin()
    notes = _single(splits.train, train, broken)
    notes += _without_figure(splits.validation, validation.failed, "validation")
    test = verify_all(splits.test, progress)
    notes += _without_figure(splits.test, test.failed, "test")
    failed = train.failed + validation.failed + test.failed
    return Prepared(loop, created, validation, test.contents, failed, tuple(notes))


def supervised_loop(
    recipe: Recipe, created: Created, train: Pixels, validation: Pixels, out: Path
) -> Loop:
    """Make a loop that teaches labels; move the network to where it is trained."""
    network = _moved(created.network)
    augmenter = Augmenter(recipe.augmentation, created.preprocessing)
    on_labels = make_label_loss(recipe, network, augmenter.size, train.images)
    mix = mixer(recipe.augmentation, len(train.images.classes))
    objective = Supervised(augmenter, mix, on_labels, device())
    validate = partial(validate_labels, images=validation, augmenter=augmenter)
    return Loop(recipe, network, objective, validate, augmenter, train, out, on_labels.metric)


def _distilled_loop(
    recipe: Recipe,
    created: Created,
    teacher: Teacher,
    train: Pixels,
    validation: Pixels,
    out: Path,
    progress: Progress | None,
) -> Loop:
    pixels, network = created.preprocessing, _moved(created.network)
    largest = replace(pixels, size=max(teacher.size, pixels.size))
    shared = Augmenter(recipe.augmentation, largest)
    targets = np.empty((0, teacher.dim), np.float32)
    if len(validation.images):
        seen = validation
        if teacher.size != pixels.size:
            larger = replace(pixels, size=teacher.size)
            seen = decode_all(validation.images, larger, progress)
        targets = score_all(teacher.network, seen.pixels, shared, device(), progress)
    whitening = None
    if teacher.spec.whitened:
        whitening = teacher.fit_whitening(train.pixels, shared, device(), progress)
    augmenter = Augmenter(recipe.augmentation, pixels)
    on_labels = make_label_loss(recipe, network, pixels.size, train.images)
    objective = Distilled(teacher, whitening, shared, pixels.size, on_labels, device())
    validate = partial(
        validate_agreement,
        images=validation,
        augmenter=augmenter,
        targets=targets,
        whitening=whitening,
    )
    return Loop(recipe, network, objective, validate, augmenter, train, out, on_labels.metric)


def _moved(network: nn.Module) -> nn.Module:
    """Return the network where it is trained, channels last."""
    return network.to(device()).to(memory_format=torch.channels_last)


def _broken(
    parts: Sequence[LabelledImages], failed: Sequence[tuple[Path, str]]
) -> dict[int, list[str]]:
    """Say which files of each class cannot be used, and why, in the order in which they failed."""
    label_of = {
        file.path: int(label)
        for part in parts
        for file, label in zip(part.files, part.labels, strict=True)
    }
    broken: dict[int, list[str]] = {}
    for path, reason in failed:
        broken.setdefault(label_of[path], []).append(f"{path}: {reason}")
    return broken


def _check_usable(
    splits: Splits, train: Pixels, validation: Pixels, broken: Mapping[int, Sequence[str]]
) -> None:
    """Raise DataError for a class that too few images are left of, now that they are decoded.

    It needs one to train on and one to hold out, as find_splits() asks of the files; copies count
    as one. Where nothing is held out of the training images, one is enough.
    """
    needed = 2 if len(splits.validation) and not splits.has_validation_folder else 1
    after = f" after {splits.after}" if splits.after else ""
    for label, reasons in sorted(broken.items()):
        name = splits.train.classes[label]
        groups = [part.images.groups[part.images.labels == label] for part in (train, validation)]
        usable = len(np.unique(np.concatenate(groups)))
        if 0 < usable < needed:
            parts = splits.train, splits.validation
            count = sum(int((part.labels == label).sum()) for part in parts)
            raise DataError(
                f"The class {name!r} has one readable image left of {count:,}{after} "
                f"({reasons[0]}). It needs 2 or more that are not copies: one to train on and one "
                "to hold out. Add images or remove the class."
            )
        if not len(groups[0]):
            raise DataError(
                f"No training image of the class {name!r} can be used ({reasons[0]}). Give it "
                "other images, or remove it."
            )


def _single(
    images: LabelledImages, usable: Pixels, broken: Mapping[int, Sequence[str]]
) -> list[str]:
    """Say of which classes broken images leave one to train on."""
    notes = []
    for label in sorted(broken):
        count = int((images.labels == label).sum())
        readable = usable.images.labels == label
        if readable.sum() < count and len(np.unique(usable.images.groups[readable])) == 1:
            notes.append(
                f"{visible(images.classes[label])} has one readable training image left of "
                f"{count:,} ({broken[label][0]}). Add images to train on more."
            )
    return notes


def _without_figure(
    images: LabelledImages, failed: Sequence[tuple[Path, str]], what: str
) -> list[str]:
    """Say of which classes there are images to validate or test with, but none can be read."""
    if failed and len(failed) == len(images):
        path, reason = failed[0]
        return [f"There is no {what} figure: no {what} image can be read ({path}: {reason})."]
    counts = np.bincount(images.labels, minlength=len(images.classes))
    return [
        f"No {what} figure is of {visible(images.classes[label])}: none of its {what} images can "
        f"be read ({reasons[-1]})."
        for label, reasons in sorted(_broken([images], failed).items())
        if len(reasons) == counts[label]
    ]

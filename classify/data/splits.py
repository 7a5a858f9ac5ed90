"""A folder of labelled images -> what is trained on, what chooses, what is only tested on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from classify.data.groups import group_copies
from classify.data.labelled import LabelledImages, find_labelled
from classify.data.layout import NAMES_SHOWN, Layout, find_layout, folders_without_images
from classify.recipe import DataSettings
from classify.words import ClassFolders
from retrieval.errors import DataError
from retrieval.images import find_images
from retrieval.progress import Progress
from retrieval.text import counted, listed, visible


@dataclass(frozen=True)
class Splits:
    """The images to train on, to stop and choose by, and to only test on (may be empty).

    notes: sentences on what was taken for what, on copies, and on classes of one training image.
    has_validation_folder: whether validation has a folder of its own, so that training gives it no
    image. after: the settings that took images from training, such as "data.fraction = 0.1".
    """

    train: LabelledImages
    validation: LabelledImages
    test: LabelledImages
    notes: tuple[str, ...] = ()
    has_validation_folder: bool = False
    after: str = ""


@dataclass(frozen=True)
class _Whole:
    """The images that training begins with. taken: settings that took some of them so far."""

    folder: Path
    images: LabelledImages
    taken: tuple[tuple[str, float], ...] = ()

    @property
    def after(self) -> str:
        """The settings, as they are said behind "after"."""
        return " and ".join(f"{key} = {value:g}" for key, value in self.taken)

    @property
    def instead(self) -> str:
        """What leaves more images."""
        sizes = {"data.test": "smaller", "data.fraction": "larger"}
        return listed([f"a {sizes[key]} {key}" for key, _ in self.taken], "or")


def find_splits(
    folder: Path, data: DataSettings, seed: int, progress: Progress | None = None
) -> Splits:
    """Find train/, val/ and test/ of a folder, or split its class folders by class and seed.

    Copies of one file are never on two sides. What is split here keeps them together. Where the
    folder has its own splits, copies of what is tested on are not trained on.
    Raises DataError for one class only, a class with one image to train on, or a folder of which
    it is not plain what its classes are.
    """
    layout = find_layout(folder, data.classes)
    train = find_labelled(layout.train, data.classes)
    nothing = train.subset(np.array([], np.int64))
    validation = test = nothing
    if layout.validation:
        validation = find_labelled(layout.validation, data.classes)
        validation = validation.of_classes(train.classes, str(layout.validation))
    if layout.test:
        test = find_labelled(layout.test, data.classes)
        test = test.of_classes(train.classes, str(layout.test))
    train, validation, test = _grouped(train, validation, test, data, progress)
    notes = [*layout.notes, *_without_class(layout), *_without_images(layout, data.classes)]
    notes += [*_alike(train.classes), *_copies(train)]
    train, left_out = _without(train, test, validation)
    validation, of_test = _without(validation, test)
    if left_out or of_test:
        notes.append(
            f"Left out, as copies of what is held out in {folder}: "
            f"{counted(left_out + of_test, 'image')}."
        )
    if layout.validation and not len(validation):
        notes.append(f"None is left in {layout.validation}, so the last epoch will be kept.")
    notes += _absent(layout.validation, validation, "validation")
    notes += _absent(layout.test, test, "test")
    _check(train, folder, layout, data.classes)
    whole = _Whole(folder, train)
    if not layout.test and data.test:
        train, test = _split(train, data.test, seed + 1, whole)
        whole = replace(whole, taken=(("data.test", data.test),))
    if data.fraction < 1:
        train = train.subset(_stratified(train, data.fraction, seed + 2))
        whole = replace(whole, taken=(*whole.taken, ("data.fraction", data.fraction)))
    if not layout.validation and data.validation:
        train, validation = _split(train, data.validation, seed, whole)
    else:
        notes += _single(train, whole)
    has_folder = layout.validation is not None
    return Splits(train, validation, test, tuple(notes), has_folder, whole.after)


def fingerprint(splits: Splits) -> str:
    """Return the SHA-256 of names, sizes and labels, which a resumed run must find unchanged."""
    digest = hashlib.sha256()
    for part in (splits.train, splits.validation):
        for file, label in zip(part.files, part.labels, strict=True):
            name = file.path.relative_to(file.root.parent)
            digest.update(f"{name}\0{file.size}\0{label}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _grouped(
    train: LabelledImages,
    validation: LabelledImages,
    test: LabelledImages,
    data: DataSettings,
    progress: Progress | None,
) -> tuple[LabelledImages, LabelledImages, LabelledImages]:
    parts = train, validation, test
    files = [file for part in parts for file in part.files]
    groups = group_copies(files, near=data.group_duplicates, progress=progress)
    ends = np.cumsum([len(part) for part in parts])[:-1]
    one, two, three = (
        replace(part, groups=of_part)
        for part, of_part in zip(parts, np.split(groups, ends), strict=True)
    )
    return one, two, three


def _without_class(layout: Layout) -> list[str]:
    """Say which folders hold images beside the class folders."""
    folders = filter(None, (layout.train, layout.validation, layout.test))
    firsts = [(folder, next(find_images([folder]), None)) for folder in folders]
    return [
        f"Images in {folder} itself are not used: they have no class."
        for folder, first in firsts
        if first is not None and first.path.parent == folder
    ]


def _without_images(layout: Layout, how: ClassFolders) -> list[str]:
    """Say which folders beside the classes are none, as nothing in them can be read."""
    nothing = "it holds no image that imgret reads."
    empty = folders_without_images(layout.train, how)
    notes = [f"{visible(name)} is not a class: {nothing}" for name in empty]
    for folder in filter(None, (layout.validation, layout.test)):
        empty = folders_without_images(folder, how)
        notes += [f"{visible(folder / name)} is not used: {nothing}" for name in empty]
    return notes


def _absent(folder: Path | None, images: LabelledImages, what: str) -> list[str]:
    """Say which classes have no image in a split that has images of others."""
    absent = np.setdiff1d(np.arange(len(images.classes)), images.labels)
    if folder is None or not len(images) or not len(absent):
        return []
    told = _named(images.classes, absent)
    return [f"No {what} figure is of {told}: {visible(folder)} has no image of it."]


def _alike(classes: Sequence[str]) -> list[str]:
    """Say which classes have one name but for its case."""
    of: dict[str, list[str]] = {}
    for name in classes:
        of.setdefault(name.casefold(), []).append(name)
    return [
        f"{' and '.join(map(visible, names))} are classes of their own, which differ in case only. "
        "If they are one, give their folders one name."
        for names in of.values()
        if len(names) > 1
    ]


def _copies(images: LabelledImages) -> list[str]:
    """Say which copies are kept together."""
    _, first, counts = np.unique(images.groups, return_index=True, return_counts=True)
    several = counts > 1
    if not several.any():
        return []
    labels = {g: images.labels[f] for g, f in zip(images.groups[first], first, strict=True)}
    torn = {int(g) for g, n in zip(images.groups, images.labels, strict=True) if labels[g] != n}
    return [
        f"{counts[several].sum():,} images are copies of one another, {several.sum():,} in all"
        " without them; copies are kept on one side of a split."
        + f" {len(torn):,} of these stand under several classes."
        * bool(torn)
    ]


def _without(images: LabelledImages, *others: LabelledImages) -> tuple[LabelledImages, int]:
    """Leave out copies of other images; return the rest and how many were left out."""
    held_out = np.concatenate([other.groups for other in others])
    kept = np.flatnonzero(~np.isin(images.groups, held_out))
    return images.subset(kept), len(images) - len(kept)


def _split(
    images: LabelledImages, share: float, seed: int, whole: _Whole
) -> tuple[LabelledImages, LabelledImages]:
    """Split images into the rest and a share of each class."""
    single = np.flatnonzero(_distinct(images) == 1)
    if len(single):
        raise _too_few(images, int(single[0]), whole)
    held_out = _stratified(images, share, seed)
    kept = np.setdiff1d(np.arange(len(images)), held_out)
    lost = set(np.unique(images.labels)) - set(np.unique(images.labels[kept]))
    if lost:
        raise DataError(
            f"All images of the class {images.classes[min(lost)]!r} in {whole.folder} are copies "
            "of images of other classes. Remove one of the classes."
        )
    return images.subset(kept), images.subset(held_out)


def _too_few(images: LabelledImages, label: int, whole: _Whole) -> DataError:
    """Make the error for a class of one image, of which one would be held out."""
    count = int((images.labels == label).sum())
    has = "one image" if count == 1 else f"{count:,} copies of one image"
    instead = ""
    if _distinct(whole.images)[label] > 1:
        has += f" left after {whole.after}"
        instead = f", or set {whole.instead}"
    return DataError(
        f"The class {images.classes[label]!r} in {whole.folder} has {has}. It needs 2 or more "
        "that are not copies: one to train on and one to hold out. Add images or remove the "
        f"class{instead}."
    )


def _single(images: LabelledImages, whole: _Whole) -> list[str]:
    """Say which classes have one image to train on, where none of them is held out, and why."""
    single = _distinct(images) == 1
    taken = single & (_distinct(whole.images) > 1)
    notes = []
    if (single & ~taken).any():
        notes.append(f"{_with_one(images, single & ~taken)}. Add images to train on more.")
    if taken.any():
        left = f"{_with_one(images, taken, ' left')} after {whole.after}"
        notes.append(f"{left}. Set {whole.instead} to train on more.")
    return notes


def _with_one(images: LabelledImages, single: np.ndarray, left: str = "") -> str:
    """Name the classes of one training image. single: of each class whether it is one, bool."""
    labels = np.flatnonzero(single)
    verb, each = ("has", "") if len(labels) == 1 else ("have", " each")
    has_copies = np.isin(images.labels, labels).sum() > len(labels)
    aside = ", not counting copies" + "," * bool(left) if has_copies else ""
    return f"{_named(images.classes, labels)} {verb} one training image{each}{left}{aside}"


def _distinct(images: LabelledImages) -> np.ndarray:
    """Count the images of each class, (classes,) int64; copies count as one."""
    pairs = np.unique(np.stack([images.labels, images.groups]), axis=1)
    return np.bincount(pairs[0], minlength=len(images.classes))


def _named(classes: Sequence[str], labels: np.ndarray) -> str:
    """Name the first few of some classes, and say how many more there are."""
    names = [visible(classes[label]) for label in labels[:NAMES_SHOWN]]
    more = [f"{len(labels) - NAMES_SHOWN:,} more"] * (len(labels) > NAMES_SHOWN)
    return listed(names + more, "and")


def _stratified(images: LabelledImages, share: float, seed: int) -> np.ndarray:
    """Sorted places of a share of each class: at least one image, and not all; copies together."""
    random = np.random.default_rng(seed)
    chosen = []
    for label in np.unique(images.labels):
        places = np.flatnonzero(images.labels == label)
        firsts = places[np.sort(np.unique(images.groups[places], return_index=True)[1])]
        count = min(max(1, round(share * len(firsts))), max(1, len(firsts) - 1))
        chosen.append(random.choice(firsts, count, replace=False))
    return np.flatnonzero(np.isin(images.groups, images.groups[np.concatenate(chosen)]))


def _check(train: LabelledImages, folder: Path, layout: Layout, how: ClassFolders) -> None:
    lost = set(range(len(train.classes))) - set(train.labels.tolist())
    if lost:
        raise DataError(
            f"All training images of the class {train.classes[min(lost)]!r} in {folder} are copies "
            "of images that are held out. Give it other images, or remove the class."
        )
    if len(train.classes) < 2:
        empty = folders_without_images(layout.train, how)
        others = f" (no image that imgret reads is in {', '.join(empty)})" if empty else ""
        raise DataError(
            f"{folder} has only one class, {train.classes[0]!r}{others}. Give two classes or more."
        )

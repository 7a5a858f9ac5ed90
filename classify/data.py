"""Folders of labelled images -> splits -> pixels, decoded once."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from classify.recipe import Data
from retrieval.errors import ImgretError
from retrieval.images import ImageFile, Preprocessing, find_images
from retrieval.loader import load_images

Progress = Callable[[str, int, int | None], None]
TRAIN, VALIDATION, TEST = ("train",), ("val", "valid", "validation"), ("test",)
MEMORY_SHARE, DISK_SHARE = 0.5, 0.9  # of what is there that pixels may take


@dataclass(frozen=True)
class Labelled:
    """Files and the class of each. classes: sorted names; labels: (n,) int64 places in them."""

    files: tuple[ImageFile, ...]
    labels: np.ndarray
    classes: tuple[str, ...]

    def __len__(self) -> int:
        """Number of images."""
        return len(self.files)

    def subset(self, places: np.ndarray) -> Labelled:
        """The images at some places."""
        return replace(self, files=tuple(self.files[i] for i in places), labels=self.labels[places])

    def of_classes(self, classes: Sequence[str], where: str) -> Labelled:
        """The same images with labels in another list of classes. Raises ImgretError."""
        unknown = sorted({self.classes[n] for n in np.unique(self.labels)} - set(classes))
        if unknown:
            raise ImgretError(
                f"{where} has images of {unknown[0]!r}"
                + (f" and {len(unknown) - 1} more classes" if unknown[1:] else "")
                + f", which the model does not know; it knows {', '.join(classes[:5])}"
                + (", ..." if classes[5:] else "")
                + ". Give images of these classes."
            )
        place = {name: n for n, name in enumerate(classes)}
        table = np.array([place.get(name, -1) for name in self.classes], np.int64)
        return replace(self, labels=table[self.labels], classes=tuple(classes))


@dataclass(frozen=True)
class Splits:
    """What is trained on, what stops and chooses, and what is only tested on (may be empty)."""

    train: Labelled
    validation: Labelled
    test: Labelled


@dataclass(frozen=True)
class Pixels:
    """Decoded images. pixels: (n, s, s, 3) uint8. failed: files that cannot be used, and why."""

    pixels: np.ndarray
    images: Labelled
    failed: tuple[tuple[Path, str], ...]


def find_labelled(folder: Path) -> Labelled:
    """The images in the class folders of a folder, in a fixed order.

    Raises ImgretError where there is no class folder, or there are no images in any.
    """
    if not folder.is_dir():
        raise ImgretError(f"{folder} is no folder. Give one with a subfolder of images a class.")
    names = sorted(f.name for f in folder.iterdir() if f.is_dir() and not f.name.startswith("."))
    files: list[ImageFile] = []
    labels: list[int] = []
    for place, name in enumerate(names):
        found = list(find_images([folder / name]))
        files += found
        labels += [place] * len(found)
    filled = sorted(set(labels))
    if not filled:
        raise ImgretError(
            f"{folder} has no class folders with images. Give a folder with a subfolder a class, "
            "or with train/ and val/ that have them."
        )
    new = {old: n for n, old in enumerate(filled)}
    return Labelled(
        tuple(files), np.array([new[n] for n in labels], np.int64), tuple(names[n] for n in filled)
    )


def find_splits(folder: Path, data: Data, seed: int) -> Splits:
    """train/, val/ and test/ of a folder, or its class folders, split by class and seed.

    Raises ImgretError for one class only, or a class with one image to train on.
    """
    given = {kind[0]: _first_folder(folder, kind) for kind in (TRAIN, VALIDATION, TEST)}
    train_folder, validation_folder, test_folder = given["train"], given["val"], given["test"]
    train = find_labelled(train_folder or folder)
    nothing = train.subset(np.array([], np.int64))
    test = nothing
    if test_folder and train_folder:
        test = find_labelled(test_folder).of_classes(train.classes, str(test_folder))
    elif data.test:
        train, test = _split(train, data.test, seed + 1, folder)
    if data.fraction < 1:
        train = train.subset(_stratified(train.labels, data.fraction, seed + 2))
    if validation_folder and train_folder:
        validation = find_labelled(validation_folder)
        validation = validation.of_classes(train.classes, str(validation_folder))
    else:
        train, validation = _split(train, data.validation, seed, folder)
    _check(train, folder)
    return Splits(train, validation, test)


def decode_all(
    images: Labelled, preprocessing: Preprocessing, progress: Progress | None = None
) -> Pixels:
    """All images as (n, size, size, 3) uint8; those that cannot be used are left out and named.

    They are kept in memory, or in a temporary file where they would take more than half of it.
    Raises ImgretError when there is no room for them, or none can be used.
    """
    side = preprocessing.size
    pixels = _room(len(images), side)
    kept: list[int] = []
    failed: list[tuple[Path, str]] = []
    for place, loaded in enumerate(load_images(images.files, preprocessing)):
        if loaded.pixels is None:
            failed.append((loaded.file.path, loaded.error or "it cannot be used"))
        else:
            pixels[len(kept)] = loaded.pixels
            kept.append(place)
        if progress:
            progress("reading", place + 1, len(images))
    if len(images) and not kept:
        path, reason = failed[0]
        raise ImgretError(f"No image can be used; {path}: {reason}. Give other images.")
    return Pixels(pixels[: len(kept)], images.subset(np.array(kept, np.int64)), tuple(failed))


def fingerprint(splits: Splits) -> str:
    """SHA-256 of names, sizes and labels, which a resumed run must find unchanged."""
    digest = hashlib.sha256()
    for part in (splits.train, splits.validation):
        for file, label in zip(part.files, part.labels, strict=True):
            name = file.path.relative_to(file.root.parent)
            digest.update(f"{name}\0{file.size}\0{label}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def batches(n: int, size: int, order: np.ndarray | None = None) -> Iterator[np.ndarray]:
    """Places of each batch; in the given order, where the last short batch is left out."""
    if order is None:
        yield from (np.arange(start, min(start + size, n)) for start in range(0, n, size))
        return
    size = min(size, n)
    for start in range(0, n - size + 1, size):
        yield order[start : start + size]


def _first_folder(folder: Path, names: Sequence[str]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_dir()), None)


def _split(images: Labelled, share: float, seed: int, folder: Path) -> tuple[Labelled, Labelled]:
    """The rest, and a share of each class."""
    if not share:
        return images, images.subset(np.array([], np.int64))
    counts = Counter(images.labels.tolist())
    lonely = next((n for n, count in sorted(counts.items()) if count < 2), None)
    if lonely is not None:
        raise ImgretError(
            f"The class {images.classes[lonely]!r} in {folder} has one image, and 2 or more are "
            "needed: one to train on and one to validate with. Add images or take the class out."
        )
    held_out = _stratified(images.labels, share, seed)
    kept = np.setdiff1d(np.arange(len(images)), held_out)
    return images.subset(kept), images.subset(held_out)


def _stratified(labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Sorted places of a share of each class: at least one, and not all."""
    random = np.random.default_rng(seed)
    chosen = []
    for label in np.unique(labels):
        places = np.flatnonzero(labels == label)
        count = min(max(1, round(share * len(places))), max(1, len(places) - 1))
        chosen.append(random.choice(places, count, replace=False))
    return np.sort(np.concatenate(chosen))


def _check(train: Labelled, folder: Path) -> None:
    if len(np.unique(train.labels)) < 2:
        raise ImgretError(
            f"{folder} has one class only, {train.classes[0]!r}. Give two classes or more."
        )


def _room(count: int, side: int) -> np.ndarray:
    """Room for the pixels: in memory, or in a nameless file where they would fill it.

    Raises ImgretError where the disk has no room either.
    """
    shape, needed = (count, side, side, 3), count * side * side * 3
    if needed <= MEMORY_SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"):
        return np.empty(shape, np.uint8)
    folder = tempfile.gettempdir()
    there = shutil.disk_usage(folder).free
    if needed > DISK_SHARE * there:
        raise ImgretError(
            f"{count:,} images of {side} px take {needed / 1e9:.0f} GB, more than memory has, and "
            f"{folder} has {there / 1e9:.0f} GB. Set TMPDIR to a larger disk, input.size smaller, "
            "or data.fraction below 1."
        )
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, np.uint8, "w+", shape=shape)

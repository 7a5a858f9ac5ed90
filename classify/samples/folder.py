"""A folder of labelled pictures, written once and never overwritten."""

from __future__ import annotations

import io
import os
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tomli_w

from classify.samples.renderer import render_scene
from retrieval.errors import ArgumentError, DataError
from retrieval.files import leftovers, read_bounded, replaced, write_atomically
from retrieval.plain import Plain
from retrieval.progress import Progress
from retrieval.text import unwritable

CLASSES = ("bolt", "carton_box", "cement_bag", "nut", "washer")
SPLITS = ("train", "test")
SAMPLE_SETTINGS = "sample.toml"
MAX_NOTED_BYTES = 1 << 16
VERSION = 1  # of the pictures: with another one the same seed gives others
SIZES = (32, 1024)
THREADS = 4


@dataclass(frozen=True)
class Samples(Plain):
    """A folder of pictures: DIR/train/<class>/<class>_<number>.jpg, and DIR/test likewise.

    train, test: images a class that were asked for; the folder may hold more from before.
    written: how many this call wrote; the others were there.
    """

    folder: Path
    train: int
    test: int
    written: int

    @property
    def images(self) -> int:
        """Number of all requested pictures, written now or before."""
        return (self.train + self.test) * len(CLASSES)


def make_samples(
    folder: Path,
    *,
    train: int = 100,
    test: int = 10,
    size: int = 224,
    seed: int = 0,
    progress: Progress | None = None,
) -> Samples:
    """Write pictures of rendered parts, one part per picture.

    folder: new or empty, or of an earlier call with the same size and seed; then what is missing
    is added. train, test: images a class. size: of the square pictures, in pixels.
    A picture depends on seed, split, class, number and size alone, so that more images extend a
    folder and change none of it.

    Raises ArgumentError when a number is out of range, DataError when the folder holds anything
    else, WriteError when it cannot be written.
    """
    _check(train, test, size, seed)
    folder = Path(folder)
    try:
        _prepare(folder, train, test, size, seed)
        wanted = list(_pictures(folder, train, test))
        missing = [picture for picture in wanted if not picture[0].exists()]
        for parent in {path.parent for path, _ in missing}:
            parent.mkdir(parents=True, exist_ok=True)
        _write_all(missing, size, seed, len(wanted), progress)
    except OSError as error:
        raise unwritable(folder, error) from error
    return Samples(folder, train, test, len(missing))


def _check(train: int, test: int, size: int, seed: int) -> None:
    if train < 0 or test < 0 or train + test == 0:
        raise ArgumentError(
            f"{train} training images and {test} test images per class leave nothing to write. "
            "Give at least one image."
        )
    if not SIZES[0] <= size <= SIZES[1]:
        raise ArgumentError(
            f"Pictures of {size} px cannot be drawn. Give a size from {SIZES[0]} to {SIZES[1]}."
        )
    if seed < 0:
        raise ArgumentError(f"The seed {seed} is negative. Give a whole number from 0.")


def _prepare(folder: Path, train: int, test: int, size: int, seed: int) -> None:
    """Prepare the folder, and note in it what it holds when all is written."""
    if folder.is_file():
        raise DataError(f"{folder} is a file. Name a new or empty folder.")
    there = _settings(folder)
    same = {"version": VERSION, "size": size, "seed": seed}
    if there is not None:
        if {key: there.get(key) for key in same} != same:
            raise ArgumentError(
                f"{folder} holds other pictures: size {there.get('size')}, "
                f"seed {there.get('seed')}, version {there.get('version')}. "
                "Give that size and seed to continue, or name another folder."
            )
        train, test = max(train, there.get("train", 0)), max(test, there.get("test", 0))
    settings = {**same, "train": train, "test": test, "classes": list(CLASSES)}
    if settings != there:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / SAMPLE_SETTINGS, tomli_w.dumps(settings).encode())


def _settings(folder: Path) -> dict[str, int] | None:
    """Read what an earlier call has noted; None if the folder is new or empty."""
    try:
        names = {e.name for e in folder.iterdir()} - {left.name for left in leftovers(folder)}
    except FileNotFoundError:
        return None
    if not names:
        return None
    try:
        if SAMPLE_SETTINGS in names:
            noted = tomllib.loads(read_bounded(folder / SAMPLE_SETTINGS, MAX_NOTED_BYTES).decode())
            if all(isinstance(noted.get(key), int) for key in ("size", "seed", "train", "test")):
                return noted
    except ValueError:
        pass
    raise DataError(
        f"{folder} is not empty, and `imgret sample` did not write its content. Name a new or "
        "empty folder."
    )


def _pictures(folder: Path, train: int, test: int) -> Iterator[tuple[Path, tuple[int, int, int]]]:
    """The (path, (split, class, number)) of each picture, the classes in turn."""
    for split, count in enumerate((train, test)):
        for number in range(count):
            for label, name in enumerate(CLASSES):
                file = f"{name}_{number:03}.jpg"
                yield folder / SPLITS[split] / name / file, (split, label, number)


def _write_all(
    missing: list[tuple[Path, tuple[int, int, int]]],
    size: int,
    seed: int,
    total: int,
    progress: Progress | None,
) -> None:
    done = total - len(missing)
    if progress is not None and missing:
        progress("rendering", done, total)
    with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
        try:
            for _ in pool.map(lambda picture: _write(picture[0], picture[1], size, seed), missing):
                done += 1
                if progress is not None:
                    progress("rendering", done, total)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _write(path: Path, key: tuple[int, int, int], size: int, seed: int) -> None:
    rng = np.random.default_rng([seed, *key])
    picture, _ = render_scene(CLASSES[key[1]], size, rng)
    encoded = io.BytesIO()
    picture.save(encoded, "JPEG", quality=int(rng.integers(78, 96)))
    with replaced(path, durable=False) as made:  # it can be drawn again
        made.write_bytes(encoded.getvalue())

"""What each image of a run was for, by content: split.jsonl.

A folder changes after a run, and a split made anew of it holds out images that were trained on. So
what was trained on and what was held out stays with the run.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import get_args

import numpy as np

from classify.data.groups import content_of
from classify.data.labelled import LabelledImages
from classify.data.layout import Split
from retrieval.errors import RunError
from retrieval.files import read_bounded, write_atomically
from retrieval.images import ImageFile, find_images
from retrieval.plain import records
from retrieval.text import composed, counted, one_sentence

MAX_KEPT_BYTES = 1 << 32  # some ten million images


@dataclass(frozen=True)
class KeptImage:
    """One image. sha256: of its file, hex. path: below the run's data folder, with slashes."""

    split: Split
    label: str
    sha256: str
    path: str


@dataclass(frozen=True)
class FoundKept:
    """Kept images that are still there, with the classes they had. gone: how many are not there.
    moved: how many now lie in a folder that is not their class's."""

    images: LabelledImages
    gone: int
    moved: int


def kept_of(
    images: LabelledImages, contents: Sequence[str], split: Split, folder: Path
) -> list[KeptImage]:
    """Record the images of a split. contents: their SHA-256; those without one are left out."""
    return [
        KeptImage(split, images.classes[label], content, file.path.relative_to(folder).as_posix())
        for file, label, content in zip(images.files, images.labels, contents, strict=True)
        if content
    ]


def write_kept(file: Path, images: Iterable[KeptImage]) -> None:
    """Write all images, one line of JSON each, atomically."""
    lines = (json.dumps(vars(image)) + "\n" for image in images)
    write_atomically(file, "".join(lines).encode())


def listing(folder: Path) -> tuple[int, str]:
    """Count the image files below a folder; return that, and a SHA-256 of their names and sizes."""
    digest, count = hashlib.sha256(), 0
    for file in find_images([folder]):
        name = file.path.relative_to(folder).as_posix()
        digest.update(f"{file.size} {name}\n".encode(errors="surrogateescape"))
        count += 1
    return count, digest.hexdigest()


def overwritten(file: Path, folder: Path) -> int:
    """Count the training images of a file of write_kept() that hold something else now.

    folder: their data folder. Only images that were written after the file are read. Raises
    RunError if the file cannot be read.
    """
    trained_on = [image for image in read_kept(file) if image.split == "train"]
    then, count = file.stat().st_mtime_ns, 0
    for kept in trained_on:
        image = _file(folder / kept.path, folder)
        if image.mtime_ns > then:
            count += content_of(image) not in ("", kept.sha256)
    return count


def read_kept(file: Path, expected: Mapping[Split, int] | None = None) -> list[KeptImage]:
    """Read what write_kept() wrote. expected: how many images of some splits there must be.

    Raises RunError if it cannot be read, or has lost images.
    """
    instead = "so the held-out images are unknown. Name images with --data, or train again."
    try:
        text = read_bounded(file, MAX_KEPT_BYTES).decode(errors="replace")
    except (OSError, ValueError) as error:
        raise RunError(f"{file} cannot be read ({one_sentence(error)}), {instead}") from error
    try:
        kept = records(text, lambda line: _checked(KeptImage(**line)))
    except ValueError as error:
        raise RunError(f"{file} is {error}, {instead}") from error
    counts = Counter(image.split for image in kept)
    for split, count in (expected or {}).items():
        if counts[split] != count:
            what = f"{'training' if split == 'train' else split} image"
            raise RunError(
                f"{file} is damaged: it has {counted(counts[split], what)}, but the run had "
                f"{count:,}, {instead}"
            )
    return kept


def content_of_split(file: Path, split: Split, count: int) -> str:
    """Return a SHA-256 of all images of a split, from a file of write_kept().

    count: of its images. "" where there is none, or the file cannot be read or has lost some.
    """
    try:
        text = read_bounded(file, MAX_KEPT_BYTES).decode(errors="replace")
        lines = [line for line in text.splitlines() if f'"split": "{split}"' in line]
        contents = sorted(str(json.loads(line)["sha256"]) for line in lines)
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    digest = hashlib.sha256("\n".join(contents).encode(errors="replace"))
    return digest.hexdigest() if contents and len(contents) == count else ""


def find_kept(images: Sequence[tuple[KeptImage, Path]], classes: Sequence[str]) -> FoundKept:
    """Find the files that hold kept images now.

    images: each with its data folder. An image that was moved below it is found by its content.
    Raises RunError for a class that is not among classes.
    """
    found: list[tuple[ImageFile, str]] = []
    lost: list[tuple[KeptImage, Path]] = []
    for kept, folder in images:
        file = _file(folder / kept.path, folder)
        if content_of(file) == kept.sha256:
            found.append((file, kept.label))
        else:
            lost.append((kept, folder))
    elsewhere = _by_content({folder for _, folder in lost})
    moved = 0
    for kept, folder in lost:
        if kept.sha256 in elsewhere:
            file = elsewhere[kept.sha256]
            found.append((file, kept.label))
            moved += not _is_of(file.path.relative_to(folder), kept.label)
    place = {name: n for n, name in enumerate(classes)}
    unknown = sorted({label for _, label in found} - set(place))
    if unknown:
        raise RunError(f"The model does not know the class {unknown[0]!r}. Train again.")
    labels = np.array([place[label] for _, label in found], np.int64)
    files = tuple(file for file, _ in found)
    kept_labels = LabelledImages(files, labels, tuple(classes), np.arange(len(files)))
    return FoundKept(kept_labels, len(images) - len(files), moved)


def _checked(image: KeptImage) -> KeptImage:
    """Raise ValueError if an image belongs to no split, or its path leaves the data folder."""
    if not all(isinstance(value, str) for value in vars(image).values()):
        raise ValueError("a value is not text")
    path = PurePosixPath(image.path)
    if image.split not in get_args(Split) or path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{image.path!r} belongs to no split")
    return image


def _is_of(path: Path, label: str) -> bool:
    """Tell whether a file lies in the folder of a class, or in no folder of the data."""
    return path.parent == Path() or f"/{label}/" in f"/{composed(path.parent.as_posix())}/"


def _by_content(folders: Iterable[Path]) -> Mapping[str, ImageFile]:
    files = [file for folder in folders if folder.is_dir() for file in find_images([folder])]
    return {content_of(file): file for file in files}


def _file(path: Path, folder: Path) -> ImageFile:
    try:
        stat = path.stat()
    except (OSError, ValueError):
        return ImageFile(path, folder, 0, 0)
    changed = max(stat.st_mtime_ns, stat.st_ctime_ns)  # a copy may keep the time of its content
    return ImageFile(path, folder, stat.st_size, changed)

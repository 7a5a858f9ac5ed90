"""Class folders -> files and the class of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from classify.data.layout import class_folders
from classify.words import ClassFolders
from retrieval.errors import DataError
from retrieval.images import ImageFile, find_images
from retrieval.text import composed


@dataclass(frozen=True)
class LabelledImages:
    """Files and the class of each.

    classes: sorted names. labels: (n,) int64 places in them. groups: (n,) int64, equal where files
    belong on one side of a split.
    """

    files: tuple[ImageFile, ...]
    labels: np.ndarray
    classes: tuple[str, ...]
    groups: np.ndarray

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.files)

    def subset(self, places: np.ndarray) -> LabelledImages:
        """Return the images at some places."""
        return replace(
            self,
            files=tuple(self.files[i] for i in places),
            labels=self.labels[places],
            groups=self.groups[places],
        )

    def of_classes(self, classes: Sequence[str], where: str) -> LabelledImages:
        """Return the images with labels in another list of classes. Raises DataError."""
        unknown = sorted({self.classes[n] for n in np.unique(self.labels)} - set(classes))
        if unknown:
            raise DataError(
                f"{where} has images of {unknown[0]!r}"
                + f" and of {len(unknown) - 1} more" * (len(unknown) > 1)
                + f", which the model does not know; it knows {', '.join(classes[:5])}"
                + (", ..." if classes[5:] else "")
                + ". Give images of these classes."
            )
        place = {name: n for n, name in enumerate(classes)}
        table = np.array([place.get(name, -1) for name in self.classes], np.int64)
        return replace(self, labels=table[self.labels], classes=tuple(classes))


def find_labelled(folder: Path, how: ClassFolders = "auto") -> LabelledImages:
    """Find the images in the class folders of a folder, in a fixed order.

    Raises DataError where there is no class folder, there are no images in any, or it is not
    plain which folders are classes.
    """
    files: list[ImageFile] = []
    names: list[str] = []
    for name, folders in class_folders(folder, how).items():
        for file in find_images(folders):
            files.append(file)
            names.append(_below(file, folder) if how == "deepest" else name)
    if not files:
        raise DataError(
            f"{folder} has no class folders with images. Give a folder with one subfolder per "
            "class, or with train/ and val/ that have such subfolders."
        )
    classes, labels = np.unique(names, return_inverse=True)
    return LabelledImages(
        tuple(files), labels.astype(np.int64), tuple(map(str, classes)), np.arange(len(files))
    )


def _below(file: ImageFile, folder: Path) -> str:
    return composed(file.path.parent.relative_to(folder).as_posix())

"""The label of each image: the name of its folder, none, or what a CSV file says."""

from __future__ import annotations

import csv
import io
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from retrieval.errors import DataError
from retrieval.files import opened
from retrieval.gallery import Gallery, storable
from retrieval.gallery.filter import with_labels, with_paths
from retrieval.objects import is_address
from retrieval.text import composed, one_sentence
from retrieval.words import BY_FOLDER

MAX_LABELS_BYTES = 1 << 30
MOST_LABELS, MOST_OF_A_STRANGER = 50_000_000, 1_000_000


def labels_from(source: str, most: int = MOST_LABELS) -> Labels:
    """Return labels by "folder" (the name of the folder that holds an image), "none", or a CSV.

    A CSV file has the columns path and label; its paths are relative to its own folder. Names that
    Unicode counts as equal are one label. most: rows that it may have. Raises DataError where it
    cannot be read.
    """
    if source in (BY_FOLDER, "none"):
        return Labels(by_folder=source == BY_FOLDER)
    if is_address(source):
        raise DataError(f"{source} is an address. Give a CSV file on this machine.")
    return Labels(by_path=_read_csv(Path(source), most))


@dataclass(frozen=True)
class Labels:
    """Path -> label. by_path: of files by their whole paths, in folders without links."""

    by_folder: bool = False
    by_path: dict[str, str] | None = None

    def __call__(self, path: Path) -> str | None:
        """Return the label of a file."""
        return self.in_folder(path.parent)(path.name)

    def in_folder(self, folder: Path) -> Callable[[str], str | None]:
        """Return what gives the label of a file in the folder by its name; None where it has none.

        The folder is looked at once for all of its files.
        """
        if self.by_path is None:
            name = composed(storable(folder.absolute().name)) if self.by_folder else None
            return lambda _: name or None
        labels, prefix = self.by_path, str(folder.resolve() / "_")[:-1]
        return lambda name: labels.get(prefix + name)


def known_labels(gallery: Gallery, files: Iterable[Path]) -> dict[Path, str]:
    """Return the labels of files that a gallery tells, also of files that it does not hold.

    That is the label of a file's row, or else the name of its folder, where labels are names of
    folders and the gallery has an image of that label.
    """
    table, paths = gallery.open_table(), {gallery.stored(file): file for file in files}
    if not paths:
        return {}
    rows = table.block("path", "label", where=with_paths(paths))
    found = dict(zip(rows.paths, rows.labels, strict=True))
    named = {path: Labels(by_folder=True)(file) for path, file in paths.items()}
    there = {name for name in named.values() if name}
    if gallery.settings().labels != BY_FOLDER or not there:
        named = {}
    else:
        there &= set(table.block("label", where=with_labels(there)).labels)
        named = {path: name for path, name in named.items() if name in there}
    known = {file: found.get(path, named.get(path)) for path, file in paths.items()}
    return {file: label for file, label in known.items() if label}


def _read_csv(file: Path, most: int) -> dict[str, str]:
    try:
        with opened(file) as data, io.TextIOWrapper(data, "utf-8-sig", newline="") as stream:
            if os.fstat(data.fileno()).st_size > MAX_LABELS_BYTES:
                raise ValueError(f"it is larger than {MAX_LABELS_BYTES:,} bytes")
            reader = csv.DictReader(stream)
            if not {"path", "label"} <= set(reader.fieldnames or ()):
                raise DataError(
                    f"{file} does not name its columns. Add a first line with path and label."
                )
            labels: dict[str, str] = {}
            resolved: dict[str, str] = {}  # folder -> itself without links
            base = file.absolute().parent
            for number, row in enumerate(reader):
                if number == most:
                    raise ValueError(f"it has more than {most:,} rows")
                folder, slash, name = (row["path"] or "").replace(os.sep, "/").rpartition("/")
                if folder + slash not in resolved:
                    resolved[folder + slash] = str(Path(base, folder + slash).resolve() / "_")[:-1]
                labels[resolved[folder + slash] + name] = _interned(row["label"])
            return {path: label for path, label in labels.items() if label}
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(
            f"The labels {file} cannot be read ({one_sentence(error)}). Give --labels folder, "
            "none, or a CSV file with the columns path and label."
        ) from error


def _interned(label: str | None) -> str:
    return sys.intern(composed(storable(label or "")))

"""Pictures that are sent: stored under the name of their content, indexed, and then told."""

from __future__ import annotations

import contextlib
import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imgret.server.problem import Problem
from retrieval.errors import GalleryError, ImageError
from retrieval.files import make_folder, sha256_of, write_new
from retrieval.images import sniff
from retrieval.retriever import GalleryImage, Retriever
from retrieval.text import composed, one_sentence

STORED_SUFFIXES = {  # of the files that are stored, by format
    "JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "AVIF": ".avif", "GIF": ".gif", "BMP": ".bmp",
    "TIFF": ".tif", "PPM": ".ppm", "HEIF": ".heic", "JXL": ".jxl", "RAW": ".dng",
}  # fmt: skip
SNIFFED = 64
FORBIDDEN = frozenset('/\\:*?"<>|')


@dataclass(frozen=True)
class UploadWork:
    """A picture to store in a gallery, below a folder.

    label: None leaves it to the folder. begins: whether the gallery is made where it is not there.
    """

    retriever: Retriever
    folder: Path
    content: bytes
    label: str | None
    max_pixels: int
    begins: bool = False

    @property
    def sha256(self) -> str:
        """The SHA-256 of the content, hex."""
        return hashlib.sha256(self.content).hexdigest()


@dataclass(frozen=True)
class Uploaded:
    """The image of a picture that was sent. created: whether it is new to the gallery."""

    image: GalleryImage
    created: bool


def checked_label(label: str | None) -> str | None:
    """Return a label that can be the name of a folder. Raises Problem."""
    if label is None:
        return None
    name = composed(label)
    if name != name.strip() or name.startswith(".") or not name.isprintable():
        raise Problem(422, "The label is not the name of a folder. Give letters and digits.")
    if FORBIDDEN & set(name) or len(name.encode("utf-8", "replace")) > 200:
        raise Problem(422, "The label is not the name of a folder. Give letters and digits.")
    return name


def store_together(batch: Sequence[UploadWork]) -> list[Uploaded | Exception]:
    """Store and index the pictures of a batch, those of one gallery in one go."""
    places: dict[int, list[int]] = defaultdict(list)
    for place, work in enumerate(batch):
        places[id(work.retriever)].append(place)
    results: list[Any] = [None] * len(batch)
    for alike in places.values():
        for place, result in zip(alike, _store([batch[p] for p in alike]), strict=True):
            results[place] = result
    return results


def _store(batch: Sequence[UploadWork]) -> list[Uploaded | Exception]:
    retriever = batch[0].retriever
    before = _found(batch)
    written: dict[str, Path] = {}  # by content: a picture that came twice is one file
    new: set[Path] = set()  # the others were there: they may be of another gallery
    results: dict[int, Uploaded | Exception] = {}
    for n, work in enumerate(batch):
        try:
            if work.sha256 not in before and work.sha256 not in written:
                written[work.sha256] = _written(work, new)
        except (ImageError, OSError, Problem) as error:
            results[n] = error
    try:
        reasons = _index(retriever, batch, written)
    except Exception as error:  # noqa: BLE001  told to all that wait for it
        for file in new:
            file.unlink(missing_ok=True)
        return [results.get(n, error) for n in range(len(batch))]
    after = _found(batch)
    for n, work in enumerate(batch):
        if n in results:
            continue
        image = after.get(work.sha256)
        if image is not None:
            results[n] = Uploaded(image, created=work.sha256 in written)
            continue
        if work.sha256 in written:
            _forget(retriever, written[work.sha256], new)
        results[n] = ImageError(reasons.get(work.sha256, "it cannot be indexed; try it again"))
    return [results[n] for n in range(len(batch))]


def _written(work: UploadWork, new: set[Path]) -> Path:
    """Write the file of a picture, add it to the new ones; one that is there has its content."""
    kind = sniff(work.content[:SNIFFED])
    if kind is None:
        raise ImageError("not an image this program reads")
    folder = work.folder / work.label if work.label else work.folder
    _make(folder)
    if not folder.resolve().is_relative_to(work.folder.resolve()):
        raise Problem(409, "The label names a folder that leads elsewhere. Give another label.")
    file = folder / f"{work.sha256}{STORED_SUFFIXES.get(kind, '')}"
    try:
        if write_new(file, work.content):
            new.add(file)
        elif sha256_of(file) != work.sha256:
            raise Problem(409, "A file of that name has another content. Remove it, and try again.")
    except OSError as error:
        raise _not_stored(error) from error
    return file


def _make(folder: Path) -> None:
    try:
        make_folder(folder)
    except (FileExistsError, NotADirectoryError) as error:
        raise Problem(409, "The label names what is no folder. Give another label.") from error
    except OSError as error:
        raise _not_stored(error) from error


def _not_stored(error: OSError) -> Problem:
    return Problem(
        507, f"The picture cannot be stored ({one_sentence(error)}). Look at the folder of "
        "--uploads.",
    )  # fmt: skip


def _index(
    retriever: Retriever, batch: Sequence[UploadWork], written: Mapping[str, Path]
) -> dict[str, str]:
    """Index the new files, and give those their labels that have another one; why some failed."""
    if not written:
        return {}
    if not batch[0].begins:
        retriever.gallery.check_exists()  # one that is away for a while is not begun anew
    report = retriever.index(
        sorted(written.values()), keep_missing=True, max_pixels=batch[0].max_pixels
    )
    reasons = {Path(path).name.partition(".")[0]: reason for path, reason in report.failures}
    labels = {work.sha256: work.label for work in batch if work.label}
    images = {sha256: image for sha256, image in _found(batch).items() if sha256 in written}
    wrong = {i.id: labels[s] for s, i in images.items() if s in labels and i.label != labels[s]}
    if wrong:
        retriever.relabel(wrong)
    return reasons


def _found(batch: Sequence[UploadWork]) -> dict[str, GalleryImage]:
    """What the gallery holds of some contents; nothing where it holds no image yet."""
    found: dict[str, GalleryImage] = {}
    with contextlib.suppress(GalleryError), batch[0].retriever.open() as gallery:
        copies = gallery.copies_of({work.sha256: len(work.content) for work in batch})
        for sha256, ids in copies.items():
            if images := gallery.images(ids):
                found[sha256] = images[min(images)]
    return found


def _forget(retriever: Retriever, file: Path, new: set[Path]) -> None:
    """Drop the row of a file that could not be used, and the file if it is a new one."""
    if file in new:
        file.unlink(missing_ok=True)
    with contextlib.suppress(GalleryError):
        retriever.remove([file])

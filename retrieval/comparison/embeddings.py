"""Folders of images -> labelled embeddings, each made once and kept in a cache folder.

A cache entry is a gallery like any other. An interrupted run continues where it stopped, new and
changed images are embedded, and an unreadable one is a row with its reason.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path

from retrieval import backbones
from retrieval.draw import evenly_drawn
from retrieval.errors import DataError
from retrieval.evaluation.protocols import Images
from retrieval.files import read_bounded, write_atomically
from retrieval.gallery import Gallery, read_one_state
from retrieval.images import find_images
from retrieval.libraries import is_installed
from retrieval.progress import Progress
from retrieval.retriever import Retriever
from retrieval.retriever.usable import read_images
from retrieval.settings import EmbeddingSettings
from retrieval.words import BY_FOLDER, Engine

COST = "cost.json"
MAX_COST_BYTES = 1 << 12


@dataclass(frozen=True)
class Embedded:
    """Embedded images. version: changes with them. milliseconds: to decode and encode one image,
    None where that is not known. failed: images that could not be read.
    """

    images: Images
    version: str
    milliseconds: float | None
    failed: int


def embed_folder(
    folder: Path,
    encoding: EmbeddingSettings,
    cache: Path,
    *,
    labels: str = BY_FOLDER,
    most: int | None = None,
    checksum: bool = False,
    engine: Engine | None = None,
    progress: Progress | None = None,
) -> Embedded:
    """Embed the images below a folder, or read their embeddings from the cache.

    most: of more images than this, a random sample is embedded. checksum: compare the content of
    files whose size and time are those of the cache.

    Raises BackboneError, GalleryError, and DataError when no image can be read.
    """
    if next(find_images([folder]), None) is None:  # a drive may not be mounted: the cache stays
        raise DataError(f"There is no image below {folder}. Give a folder of images.")
    paths = [folder] if most is None else _sample(folder, most)
    sampled = [str(path) for path in paths] if len(paths) > 1 else None
    place = cache / "embeddings" / _key(folder, encoding, labels, engine, sampled)
    retriever = Retriever(
        place / "gallery", transform="none", engine=engine, **encoding.model_dump()
    )
    report = retriever.index(
        paths, labels=labels, drop_missing=True, checksum=checksum, progress=progress
    )
    if not report.added + report.changed + report.unchanged:
        raise DataError(f"No image below {folder} can be read. Give another folder.")
    if report.encoded:
        _add_cost(place, report.encoded, report.encoded / report.images_per_second)
    images, version = read_one_state(partial(_read, retriever.gallery))
    return Embedded(images, version, milliseconds=_cost(place), failed=report.failed)


def _read(gallery: Gallery, leases: ExitStack) -> tuple[Images, str]:
    """The images of a gallery, which another command may write to, and a name of its version."""
    table = gallery.open_table()
    leases.enter_context(table.lease())
    return read_images(gallery, table), f"{table.name}-{table.version}"


def _sample(folder: Path, most: int) -> list[Path]:
    """Return the folder itself, or `most` of its images, evenly drawn."""
    found = [file.path for file in find_images([folder]) if file.error is None]
    if len(found) <= most:
        return [folder]
    return [found[i] for i in evenly_drawn(len(found), most)]


def _key(
    folder: Path,
    encoding: EmbeddingSettings,
    labels: str,
    engine: Engine | None,
    sampled: list[str] | None,
) -> str:
    """Return a readable name that differs for all that gives other embeddings or labels."""
    name = backbones.parse_name(encoding.backbone)
    facts = [
        str(folder.resolve()), labels, engine, str(name), backbones.folder_content(name),
        *encoding.model_dump(exclude={"backbone"}).values(), sampled,
        _maker(name),
    ]  # fmt: skip
    digest = hashlib.sha256(json.dumps(facts).encode(errors="surrogateescape")).hexdigest()
    return f"{folder.resolve().name}-{name.last_part}-{digest[:16]}".replace(":", "-")


def _maker(name: backbones.BackboneName) -> str | None:
    """Return the version of timm where it makes the network: another may make it otherwise."""
    made_here = name.source != "mini" and is_installed("timm")
    return metadata.version("timm") if made_here else None


def _add_cost(place: Path, images: int, seconds: float) -> None:
    old_images, old_seconds = _read_cost(place)
    text = json.dumps({"images": old_images + images, "seconds": old_seconds + seconds})
    with contextlib.suppress(OSError):  # then the time of one image is not known
        write_atomically(place / COST, text.encode())


def _cost(place: Path) -> float | None:
    images, seconds = _read_cost(place)
    return 1000 * seconds / images if images else None


def _read_cost(place: Path) -> tuple[int, float]:
    try:
        known = json.loads(read_bounded(place / COST, MAX_COST_BYTES))
        return int(known["images"]), float(known["seconds"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return 0, 0.0

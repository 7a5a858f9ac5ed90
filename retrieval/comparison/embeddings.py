"""Folders of images -> labelled embeddings, each made once and kept in a cache folder.

A cache entry is a gallery like any other: an interrupted run goes on where it stopped, new and
changed images are embedded, an unreadable one is a row with its reason.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retrieval import backbones
from retrieval.comparison.recipes import Encoding
from retrieval.encoder import Engine
from retrieval.errors import ImgretError
from retrieval.evaluation.protocols import Images
from retrieval.files import make_folder, write_atomically
from retrieval.images import find_images
from retrieval.progress import Progress
from retrieval.retriever import (
    Retriever,
)
from retrieval.retriever.usable import read_images

COST = "cost.json"


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
    encoding: Encoding,
    cache: Path,
    *,
    labels: str = "folder",
    most: int | None = None,
    engine: Engine | None = None,
    progress: Progress | None = None,
) -> Embedded:
    """Embed the images below a folder, or read what the cache has of them.

    most: of more images than this, a fair sample is embedded.

    Raises BackboneError, GalleryError, and ImgretError when no image can be read.
    """
    paths = [folder] if most is None else _sample(folder, most)
    sampled = [str(path) for path in paths] if len(paths) > 1 else None
    place = cache / "embeddings" / _key(folder, encoding, labels, engine, sampled)
    make_folder(place)
    retriever = Retriever(
        place / "gallery",
        backbone=encoding.backbone,
        size=encoding.size,
        fit=encoding.fit,
        pool=encoding.pool,
        views=encoding.views,
        transform="none",
        engine=engine,
    )
    report = retriever.index(paths, labels=labels, progress=progress)
    if not report.added + report.changed + report.unchanged:
        raise ImgretError(f"There is no image that can be read below {folder}.")
    if report.encoded:
        _add_cost(place, report.encoded, report.encoded / report.images_per_second)
    table = retriever.gallery.open_table()
    return Embedded(
        images=read_images(retriever.gallery, table),
        version=f"{table.name}-{table.version}",
        milliseconds=_cost(place),
        failed=report.failed,
    )


def _sample(folder: Path, most: int) -> list[Path]:
    """The folder itself, or `most` of its images, evenly drawn."""
    found = [file.path for file in find_images([folder]) if file.error is None]
    if len(found) <= most:
        return [folder]
    chosen = np.random.default_rng(0).choice(len(found), most, replace=False)
    return [found[i] for i in np.sort(chosen)]


def _key(
    folder: Path, encoding: Encoding, labels: str, engine: Engine | None, sampled: list[str] | None
) -> str:
    """Readable, and different for whatever gives other embeddings or labels."""
    name = encoding.name
    facts = [
        str(folder.resolve()), labels, engine, str(name), backbones.folder_content(name),
        encoding.size, encoding.fit, encoding.pool, encoding.views, sampled,
    ]  # fmt: skip
    digest = hashlib.sha256(json.dumps(facts).encode(errors="surrogateescape")).hexdigest()
    return f"{folder.resolve().name}-{name.last_part}-{digest[:16]}".replace(":", "-")


def _add_cost(place: Path, images: int, seconds: float) -> None:
    old_images, old_seconds = _read_cost(place)
    text = json.dumps({"images": old_images + images, "seconds": old_seconds + seconds})
    write_atomically(place / COST, text.encode())


def _cost(place: Path) -> float | None:
    images, seconds = _read_cost(place)
    return 1000 * seconds / images if images else None


def _read_cost(place: Path) -> tuple[int, float]:
    try:
        known = json.loads((place / COST).read_text())
        return int(known["images"]), float(known["seconds"])
    except (OSError, ValueError, LookupError, TypeError):
        return 0, 0.0

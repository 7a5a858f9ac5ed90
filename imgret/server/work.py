"""What the threads do with the work that has come together: encode, and search."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from retrieval.retriever import GalleryImage, Match, OpenGallery
from retrieval.retriever.left_out import NONE_LEFT_OUT, LeftOut

if TYPE_CHECKING:
    from classify.predictor import Prediction, Predictor

SEARCHED_AT_ONCE, LONG_AT_ONCE = 64, 8
MANY_MATCHES = 200

Work = TypeVar("Work")


@dataclass(frozen=True)
class EncodeWork:
    """A decoded picture, (size, size, 3) uint8, to be embedded as a gallery's are."""

    gallery: OpenGallery
    pixels: np.ndarray


@dataclass(frozen=True)
class SearchWork:
    """A (d,) embedding to search by. excluded: what is no match. options: of search()."""

    gallery: OpenGallery
    embedding: np.ndarray
    k: int
    excluded: LeftOut
    options: Mapping[str, Any]

    @property
    def is_long(self) -> bool:
        """Whether it takes so long that others should not wait for it."""
        asked = self.options.get
        deep = asked("distinct") or asked("min_confidence") or asked("rerank")
        return self.k > MANY_MATCHES or bool(deep)


@dataclass(frozen=True)
class Searched:
    """The matches of a query, and what is known of their images."""

    matches: Sequence[Match]
    images: Mapping[int, GalleryImage]


@dataclass(frozen=True)
class ClassifyWork:
    """A decoded picture, (size, size, 3) uint8, of which `top` classes are told, with the heat."""

    pixels: np.ndarray
    top: int
    heat: bool


@dataclass(frozen=True)
class Classified:
    """The classes of a picture. heat: a PNG of what speaks for the first one, if asked for."""

    prediction: Prediction
    heat: bytes | None


def encode_together(batch: Sequence[EncodeWork]) -> list[np.ndarray | Exception]:
    """Embed the pictures of a batch, those of one encoder at once."""

    def encode(pieces: Sequence[EncodeWork]) -> Sequence[np.ndarray]:
        return list(pieces[0].gallery.encode(np.stack([piece.pixels for piece in pieces])))

    return _by_kind(batch, lambda piece: id(piece.gallery.encoder), encode)


def search_together(batch: Sequence[SearchWork]) -> list[Searched | Exception]:
    """Search by the embeddings of a batch, those of one version and the same options at once."""

    def kind(piece: SearchWork) -> tuple[Any, ...]:
        return id(piece.gallery.state), piece.k, tuple(piece.options.items())

    return _by_kind(batch, kind, _search_alike)


def _search_alike(pieces: Sequence[SearchWork]) -> Sequence[Searched]:
    gallery, k, options = pieces[0].gallery, pieces[0].k, pieces[0].options
    excluded = [piece.excluded for piece in pieces]
    found = gallery.search(
        np.stack([piece.embedding for piece in pieces]), k,
        excluded=excluded if any(out != NONE_LEFT_OUT for out in excluded) else None, **options,
    )  # fmt: skip
    ids = {match.id for matches in found for match in matches}
    images = gallery.images(np.array(sorted(ids), np.int64))
    return [Searched(matches, images) for matches in found]


def classify_together(
    predictor: Predictor | None, batch: Sequence[ClassifyWork]
) -> list[Classified]:
    """Predict the classes of the pictures of a batch."""
    if predictor is None:
        return []
    most = max(work.top for work in batch)
    found = predictor.predict_pixels(np.stack([work.pixels for work in batch]), top=most)
    return [
        Classified(each.first(work.top), _heat(predictor, work.pixels) if work.heat else None)
        for each, work in zip(found, batch, strict=True)
    ]


def _heat(predictor: Predictor, pixels: np.ndarray) -> bytes:
    from PIL import Image

    from classify.explain import explain_picture, overlaid

    shown = overlaid(explain_picture(predictor, pixels))
    stream = io.BytesIO()
    Image.fromarray((255 * shown).round().astype(np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def _by_kind(
    batch: Sequence[Work],
    kind: Callable[[Work], Any],
    work: Callable[[Sequence[Work]], Sequence[Any]],
) -> list[Any]:
    """Do the pieces of each kind together; what is raised is the result of each of them."""
    places: dict[Any, list[int]] = defaultdict(list)
    for place, piece in enumerate(batch):
        places[kind(piece)].append(place)
    results: list[Any] = [None] * len(batch)
    for alike in places.values():
        try:
            done = work([batch[place] for place in alike])
        except Exception as error:  # noqa: BLE001  raised again where each is waited for
            done = [error] * len(alike)
        for place, result in zip(alike, done, strict=True):
            results[place] = result
    return results

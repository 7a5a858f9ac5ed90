"""What the threads do with the work that has come together: encode, and search."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from retrieval.retriever import GalleryImage, Match, OpenGallery

SEARCHED_AT_ONCE, LONG_AT_ONCE = 64, 8
MANY_MATCHES = 200
NO_IDS = np.empty(0, np.int64)

Work = TypeVar("Work")


@dataclass(frozen=True)
class EncodeWork:
    """A decoded picture, (size, size, 3) uint8, to be embedded as a gallery's are."""

    gallery: OpenGallery
    pixels: np.ndarray


@dataclass(frozen=True)
class SearchWork:
    """A (d,) embedding to search by. excluded: ids that are no matches. options: of search()."""

    gallery: OpenGallery
    embedding: np.ndarray
    k: int
    excluded: np.ndarray | None
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
    excluded = [NO_IDS if piece.excluded is None else piece.excluded for piece in pieces]
    found = gallery.search(
        np.stack([piece.embedding for piece in pieces]), k,
        excluded=excluded if any(map(len, excluded)) else None, **options,
    )  # fmt: skip
    ids = {match.id for matches in found for match in matches}
    images = gallery.images(np.array(sorted(ids), np.int64))
    return [Searched(matches, images) for matches in found]


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

"""Images in an order, a page at a time, also while the gallery changes."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from retrieval.errors import ArgumentError
from retrieval.gallery import Block, Column, Filter
from retrieval.plain import Plain
from retrieval.retriever.originals import GalleryImage, images_of
from retrieval.retriever.snapshot import Snapshot

ImageOrder = Literal["id", "path", "name", "label", "date", "size"]
COLUMN_OF_ORDER: dict[ImageOrder, Column] = {
    "id": "id", "path": "path", "name": "path", "label": "label", "date": "mtime_ns",
    "size": "size",
}  # fmt: skip
TEXTS: tuple[ImageOrder, ...] = ("path", "name", "label")
MOST_OF_A_CURSOR = 20_000  # characters


@dataclass(frozen=True)
class ImagePage(Plain):
    """Some images in an order. total: of all pages. next: what stands for the next page."""

    images: tuple[GalleryImage, ...]
    total: int
    next: str | None


def page_of(
    state: Snapshot,
    where: Filter | None,
    order: ImageOrder,
    *,
    descending: bool,
    after: str | None,
    limit: int,
) -> ImagePage:
    """Return the images that follow a place in an order; see OpenGallery.page()."""
    rows = state.ordered(where, COLUMN_OF_ORDER[order], descending, order == "name")
    start = 0 if after is None else _start(rows, order, after, descending=descending)
    end = min(start + limit, len(rows))
    ids = rows.ids[start:end]
    known = images_of(state, ids)
    following = None
    if start < end < len(rows):
        value = rows.value(COLUMN_OF_ORDER[order], end - 1)
        following = _written(order, value, int(ids[-1]), descending=descending)
    images = tuple(known[id] for id in ids.tolist() if id in known)
    return ImagePage(images, len(rows), following)


def _start(rows: Block, order: ImageOrder, after: str, *, descending: bool) -> int:
    """The place after that of a cursor, by bisection; what it names may be gone by now."""
    value, last = _read(order, after, descending=descending)
    column = COLUMN_OF_ORDER[order]
    low, high = 0, len(rows)
    while low < high:
        middle = (low + high) // 2
        here = rows.value(column, middle), int(rows.ids[middle])
        if _is_after(here, (value, last), descending=descending):
            high = middle
        else:
            low = middle + 1
    return low


def _is_after(one: tuple[Any, int], other: tuple[Any, int], *, descending: bool) -> bool:
    """Whether a row comes after another; those without a value are last, equal ones by id."""
    (value, id), (known, last) = one, other
    if value == known:
        return id > last
    if value is None or known is None:
        return value is None
    if isinstance(value, str):  # as the bytes are sorted
        value, known = value.encode(), known.encode()
    return bool(value < known if descending else value > known)


def _written(order: ImageOrder, value: Any, id: int, *, descending: bool) -> str:
    text = json.dumps([order, descending, value, id], separators=(",", ":"), ensure_ascii=False)
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _read(order: ImageOrder, after: str, *, descending: bool) -> tuple[Any, int]:
    try:
        if len(after) > MOST_OF_A_CURSOR:
            raise ValueError("it is too long")
        padded = after.encode("ascii") + b"=" * (-len(after) % 4)
        read = json.loads(base64.b64decode(padded, b"-_", validate=True))
        of, down, value, id = read
        kind: tuple[type, ...] = (str,) if order in TEXTS else (int,)
        fits = isinstance(value, kind) or (value is None and order == "label")
        if of != order or down is not descending or not fits or type(id) is not int:
            raise ValueError("it is of another list")
        if isinstance(value, str):
            value.encode()
        if isinstance(value, bool) or not abs(id) < np.iinfo(np.int64).max:
            raise ValueError("it is of another list")
    except (ValueError, TypeError, RecursionError, binascii.Error) as error:
        raise ArgumentError(
            "The cursor is not one that this list has given. Start from the first page."
        ) from error
    return value, id

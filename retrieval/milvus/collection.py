"""What a collection of Milvus holds, and what it says of itself; a server is not trusted."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Literal

from retrieval.errors import GalleryError
from retrieval.gallery.checks import (
    BadValue,
    Checked,
    takes_number,
    takes_one_of,
    takes_text,
    takes_whole,
)
from retrieval.milvus.address import ServedAddress
from retrieval.words import SERVED_KINDS, ServedKind

PROPERTY, HALF_WRITTEN = "imgret.published", "imgret.unfinished"  # of a collection
MOST_PROPERTY = 1 << 16  # characters
SERVED_FORMAT: Literal[1] = 1
VECTOR = "vector"
_HASH = takes_text(r"[0-9a-f]{64}")
_COUNT = takes_whole(0, 1 << 48)


@dataclass(frozen=True, kw_only=True)
class Published(Checked):
    """What a collection says of the rows that it holds.

    table, version: of the gallery's rows; gallery: its place. rows: how many are held. held: the
    SHA-256 of their ids and checksums. weights: of the backbone. transform: the SHA-256 of the
    transform's file; spec, fitted_on: as it was fitted. kind, effort, recall: of the index. tuned:
    rows when the effort was learnt. since: rows that changed since. written: Milvus's time stamp of
    the last change.
    """

    format: Literal[1] = field(default=SERVED_FORMAT, metadata=takes_one_of([SERVED_FORMAT]))
    table: str = field(metadata=takes_text(r"[0-9A-Za-z-]{1,64}"))
    gallery: str = field(metadata=takes_text(r"(?s:.{1,4096})"))
    version: int = field(metadata=takes_whole(1, (1 << 62) - 1))
    rows: int = field(metadata=_COUNT)
    held: str = field(metadata=_HASH)
    weights: str = field(metadata=_HASH)
    transform: str = field(metadata=_HASH)
    spec: str = field(metadata=takes_text(r"[ -~]{1,200}"))
    fitted_on: int = field(metadata=_COUNT)
    d_in: int = field(metadata=takes_whole(1, 1 << 16))
    d_out: int = field(metadata=takes_whole(1, 1 << 16))
    kind: ServedKind = field(metadata=takes_one_of(SERVED_KINDS))
    effort: int = field(metadata=takes_whole(1, 1 << 17))
    recall: float = field(metadata=takes_number(0, 1))
    tuned: int = field(metadata=_COUNT)
    since: int = field(default=0, metadata=_COUNT)
    written: int = field(metadata=takes_whole(1, (1 << 63) - 1))

    @classmethod
    def read_text(cls, text: str, address: ServedAddress) -> Published:
        """Read what a collection says. Raises GalleryError where that is not what imgret writes."""
        try:
            if len(text) > MOST_PROPERTY:
                raise BadValue("it is too long")
            return cls.read(json.loads(text))
        except (ValueError, RecursionError) as error:
            what = f" ({error})" if isinstance(error, BadValue) else ""
            raise GalleryError(
                f"What {address} says of its rows cannot be read{what}. Delete it there, and run "
                f"`imgret publish {address}` again."
            ) from error

    def as_text(self) -> str:
        """Write it as a property of the collection."""
        return json.dumps(self.as_table())


@dataclass(frozen=True)
class Collection:
    """One collection as the server describes it. name: its own, where an alias was asked for.

    published: what it says of its rows, as text; "" for nothing. unfinished: what a run of publish
    that has not ended wrote there, or "". shards: that share the writing.
    """

    name: str
    shards: int
    published: str = ""
    unfinished: str = ""

"""What a search is asked, as JSON or as the fields of a form, and what it answers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    model_validator,
)

MOST_MATCHES, MOST_EXAMPLES, MOST_ASKED = 1000, 32, 16
MOST_ID = (1 << 63) - 1
MOST_ENTRIES = 64  # of an object
ImageId = Annotated[int, Field(ge=0, le=MOST_ID)]
Where = Annotated[
    str,
    Field(max_length=10_000, description="A filter such as `label = 'BMW M3' AND width >= 640`."),
]
GalleryName = Annotated[
    str | None,
    Query(
        max_length=64, description="Name of the gallery, where several are served; else the first."
    ),
]
WhereQuery = Annotated[
    str | None,
    Query(max_length=10_000, description="A filter such as `label = 'BMW M3' AND width >= 640`."),
]
Embedding = Annotated[list[FiniteFloat], Field(min_length=1, max_length=16_384, fail_fast=True)]


def _parts(value: Any) -> Any:
    """Read X,Y,W,H of a form."""
    return value.split(",") if isinstance(value, str) and len(value) < 100 else value


def _example(value: Any) -> Any:
    """Read ID or ID:WEIGHT of a form."""
    if not isinstance(value, str) or len(value) > 100:
        return value
    id, _, weight = value.partition(":")
    return {"id": id, "weight": weight} if weight else {"id": id}


class AskedBody(BaseModel):
    """What a request holds, without values that are unknown here."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _check_count(cls, values: Any) -> Any:
        """Each unknown value is a fault of its own, and to tell a million takes seconds."""
        if isinstance(values, dict) and len(values) > MOST_ENTRIES:
            raise ValueError(f"There are more than {MOST_ENTRIES} values")
        return values


class Example(AskedBody):
    """An image to be more or less like, by its id or its embedding."""

    id: ImageId | None = None
    embedding: Embedding | None = None
    weight: FiniteFloat = Field(1.0, gt=0, le=100)


Examples = Annotated[
    list[Annotated[Example, BeforeValidator(_example)]], Field(max_length=MOST_EXAMPLES)
]
Region = Annotated[
    tuple[
        Annotated[int, Field(ge=0, le=1 << 30)],
        Annotated[int, Field(ge=0, le=1 << 30)],
        Annotated[int, Field(ge=1, le=1 << 30)],
        Annotated[int, Field(ge=1, le=1 << 30)],
    ],
    BeforeValidator(_parts),
]


class SearchOptions(AskedBody):
    """How to search: which of the nearest images are matches, and in which order."""

    k: int = Field(20, ge=1, le=MOST_MATCHES, description="Number of matches.")
    where: Where | None = None
    min_score: float | None = Field(None, ge=-1, le=1, description="Least cosine similarity.")
    min_confidence: float | None = Field(None, ge=0, le=1, description="Least probability.")
    prior_known: float | None = Field(
        None, gt=0, lt=1, description="Share of queries that have an answer in the gallery."
    )
    crop: Region | None = Field(
        None, description="Region of each picture to search by: X, Y, width and height in pixels."
    )
    distinct: bool = Field(default=False, description="Give all copies of a picture as one match.")
    exclude_self: bool = Field(default=False, description="Leave out the query and copies of it.")
    expand: str | None = Field(
        None, max_length=40, description="Query expansion, such as `3:1.0`, or `none`."
    )
    rerank: str | None = Field(
        None, max_length=40, description="Re-ranking, such as `100:20:6:0.3`, or `none`."
    )
    positive: Examples = Field([], description="Images to be more like.")
    negative: Examples = Field([], description="Images to be less like.")


class SearchBody(SearchOptions):
    """A search by ids, embeddings or addresses of pictures; with examples alone, by these."""

    ids: list[ImageId] = Field([], max_length=MOST_ASKED, description="Images of the gallery.")
    embeddings: list[Embedding] = Field([], max_length=MOST_ASKED)
    urls: list[Annotated[str, Field(max_length=2048)]] = Field(
        [], max_length=MOST_ASKED, description="Public addresses, with `--allow-urls`."
    )


class EmbedBody(AskedBody):
    """Addresses of pictures to embed."""

    urls: list[Annotated[str, Field(max_length=2048)]] = Field(
        min_length=1, max_length=MOST_ASKED, description="Public addresses, with `--allow-urls`."
    )


class FoundImage(BaseModel):
    """One match. probability: that it is right, where the gallery is calibrated."""

    id: int
    path: str
    score: float
    probability: float | None
    label: str | None
    width: int
    height: int
    copies: int
    thumbnail: str


class SearchedQuery(BaseModel):
    """A query and its matches, best first, or why it cannot be used."""

    kind: Literal["picture", "id", "embedding", "url", "examples"]
    name: str
    matches: list[FoundImage] = []
    error: str | None = None


class SearchAnswer(BaseModel):
    """The matches of all queries, in their order. version: of the gallery that was searched."""

    gallery: str
    version: str
    results: list[SearchedQuery]


class EmbeddedPicture(BaseModel):
    """The embedding of a picture, of unit length, or why it cannot be used."""

    name: str
    embedding: list[float] | None = None
    error: str | None = None


class EmbedAnswer(BaseModel):
    """The embeddings of all pictures, in their order."""

    gallery: str
    version: str
    backbone: str
    results: list[EmbeddedPicture]


SEARCH_BODIES: tuple[type[BaseModel], ...] = (SearchBody, EmbedBody)

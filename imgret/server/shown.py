"""What answers say of images and of galleries."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from imgret.server.asked import AskedBody

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class ImageDetails(BaseModel):
    """One image of a gallery. size: bytes. modified: when its file was changed."""

    id: int
    path: str
    label: str | None
    width: int
    height: int
    size: int
    modified: datetime
    format: str
    sha256: str
    thumbnail: str


class ImageCluster(BaseModel):
    """Images of a list that look alike: the id of the first, and how many follow with it."""

    first: int
    images: int


class ImageListAnswer(BaseModel):
    """Some images in an order. total: of all pages. next: the cursor of the next page.

    clusters: those that begin on this page, where the order is by clusters.
    """

    gallery: str
    version: str
    images: list[ImageDetails]
    total: int
    next: str | None
    clusters: list[ImageCluster] = []


class LabelBody(AskedBody):
    """The label to give an image; null for none."""

    label: str | None = Field(max_length=500)


class UploadOptions(BaseModel):
    """What is known of the pictures that are sent."""

    model_config = ConfigDict(extra="forbid")
    label: str | None = Field(
        None, min_length=1, max_length=100, description="Their label, by default the folder's name."
    )


class UploadedPicture(BaseModel):
    """A picture that is in the gallery now, or why it is not. created: whether it is new there."""

    name: str
    created: bool = False
    image: ImageDetails | None = None
    error: str | None = None


class UploadAnswer(BaseModel):
    """What became of each picture, in their order."""

    gallery: str
    results: list[UploadedPicture]


class CountedValue(BaseModel):
    """A value and how many images have it."""

    value: str | None
    images: int


class CountedSize(BaseModel):
    """How many images have a file of at least `least` bytes and of fewer than `below`, if any."""

    least: int
    below: int | None
    images: int


class FacetsAnswer(BaseModel):
    """Images by label, folder, month and size.

    The largest come first, of months the newest, of sizes the smallest.
    """

    gallery: str
    version: str
    total: int
    labels: list[CountedValue]
    folders: list[CountedValue]
    months: list[CountedValue]
    sizes: list[CountedSize]


class FilterColumn(BaseModel):
    """A column that a filter may name, and what it holds."""

    name: str
    holds: Literal["text", "whole numbers", "true or false"]


class WriterProgress(BaseModel):
    """How far the `index` is that runs now. total: null where it does not know yet."""

    step: str
    done: int
    total: int | None


class GalleryAnswer(BaseModel):
    """A gallery, and what this service can do with it.

    is_written: whether `index` runs now. writer: how far it is, once it has said so.
    """

    gallery: str
    galleries: list[str]
    version: str
    path: str
    images: int
    failed: int
    labels: int
    backbone: str
    dim: int
    transform: str
    index: str
    recall: float | None
    confidence: str
    is_written: bool
    writer: WriterProgress | None
    columns: list[FilterColumn]
    can_write: bool
    can_upload: bool
    can_fetch: bool
    can_classify: bool


class JobProgress(BaseModel):
    """Work in the background that is not done yet; ask again in a few seconds."""

    status: Literal["running"] = "running"
    step: str
    done: int
    total: int | None


class DuplicateImage(BaseModel):
    """An image of a group. tier: what it shares with the one to keep, which has none."""

    id: int | None
    path: str
    width: int
    height: int
    size: int
    label: str | None
    score: float
    tier: str | None
    thumbnail: str | None


class DuplicateImages(BaseModel):
    """Images that are one image, more or less; the first is the one to keep."""

    tier: str
    images: list[DuplicateImage]


class DuplicatesAnswer(BaseModel):
    """Groups of near-identical images. next: the cursor of the next page."""

    status: Literal["done"] = "done"
    gallery: str
    version: str
    groups: list[DuplicateImages]
    total: int
    next: str | None


class MapPoint(BaseModel):
    """An image on the map, x and y from 0 to 1."""

    id: int | None
    x: float
    y: float
    label: str


class MapAnswer(BaseModel):
    """Images in two dimensions. total: of the gallery, of which these may be a sample."""

    status: Literal["done"] = "done"
    gallery: str
    version: str
    method: str
    total: int
    points: list[MapPoint]


IMAGE_BODIES: tuple[type[BaseModel], ...] = (LabelBody,)


def as_date(modified_ns: int) -> datetime:
    """Return nanoseconds since 1970 as a date."""
    return EPOCH + timedelta(microseconds=modified_ns // 1000)

"""The files of several images as one ZIP, bounded in number and bytes."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import IO, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response, StreamingResponse

from imgret.server.asked import GalleryName, ImageId
from imgret.server.problem import Problem, problem_responses
from imgret.server.service import service_of
from retrieval.errors import ImageError
from retrieval.retriever import GalleryImage, OpenGallery

MOST_FILES, MOST_PACKED = 1_000, 512 << 20  # bytes
SENT_AT_ONCE = 1 << 18  # bytes
NOT_PACKED = "left-out.txt"
ZIP: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}}},
    **problem_responses(413),
}

archive_routes = APIRouter(prefix="/v1", tags=["images"])


class ArchiveBody(BaseModel):
    """Which images to pack."""

    model_config = ConfigDict(extra="forbid")
    ids: list[ImageId] = Field(min_length=1, max_length=MOST_FILES)


@archive_routes.post("/archive", response_class=Response, responses=ZIP)
async def pack_files(request: Request, asked: ArchiveBody, gallery: GalleryName = None) -> Response:
    """Give the files of images as a ZIP; left-out.txt in it names those that cannot be read."""
    service = service_of(request)
    async with service.opened(gallery) as found:
        images = await service.read(found.images, list(dict.fromkeys(asked.ids)))
        if not images:
            raise Problem(404, "No image has one of these ids. Use some that a search has given.")
        if sum(image.size for image in images.values()) > MOST_PACKED:
            raise Problem(
                413, f"These files have more than {MOST_PACKED >> 20} MiB together. Ask for fewer."
            )
        packed = await service.read(_packed, found, list(images.values()))
    headers = {"content-disposition": 'attachment; filename="imgret.zip"'}
    return StreamingResponse(_parts(packed), media_type="application/zip", headers=headers)


def _packed(gallery: OpenGallery, images: Sequence[GalleryImage]) -> IO[bytes]:
    """Write a ZIP of files under their own names, with a number where several have one."""
    packed = tempfile.TemporaryFile()  # noqa: SIM115  closed when it was sent
    left_out, width = [], len(str(len(images)))
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for number, image in enumerate(images, start=1):
            name = image.path.name.encode("utf-8", "replace").decode()
            try:
                archive.writestr(f"{number:0{width}}-{name}", gallery.original(image))
            except ImageError as error:
                left_out.append(f"{name}: {error}\n")
        if left_out:
            archive.writestr(NOT_PACKED, "".join(left_out))
    packed.seek(0)
    return packed


def _parts(packed: IO[bytes]) -> Iterator[bytes]:
    with closing(packed):
        while part := packed.read(SENT_AT_ONCE):
            yield part

"""The files of several images as one ZIP, bounded in number and bytes."""

from __future__ import annotations

import tempfile
import weakref
import zipfile
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from imgret.server.asked import AskedBody, GalleryName, ImageId
from imgret.server.problem import Problem, problem_responses
from imgret.server.searches import read_json
from imgret.server.service import Service, service_of
from retrieval.errors import ImageError
from retrieval.retriever import GalleryImage, OpenGallery
from retrieval.text import one_sentence, visible

MOST_FILES, MOST_PACKED = 1_000, 512 << 20  # bytes
MOST_AT_ONCE = 2 << 30  # bytes of all archives
SENT_AT_ONCE = 1 << 18  # bytes
NOT_PACKED = "left-out.txt"
ZIP: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}}},
    **problem_responses(415, 507),
}

archive_routes = APIRouter(prefix="/v1", tags=["images"])


class ArchiveBody(AskedBody):
    """Which images to pack."""

    ids: list[ImageId] = Field(min_length=1, max_length=MOST_FILES)


@archive_routes.post(
    "/archive",
    response_class=Response,
    responses=ZIP,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": {"$ref": "#/components/schemas/ArchiveBody"}}
            },
        }
    },
)
async def pack_files(request: Request, gallery: GalleryName = None) -> Response:
    """Give the files of images as a ZIP; left-out.txt in it names those that cannot be read."""
    service, asked = service_of(request), await read_json(request, ArchiveBody)
    async with service.opened(gallery) as found:
        images = await service.read(found.images, list(dict.fromkeys(asked.ids)))
        if not images:
            raise Problem(404, "No image has one of these ids. Use some that a search has given.")
        size = sum(image.size for image in images.values())
        if size > MOST_PACKED:
            raise Problem(
                413, f"These files have more than {MOST_PACKED >> 20} MiB together. Ask for fewer."
            )
        with _Room(service, size) as room:
            try:
                packed = await service.pack(_packed, found, list(images.values()))
            except OSError as error:
                raise Problem(
                    507, f"There is no room to pack these files ({one_sentence(error)}). Ask for "
                    "fewer.",
                ) from error  # fmt: skip
            return _SentFile(packed, room.kept())


class _Room:
    """Room for an archive among those that are on their way. Raises Problem where none is left."""

    def __init__(self, service: Service, size: int) -> None:
        if service.packed and service.packed + size > MOST_AT_ONCE:
            raise Problem(
                429, "Too many archives are being sent. Try again in a few seconds.",
                headers={"Retry-After": "5"},
            )  # fmt: skip
        self._service, self._size = service, size
        self._is_kept = False
        service.packed += size

    def __enter__(self) -> _Room:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._is_kept:
            self.give_back()

    def kept(self) -> Callable[[], None]:
        """Keep it for longer; what is returned gives it back."""
        self._is_kept = True
        return self.give_back

    def give_back(self) -> None:
        """Let others have it."""
        self._service.packed -= self._size


class _SentFile(StreamingResponse):
    """A file that is closed however its sending ends: it may be large, and have no name."""

    def __init__(self, file: IO[bytes], end: Callable[[], None]) -> None:
        headers = {"content-disposition": 'attachment; filename="imgret.zip"'}
        super().__init__(_parts(file), media_type="application/zip", headers=headers)

        def close() -> None:
            file.close()
            end()

        self._close = weakref.finalize(self, close)  # at the latest; once

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._close()


def _packed(gallery: OpenGallery, images: Sequence[GalleryImage]) -> IO[bytes]:
    """Write a ZIP of files under their own names, with a number where several have one."""
    packed = tempfile.TemporaryFile()  # noqa: SIM115  closed when it was sent
    left_out, width = [], len(str(len(images)))
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for number, image in enumerate(images, start=1):
            name = visible(image.path.name).replace("\\", "_")  # Windows sees folders there
            try:
                archive.writestr(f"{number:0{width}}-{name}", gallery.original(image))
            except ImageError as error:
                left_out.append(f"{name}: {error}\n")
        if left_out:
            archive.writestr(NOT_PACKED, "".join(left_out))
    packed.seek(0)
    return packed


def _parts(packed: IO[bytes]) -> Iterator[bytes]:
    while part := packed.read(SENT_AT_ONCE):
        yield part

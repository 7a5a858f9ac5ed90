"""The images of a gallery: list, look at, add, remove, label."""

from __future__ import annotations

import asyncio
from pathlib import Path as FilePath
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from imgret.server.asked import (
    MOST_ID,
    MOST_MATCHES,
    GalleryName,
    SearchAnswer,
    SearchedQuery,
    WhereQuery,
)
from imgret.server.clustered import ListOrder, list_by_clusters
from imgret.server.form import MULTIPART, form_schema, read_form
from imgret.server.overview import STILL_RUNNING
from imgret.server.problem import Problem, problem_responses
from imgret.server.searches import found_images, image_details, json_response, read_json
from imgret.server.service import Service, service_of
from imgret.server.shown import (
    ImageDetails,
    ImageListAnswer,
    LabelBody,
    UploadAnswer,
    UploadedPicture,
    UploadOptions,
)
from imgret.server.thumbnails import draw_thumbnail
from imgret.server.uploads import UploadWork, checked_label
from retrieval.errors import GalleryError, ImageError
from retrieval.files import delete
from retrieval.retriever import GalleryImage, OpenGallery
from retrieval.retriever.left_out import LeftOut
from retrieval.text import advised, composed, visible

TYPES = {
    "JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "AVIF": "image/avif",
    "GIF": "image/gif", "BMP": "image/bmp", "TIFF": "image/tiff", "HEIF": "image/heif",
}  # fmt: skip
UNKNOWN_TYPE = "application/octet-stream"
AWHILE = "private, max-age=300"
BINARY: dict[int | str, dict[str, Any]] = {
    304: {"description": "Not Modified"},
    **problem_responses(410),
}
Id = Annotated[int, Path(ge=0, le=MOST_ID)]

image_routes = APIRouter(prefix="/v1", tags=["images"])


@image_routes.get("/images", response_model=ImageListAnswer, responses=STILL_RUNNING)
async def list_images(
    request: Request,
    gallery: GalleryName = None,
    where: WhereQuery = None,
    order: ListOrder = "id",
    *,
    descending: bool = False,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: Annotated[
        str | None, Query(max_length=20_000, description="`next` of the page before.")
    ] = None,
) -> Response:
    """List images in an order, a page at a time; 202 while clusters are worked out."""
    service = service_of(request)
    name = service.name_of(gallery)
    if order == "clusters":
        return await list_by_clusters(
            service, gallery, where, cursor, descending=descending, limit=limit
        )
    async with service.opened(gallery) as found:

        def read() -> Any:
            return found.page(limit, order=order, descending=descending, where=where, after=cursor)

        page = await service.read(read)
        images = [image_details(service, name, image) for image in page.images]
        version = found.version
    return json_response(
        ImageListAnswer(
            gallery=name, version=version, images=images, total=page.total, next=page.next
        )
    )


@image_routes.post(
    "/images",
    response_model=UploadAnswer,
    status_code=201,
    responses={200: {"model": UploadAnswer}, **problem_responses(409, 415, 507)},
    openapi_extra={
        "requestBody": {
            "required": True, "content": {MULTIPART: form_schema(UploadOptions)},
        }
    },
)  # fmt: skip
async def add_images(request: Request, gallery: GalleryName = None) -> Response:
    """Store and index pictures. 201: each that is new is on the disk; 200: all were there."""
    service = service_of(request)
    options, name = service.options, service.name_of(gallery)
    if options.uploads is None:
        raise Problem(403, "Pictures are not stored here. Start with --uploads FOLDER.")
    pictures, fields = await read_form(request, options.limits)
    label = checked_label(UploadOptions.model_validate(fields).label)
    if not pictures:
        raise Problem(422, "There is no picture. Send one as `picture`.")
    retriever, folder, pixels = service.retriever(gallery), options.uploads, options.limits.pixels
    begins = service.is_awaited(name)
    work = [UploadWork(retriever, folder, p.content, label, pixels, begins) for p in pictures]
    done = await asyncio.gather(*map(service.store, work), return_exceptions=True)
    results = []
    for picture, each in zip(pictures, done, strict=True):
        result = UploadedPicture(name=visible(picture.name))
        if isinstance(each, ImageError):
            result.error = advised(str(each))
        elif isinstance(each, BaseException):
            raise each
        else:
            result.created = each.created
            result.image = image_details(service, name, each.image)
        results.append(result)
    if all(result.error for result in results):
        raise Problem(422, results[0].error or "It cannot be used.")
    response = json_response(UploadAnswer(gallery=name, results=results))
    response.status_code = 201 if any(result.created for result in results) else 200
    return response


@image_routes.get("/images/{id}", response_model=ImageDetails)
async def show_image(request: Request, id: Id, gallery: GalleryName = None) -> Response:
    """Tell what is known of an image."""
    service = service_of(request)
    async with service.opened(gallery) as found:
        image = await _image(service, found, id)
    return json_response(image_details(service, service.name_of(gallery), image))


@image_routes.delete("/images/{id}", status_code=204)
async def remove_image(request: Request, id: Id, gallery: GalleryName = None) -> Response:
    """Drop an image from the gallery, and its file if that was sent here for it alone."""
    service = service_of(request)
    await service.write(_remove, service, service.name_of(gallery), id)
    return Response(status_code=204)


@image_routes.patch(
    "/images/{id}",
    response_model=ImageDetails,
    responses=problem_responses(415),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/LabelBody"}}},
        }
    },
)
async def label_image(request: Request, id: Id, gallery: GalleryName = None) -> Response:
    """Set the label of an image; it lasts when its folder is indexed again."""
    service = service_of(request)
    label = (await read_json(request, LabelBody)).label
    if label is not None and (not label.strip() or not composed(label).isprintable()):
        raise Problem(422, "The label is empty or holds control characters. Give text, or null.")
    async with service.opened(gallery) as found:
        await _image(service, found, id)
    await service.write(service.retriever(gallery).relabel, {id: label})
    return await show_image(request, id, gallery)


@image_routes.get("/images/{id}/neighbours", response_model=SearchAnswer)
async def find_neighbours(
    request: Request,
    id: Id,
    gallery: GalleryName = None,
    k: Annotated[int, Query(ge=1, le=MOST_MATCHES)] = 20,
    where: WhereQuery = None,
) -> Response:
    """Find the images that look like an image of the gallery, itself left out."""
    service = service_of(request)
    name = service.name_of(gallery)
    async with service.opened(gallery) as found:
        await _image(service, found, id)

        def read() -> Any:
            return found.embeddings_of([id])[0]

        embedding, own = await service.read(read), LeftOut(ids=(id,))
        result = await service.search(found, embedding, k, own, {"where": where})
        matches = found_images(service, name, result)
        answer = SearchAnswer(
            gallery=name,
            version=found.version,
            results=[SearchedQuery(kind="id", name=str(id), matches=matches)],
        )
    return json_response(answer)


@image_routes.get(
    "/images/{id}/thumbnail",
    response_class=Response,
    responses={200: {"content": {"image/jpeg": {}}}, **BINARY},
)
async def show_thumbnail(
    request: Request,
    id: Id,
    gallery: GalleryName = None,
    size: Annotated[int, Query(ge=16, le=1024, description="Longest side in pixels.")] = 256,
) -> Response:
    """Give a small picture of an image."""
    service = service_of(request)
    async with service.opened(gallery) as found:
        image = await _image(service, found, id)
        tag = f'"{image.sha256[:32]}-{size}"'
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers={"etag": tag, "cache-control": AWHILE})
        content = service.thumbnails.find(image.sha256, size)
        if content is None:
            original = await _original(service, found, image)
            most = service.options.limits.pixels
            content = await service.in_lanes(original, lambda: draw_thumbnail(original, size, most))
            service.thumbnails.add(image.sha256, size, content)
    headers = {"etag": tag, "cache-control": AWHILE}
    return Response(content, media_type="image/jpeg", headers=headers)


@image_routes.get(
    "/images/{id}/file",
    response_class=Response,
    responses={200: {"content": {"image/*": {}, UNKNOWN_TYPE: {}}}, **BINARY},
)
async def show_original(request: Request, id: Id, gallery: GalleryName = None) -> Response:
    """Give the file of an image, if it is still what was indexed."""
    service = service_of(request)
    async with service.opened(gallery) as found:
        image = await _image(service, found, id)
        tag = f'"{image.sha256[:32]}"'
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers={"etag": tag, "cache-control": AWHILE})
        content = await _original(service, found, image)
    kind = TYPES.get(image.format, UNKNOWN_TYPE)
    shown = "inline" if image.format in TYPES else "attachment"
    name = quote(image.path.name.encode("utf-8", "replace"), safe="")
    headers = {
        "etag": tag, "cache-control": AWHILE,
        "content-disposition": f"{shown}; filename*=UTF-8''{name}",
    }  # fmt: skip
    return Response(content, media_type=kind, headers=headers)


def _remove(service: Service, name: str, id: int) -> None:
    """Do all of it in one turn: the same picture may be sent again meanwhile."""
    retriever = service.retriever(name)
    with retriever.open() as gallery:
        image = _known(gallery.image(id), id)
    retriever.remove([image.path])
    if _was_sent(service.options.uploads, image) and not _is_held(service, name, image):
        delete(image.path)


def _is_held(service: Service, name: str, image: GalleryImage) -> bool:
    """Whether a gallery beside that of a name has an image's file, as far as can be told."""
    for retriever in (service.galleries[other] for other in service.galleries if other != name):
        try:
            with retriever.open() as gallery:
                if gallery.ids_of_paths([image.path]) != [None]:
                    return True
        except GalleryError:
            return True
    return False


async def _image(service: Service, gallery: OpenGallery, id: int) -> GalleryImage:
    return _known(await service.read(gallery.image, id), id)


def _known(image: GalleryImage | None, id: int) -> GalleryImage:
    if image is None:
        raise Problem(404, f"No image has the id {id}. Use one that a search has given.")
    return image


async def _original(service: Service, gallery: OpenGallery, image: GalleryImage) -> bytes:
    try:
        return await service.read(gallery.original, image)
    except ImageError as error:
        raise Problem(410, advised(str(error))) from error


def _was_sent(uploads: FilePath | None, image: GalleryImage) -> bool:
    """Tell whether a file lies where pictures that are sent do, under the name of its content."""
    if uploads is None or image.path.stem != image.sha256:
        return False
    return image.path.resolve().is_relative_to(uploads.resolve())

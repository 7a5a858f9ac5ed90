"""Search by pictures, ids, embeddings or addresses; and embed pictures."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar
from urllib.parse import quote

import numpy as np
from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import Response

from imgret.server.asked import (
    EmbedAnswer,
    EmbedBody,
    EmbeddedPicture,
    Example,
    FoundImage,
    GalleryName,
    SearchAnswer,
    SearchBody,
    SearchedQuery,
    SearchOptions,
)
from imgret.server.form import MULTIPART, SentPicture, form_schema, is_multipart, read_form
from imgret.server.guard import too_large
from imgret.server.problem import Problem, problem_responses
from imgret.server.service import Service, service_of
from imgret.server.shown import ImageDetails, as_date
from imgret.server.work import Searched
from retrieval.errors import ImageError
from retrieval.refinement import Refinement
from retrieval.retriever import GalleryImage, OpenGallery
from retrieval.retriever.left_out import NONE_LEFT_OUT, LeftOut
from retrieval.retriever.open_gallery import combined
from retrieval.text import advised, visible

JSON = "application/json"
REGION = r"[0-9]{1,9}(,[0-9]{1,9}){3}"
EXAMPLE = r"[0-9]{1,18}(:[0-9]{1,2}(\.[0-9]{1,4})?)?"
MOST_RERANKED, MOST_EXPANDED = 200, 100
OPTIONS_OF_SEARCH = (
    "where", "min_score", "min_confidence", "prior_known", "distinct", "expand", "rerank",
)  # fmt: skip

search_routes = APIRouter(prefix="/v1", tags=["search"], responses=problem_responses(415))
Body = TypeVar("Body", bound=BaseModel)


@dataclass(frozen=True)
class _Asked:
    """One query: what it is, and its embedding, or why it has none. selves: its own rows."""

    kind: Literal["picture", "id", "embedding", "url", "examples"]
    name: str
    embedding: np.ndarray | None = None
    selves: LeftOut = NONE_LEFT_OUT
    error: str | None = None


def _body(form: dict[str, Any], json: type[BaseModel]) -> dict[str, Any]:
    """Say what a route takes: a form of pictures, or JSON."""
    reference = {"schema": {"$ref": f"#/components/schemas/{json.__name__}"}}
    return {"requestBody": {"required": True, "content": {MULTIPART: form, JSON: reference}}}


@search_routes.post(
    "/search",
    response_model=SearchAnswer,
    openapi_extra=_body(
        form_schema(SearchOptions, crop=REGION, positive=EXAMPLE, negative=EXAMPLE), SearchBody
    ),
)
async def search_gallery(request: Request, gallery: GalleryName = None) -> Response:
    """Find the images that look like each picture, or like examples."""
    service = service_of(request)
    pictures: list[SentPicture] = []
    if is_multipart(request):
        pictures, fields = await read_form(
            request, service.options.limits, several=("positive", "negative")
        )
        asked = SearchBody.model_validate(SearchOptions.model_validate(fields).model_dump())
    else:
        asked = await read_json(request, SearchBody)
    async with service.opened(gallery) as found:
        queries = await _queries(service, found, asked, pictures)
        results = await _search(service, found, queries, asked)
        name = service.name_of(gallery)
        version = found.version

    def answered() -> Response:
        pairs = zip(queries, results, strict=True)
        shown = [_answered(service, name, query, result) for query, result in pairs]
        return json_response(SearchAnswer(gallery=name, version=version, results=shown))

    return await service.read(answered)


@search_routes.post(
    "/embed", response_model=EmbedAnswer, openapi_extra=_body(form_schema(), EmbedBody)
)
async def embed_pictures(request: Request, gallery: GalleryName = None) -> Response:
    """Embed pictures as those of a gallery are embedded."""
    service = service_of(request)
    if is_multipart(request):
        pictures, fields = await read_form(request, service.options.limits)
        if fields:
            raise Problem(422, f"There is no field {next(iter(fields))!r} here. Send pictures.")
        if not pictures:
            raise Problem(422, "There is no picture. Send one as `picture`.")
        asked = SearchBody.model_validate({})
    else:
        pictures, urls = [], (await read_json(request, EmbedBody)).urls
        asked = SearchBody.model_validate({"urls": urls})
    async with service.opened(gallery) as found:
        queries = await _queries(service, found, asked, pictures)
        answer = EmbedAnswer(
            gallery=service.name_of(gallery),
            version=found.version,
            backbone=found.encoder.spec.name,
            results=[
                EmbeddedPicture(
                    name=query.name,
                    embedding=None if query.embedding is None else query.embedding.tolist(),
                    error=query.error,
                )
                for query in queries
            ],
        )
    return json_response(answer)


async def read_json(request: Request, model: type[Body]) -> Body:
    """Read a body of JSON. Raises Problem for another kind, and ValidationError."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != JSON:
        raise Problem(415, f"The request is neither {MULTIPART} nor {JSON}. Send one of them.")
    service, parts = service_of(request), bytearray()
    async for part in request.stream():
        parts += part
        if len(parts) > service.options.limits.json:
            raise too_large(service.options.limits.json)
    return await service.read(model.model_validate_json, bytes(parts))


def json_response(answer: BaseModel) -> Response:
    """Return an answer that needs no further check."""
    return Response(answer.model_dump_json(), media_type=JSON)


async def _queries(
    service: Service, gallery: OpenGallery, asked: SearchBody, pictures: Sequence[SentPicture]
) -> list[_Asked]:
    """Embed what is asked, moved by the examples. Raises Problem where nothing can be used."""
    if asked.crop and (asked.ids or asked.embeddings or not (pictures or asked.urls)):
        raise Problem(422, "crop is for pictures. Leave it out for ids and embeddings.")
    work: list[Awaitable[_Asked]] = [
        _of_picture(service, gallery, asked, picture) for picture in pictures
    ]
    work += [_of_url(service, gallery, asked, url) for url in asked.urls]
    queries = list(await asyncio.gather(*work))
    if asked.ids:
        queries += await service.read(_of_ids, gallery, asked)
    if asked.embeddings:
        embeddings = gallery.as_queries(_matrix(asked.embeddings))
        queries += [_Asked("embedding", str(n), e) for n, e in enumerate(embeddings)]
    if asked.positive or asked.negative:
        queries = await service.read(_moved, gallery, asked, queries)
    if not queries:
        raise Problem(422, "There is nothing to search by. Send pictures, ids or embeddings.")
    if all(query.error for query in queries):
        raise Problem(422, advised(f"{queries[0].error}"))
    return queries


async def _of_picture(
    service: Service, gallery: OpenGallery, asked: SearchBody, picture: SentPicture
) -> _Asked:
    query = _Asked("picture", visible(picture.name))
    return await _of_content(service, gallery, asked, picture.content, query)


async def _of_url(service: Service, gallery: OpenGallery, asked: SearchBody, url: str) -> _Asked:
    query = _Asked("url", visible(url))
    async with service.fetching:
        try:
            content = await service.download(url)
        except ImageError as error:
            return replace(query, error=str(error))
        return await _of_content(service, gallery, asked, content, query)


async def _of_content(
    service: Service, gallery: OpenGallery, asked: SearchBody, content: bytes, query: _Asked
) -> _Asked:
    try:
        embedding = await service.embed(gallery, content, asked.crop)
    except ImageError as error:
        return replace(query, error=str(error))
    selves = NONE_LEFT_OUT
    if asked.exclude_self:
        selves = LeftOut(contents=(hashlib.sha256(content).hexdigest(),))
    return replace(query, embedding=embedding, selves=selves)


def _of_ids(gallery: OpenGallery, asked: SearchBody) -> list[_Asked]:
    embeddings, images = gallery.embeddings_of(asked.ids), gallery.images(asked.ids)
    queries = []
    for id, embedding in zip(asked.ids, embeddings, strict=True):
        selves = NONE_LEFT_OUT
        if asked.exclude_self:
            selves = LeftOut(ids=(id,), contents=(images[id].sha256,))
        queries.append(_Asked("id", str(id), embedding, selves))
    return queries


def _moved(gallery: OpenGallery, asked: SearchBody, queries: Sequence[_Asked]) -> list[_Asked]:
    """Move each query by the examples; without one, search by the examples alone."""
    given = [*asked.positive, *asked.negative]
    examples = np.stack([_embedding_of(gallery, example) for example in given])
    weights = [e.weight for e in asked.positive] + [-e.weight for e in asked.negative]
    if not queries:
        selves = NONE_LEFT_OUT
        if asked.exclude_self:
            selves = LeftOut(ids=tuple(e.id for e in given if e.id is not None))
        return [_Asked("examples", "", combined(None, examples, weights), selves)]
    return [
        query if query.embedding is None
        else replace(query, embedding=combined(query.embedding, examples, weights))
        for query in queries
    ]  # fmt: skip


def _embedding_of(gallery: OpenGallery, example: Example) -> np.ndarray:
    if example.id is not None and example.embedding is None:
        return np.asarray(gallery.embeddings_of([example.id])[0])
    if example.embedding is not None and example.id is None:
        return np.asarray(gallery.as_queries(_matrix([example.embedding]))[0])
    raise Problem(422, "An example has one of id and embedding. Give one of them.")


def _matrix(embeddings: Sequence[Sequence[float]]) -> np.ndarray:
    if len({len(each) for each in embeddings}) > 1:
        raise Problem(422, "The embeddings have several widths. Give them one width.")
    return np.array(embeddings, np.float64)


async def _search(
    service: Service, gallery: OpenGallery, queries: Sequence[_Asked], asked: SearchBody
) -> list[Searched | None]:
    options = {name: getattr(asked, name) for name in OPTIONS_OF_SEARCH}

    async def search(query: _Asked) -> Searched | None:
        if query.embedding is None:
            return None
        return await service.search(gallery, query.embedding, asked.k, query.selves, options)

    _check_cost(asked)
    return list(await asyncio.gather(*map(search, queries)))


def _check_cost(asked: SearchBody) -> None:
    """Raise Problem for a refinement that keeps a processor busy for seconds."""
    given = Refinement.of(asked.expand, None, asked.rerank)
    if given.rerank and given.rerank.m > MOST_RERANKED:
        raise Problem(422, f"rerank sorts {given.rerank.m} images. Give {MOST_RERANKED} or less.")
    if given.expand and given.expand.n > MOST_EXPANDED:
        raise Problem(422, f"expand takes {given.expand.n} images. Give {MOST_EXPANDED} or less.")


def _answered(service: Service, name: str, query: _Asked, result: Searched | None) -> SearchedQuery:
    error = None if query.error is None else advised(query.error)
    matches = [] if result is None else found_images(service, name, result)
    return SearchedQuery(kind=query.kind, name=query.name, matches=matches, error=error)


def found_images(service: Service, name: str, result: Searched) -> list[FoundImage]:
    """Return matches as an answer has them. name: of their gallery."""
    return [
        FoundImage(
            id=match.id,
            path=str(match.path),
            score=round(match.score, 6),
            probability=None if match.probability is None else round(match.probability, 6),
            label=match.label,
            width=result.images[match.id].width,
            height=result.images[match.id].height,
            copies=match.copies,
            thumbnail=thumbnail_address(service, name, match.id),
        )
        for match in result.matches
        if match.id in result.images
    ]


def image_details(service: Service, name: str, image: GalleryImage) -> ImageDetails:
    """Return an image as an answer has it. name: of its gallery."""
    return ImageDetails(
        id=image.id,
        path=str(image.path),
        label=image.label,
        width=image.width,
        height=image.height,
        size=image.size,
        modified=as_date(image.modified_ns),
        format=image.format,
        sha256=image.sha256,
        thumbnail=thumbnail_address(service, name, image.id),
    )


def thumbnail_address(service: Service, name: str, id: int) -> str:
    """Return the address of an image's thumbnail. name: of its gallery."""
    suffix = "" if name == service.name_of(None) else f"?gallery={quote(name)}"
    return f"/v1/images/{id}/thumbnail{suffix}"

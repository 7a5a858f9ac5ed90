"""A gallery as a whole: what it is, its facets, its duplicates, its map."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from imgret.server.asked import GalleryName, WhereQuery
from imgret.server.jobs import Job
from imgret.server.problem import Problem
from imgret.server.searches import json_response, thumbnail_address
from imgret.server.service import Service, service_of
from imgret.server.shown import (
    CountedValue,
    DuplicateImage,
    DuplicateImages,
    DuplicatesAnswer,
    FacetsAnswer,
    FilterColumn,
    GalleryAnswer,
    JobProgress,
    MapAnswer,
    MapPoint,
)
from retrieval.gallery.filter.columns import KNOWN_COLUMNS
from retrieval.progress import Progress
from retrieval.retriever import DuplicateMember, DuplicateReport, Retriever
from retrieval.retriever.map import GalleryMap
from retrieval.words import Tier

STILL_RUNNING: dict[int | str, dict[str, Any]] = {
    202: {"model": JobProgress, "description": "It is being worked on."}
}

overview_routes = APIRouter(prefix="/v1", tags=["galleries"])


@overview_routes.get("/gallery", response_model=GalleryAnswer)
async def describe_gallery(request: Request, gallery: GalleryName = None) -> Response:
    """Tell what a gallery is, which others there are, and what this service may do."""
    service = service_of(request)
    name, options = service.name_of(gallery), service.options
    async with service.opened(gallery) as found:
        version = found.version
    info, retriever = await service.info(gallery, version), service.retriever(gallery)
    return json_response(
        GalleryAnswer(
            gallery=name,
            galleries=list(service.galleries),
            version=version,
            path=str(info.gallery),
            images=info.images,
            failed=info.failed,
            labels=info.labels,
            backbone=info.backbone,
            dim=info.dim,
            transform=info.transform,
            index=info.index,
            recall=info.recall,
            confidence=info.confidence,
            is_written=await service.read(retriever.gallery.is_being_written),
            columns=[
                FilterColumn(name=column.name, holds=column.holds)
                for column in KNOWN_COLUMNS.values()
            ],
            can_write=not options.read_only,
            can_upload=not options.read_only and options.uploads is not None,
            can_fetch=options.allow_urls,
            can_classify=service.predictor is not None,
        )
    )


@overview_routes.get("/facets", response_model=FacetsAnswer)
async def count_facets(
    request: Request, gallery: GalleryName = None, where: WhereQuery = None
) -> Response:
    """Count the images that pass a filter, by label, by folder and by month."""
    service = service_of(request)
    async with service.opened(gallery) as found:
        facets = await service.read(found.facets, where)
        version = found.version
    lists = {
        key: [CountedValue(value=f.value, images=f.images) for f in getattr(facets, key)]
        for key in ("labels", "folders", "months")
    }
    name = service.name_of(gallery)
    return json_response(FacetsAnswer(gallery=name, version=version, total=facets.total, **lists))


@overview_routes.get("/duplicates", response_model=DuplicatesAnswer, responses=STILL_RUNNING)
async def list_duplicates(
    request: Request,
    gallery: GalleryName = None,
    tier: Tier = "similar",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: Annotated[
        str | None, Query(max_length=100, description="`next` of the page before.")
    ] = None,
) -> Response:
    """Give groups of near-identical images; 202 and the progress while they are looked for."""
    service = service_of(request)
    name, version, job = await ask_job(service, gallery, "duplicates", _duplicates, tier)
    if not job.future.done():
        return progress_response(job)
    report, ids = job.future.result()
    start = _start(cursor, version)
    groups = report.groups[start : start + limit]
    following = start + limit
    return json_response(
        DuplicatesAnswer(
            gallery=name,
            version=version,
            groups=[_group(service, name, group.tier, group.members, ids) for group in groups],
            total=len(report.groups),
            next=f"{version}.{following}" if following < len(report.groups) else None,
        )
    )


@overview_routes.get("/map", response_model=MapAnswer, responses=STILL_RUNNING)
async def draw_map(request: Request, gallery: GalleryName = None) -> Response:
    """Place the images in two dimensions; 202 and the progress while that is worked out."""
    service = service_of(request)
    name, version, job = await ask_job(service, gallery, "map", _map)
    if not job.future.done():
        return progress_response(job)
    drawn, ids = job.future.result()
    points = [
        MapPoint(id=ids.get(point.path), x=point.x, y=point.y, label=point.label)
        for point in drawn.points
    ]
    return json_response(
        MapAnswer(
            gallery=name, version=version, method=drawn.method, total=drawn.total, points=points
        )
    )


async def ask_job(
    service: Service, gallery: str | None, kind: str, work: Callable[..., Any], *details: Hashable
) -> tuple[str, str, Job]:
    """Begin work on a gallery, once a version: its name, the version and the job.

    work: called with its Retriever, the details and a Progress. Raises Problem, GalleryError.
    """
    name = service.name_of(gallery)
    async with service.opened(gallery) as found:
        version = found.version
    begun = partial(work, service.retriever(gallery), *details)
    return name, version, service.jobs.ask((kind, name, version, *details), begun)


def _duplicates(
    retriever: Retriever, tier: Tier, progress: Progress
) -> tuple[DuplicateReport, dict[Any, int | None]]:
    report = retriever.duplicates(tier=tier, progress=progress)
    paths = [member.path for group in report.groups for member in group.members]
    return report, ids_of_files(retriever, paths)


def _map(retriever: Retriever, progress: Progress) -> tuple[GalleryMap, dict[Any, int | None]]:
    drawn = retriever.map(progress=progress)
    return drawn, ids_of_files(retriever, [point.path for point in drawn.points])


def ids_of_files(retriever: Retriever, paths: list[Any]) -> dict[Any, int | None]:
    """Return the id of each path, None where no image is of it any more."""
    with retriever.open() as gallery:
        return dict(zip(paths, gallery.ids_of_paths(paths), strict=True))


def progress_response(job: Job) -> Response:
    """Answer 202 and how far some work is."""
    progress = JobProgress(step=job.step, done=job.done, total=job.total)
    response = json_response(progress)
    response.status_code = 202
    response.headers["retry-after"] = "2"
    return response


def _start(cursor: str | None, version: str) -> int:
    if cursor is None:
        return 0
    of, _, place = cursor.rpartition(".")
    if of != version or not (place.isascii() and place.isdecimal()):
        raise Problem(422, "The cursor is of another list. Start from the first page.")
    return int(place)


def _group(
    service: Service,
    name: str,
    tier: Tier,
    members: tuple[DuplicateMember, ...],
    ids: dict[Any, int | None],
) -> DuplicateImages:
    images = []
    for member in members:
        id = ids.get(member.path)
        images.append(
            DuplicateImage(
                id=id,
                path=str(member.path),
                width=member.width,
                height=member.height,
                size=member.size,
                label=member.label,
                score=member.score,
                tier=member.tier,
                thumbnail=None if id is None else thumbnail_address(service, name, id),
            )
        )
    return DuplicateImages(tier=tier, images=images)

"""A gallery as a whole: what it is, its facets, its duplicates, its map."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from imgret.server.asked import GalleryName, WhereQuery
from imgret.server.jobs import Job, JobKey, JobWork
from imgret.server.problem import Problem
from imgret.server.searches import json_response, thumbnail_address
from imgret.server.service import Service, service_of
from imgret.server.shown import (
    CountedSize,
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
    WriterProgress,
)
from retrieval.gallery import Gallery
from retrieval.gallery.filter.columns import KNOWN_COLUMNS
from retrieval.progress import Progress
from retrieval.retriever import DuplicateMember, DuplicateReport, OpenGallery
from retrieval.retriever.map import GalleryMap
from retrieval.words import Tier

NOT_YET: dict[str, Any] = {  # of a gallery that the first picture sent makes
    "images": 0, "failed": 0, "labels": 0, "backbone": "", "dim": 0, "transform": "",
    "index": "none yet", "recall": None, "confidence": "",
}  # fmt: skip
STILL_RUNNING: dict[int | str, dict[str, Any]] = {
    202: {"model": JobProgress, "description": "It is being worked on."}
}

overview_routes = APIRouter(prefix="/v1", tags=["galleries"])


@overview_routes.get("/gallery", response_model=GalleryAnswer)
async def describe_gallery(request: Request, gallery: GalleryName = None) -> Response:
    """Tell what a gallery is, which others there are, and what this service may do."""
    service = service_of(request)
    name, options = service.name_of(gallery), service.options
    info, place = await service.info(gallery), service.retriever(gallery).gallery
    is_written, writer = await service.read(_writer_of, place)
    described = NOT_YET if info is None else {key: getattr(info, key) for key in NOT_YET}
    return json_response(
        GalleryAnswer(
            **described,
            gallery=name,
            galleries=list(service.galleries),
            version="" if info is None else info.state,
            path=str(place.path),
            is_written=is_written,
            writer=writer,
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


def _writer_of(gallery: Gallery) -> tuple[bool, WriterProgress | None]:
    """Whether a process writes to a gallery, and how far it is where it has said so."""
    progress = gallery.run_progress()
    if progress is None:
        return gallery.is_being_written(), None
    return True, WriterProgress(step=progress.step, done=progress.done, total=progress.total)


@overview_routes.get("/facets", response_model=FacetsAnswer)
async def count_facets(
    request: Request, gallery: GalleryName = None, where: WhereQuery = None
) -> Response:
    """Count the images that pass a filter, by label, by folder, by month and by size."""
    service = service_of(request)
    async with service.opened(gallery) as found:
        facets = await service.read(found.facets, where)
        version = found.version
    lists = {
        key: [CountedValue(value=f.value, images=f.images) for f in getattr(facets, key)]
        for key in ("labels", "folders", "months")
    }
    sizes = [CountedSize(least=f.least, below=f.below, images=f.images) for f in facets.sizes]
    name = service.name_of(gallery)
    answer = FacetsAnswer(gallery=name, version=version, total=facets.total, sizes=sizes, **lists)
    return json_response(answer)


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
    job = await ask_job(service, gallery, ("duplicates", tier), partial(_duplicates, tier))
    if not job.future.done():
        return progress_response(job)
    report, ids = job.future.result()
    name, version = service.name_of(gallery), job.version
    start = start_of(cursor, version)
    groups = report.groups[start : start + limit]
    following = start + limit
    return json_response(
        DuplicatesAnswer(
            gallery=name,
            version=version,
            groups=[_group(service, name, group.tier, group.members, ids) for group in groups],
            total=len(report.groups),
            next=cursor_at(version, following, len(report.groups)),
        )
    )


@overview_routes.get("/map", response_model=MapAnswer, responses=STILL_RUNNING)
async def draw_map(request: Request, gallery: GalleryName = None) -> Response:
    """Place the images in two dimensions; 202 and the progress while that is worked out."""
    service = service_of(request)
    job = await ask_job(service, gallery, "map", _map)
    if not job.future.done():
        return progress_response(job)
    drawn, ids = job.future.result()
    name, version = service.name_of(gallery), job.version
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
    service: Service, gallery: str | None, topic: Hashable, work: JobWork, version: str = ""
) -> Job:
    """Begin work on a gallery, once a version.

    topic: what the work is. version: by default the one that is published now. Raises Problem,
    GalleryError.
    """
    if not version:
        async with service.opened(gallery) as found:
            version = found.version
    key = JobKey(service.name_of(gallery), version, topic)
    return service.jobs.ask(key, service.retriever(gallery), work)


def _duplicates(
    tier: Tier, gallery: OpenGallery, progress: Progress
) -> tuple[DuplicateReport, dict[Path, int | None]]:
    report = gallery.duplicates(tier, progress)
    paths = [member.path for group in report.groups for member in group.members]
    return report, ids_of_files(gallery, paths)


def _map(gallery: OpenGallery, progress: Progress) -> tuple[GalleryMap, dict[Path, int | None]]:
    drawn = gallery.map(progress)
    return drawn, ids_of_files(gallery, [point.path for point in drawn.points])


def ids_of_files(gallery: OpenGallery, paths: Sequence[Path]) -> dict[Path, int | None]:
    """Return the id of each path, None where no image is of it."""
    return dict(zip(paths, gallery.ids_of_paths(paths), strict=True))


def progress_response(job: Job) -> Response:
    """Answer 202 and how far some work is."""
    progress = JobProgress(step=job.step, done=job.done, total=job.total)
    response = json_response(progress)
    response.status_code = 202
    response.headers["retry-after"] = "2"
    return response


def start_of(cursor: str | None, version: str) -> int:
    """Return the place in a list of a version that a cursor stands for. Raises Problem."""
    if cursor is None:
        return 0
    of, _, place = cursor.rpartition(".")
    if of != version or not (place.isascii() and place.isdecimal()):
        raise Problem(422, "The cursor is of another list. Start from the first page.")
    return int(place)


def cursor_at(version: str, place: int, total: int) -> str | None:
    """Return the cursor of a place in a list of a version; None beyond its end."""
    return f"{version}.{place}" if place < total else None


def _group(
    service: Service,
    name: str,
    tier: Tier,
    members: tuple[DuplicateMember, ...],
    ids: dict[Path, int | None],
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

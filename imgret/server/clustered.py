"""Images listed by clusters of those that look alike, which are worked out once a version."""

from __future__ import annotations

from typing import Literal

from starlette.responses import Response

from imgret.server.overview import ask_job, cursor_at, progress_response, start_of
from imgret.server.searches import image_details, json_response
from imgret.server.service import Service
from imgret.server.shown import ImageCluster, ImageListAnswer
from retrieval.progress import Progress
from retrieval.retriever import OpenGallery
from retrieval.retriever.clusters import ClusterOrder, ClusterPage
from retrieval.retriever.image_list import ImageOrder

ListOrder = Literal[ImageOrder, "clusters"]


async def list_by_clusters(
    service: Service,
    gallery: str | None,
    where: str | None,
    cursor: str | None,
    *,
    descending: bool,
    limit: int,
) -> Response:
    """Give a page of the list, or 202 and how far the clusters are. Raises Problem, FilterError."""
    name = service.name_of(gallery)
    async with service.opened(gallery) as found:
        job = await ask_job(service, gallery, "clusters", _clusters, found.version)
        if not job.future.done():
            return progress_response(job)
        order, version = job.future.result(), found.version
        if job.version != version:  # the gallery has changed since it was asked for: once more
            return progress_response(job)
        start = start_of(cursor, version)

        def read() -> ClusterPage:
            return found.page_of_clusters(
                order, limit, start=start, descending=descending, where=where
            )

        page = await service.read(read)
        answer = ImageListAnswer(
            gallery=name,
            version=version,
            images=[image_details(service, name, image) for image in page.images],
            total=page.total,
            next=cursor_at(version, start + limit, page.total),
            clusters=[ImageCluster(first=each.first, images=each.images) for each in page.starts],
        )
    return json_response(answer)


def _clusters(gallery: OpenGallery, progress: Progress) -> ClusterOrder:
    return gallery.clusters(progress)

"""How good the matches of a gallery are by its labels, and the queries that failed worst."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import Response

from imgret.server.asked import GalleryName
from imgret.server.overview import STILL_RUNNING, ask_job, ids_of_files, progress_response
from imgret.server.searches import json_response, thumbnail_address
from imgret.server.service import Service, service_of
from retrieval.evaluation import Evaluation, RankedQuery
from retrieval.progress import Progress
from retrieval.retriever import OpenGallery

CLASSES_TOLD, CONFUSIONS_TOLD = 1000, 100

evaluation_routes = APIRouter(prefix="/v1", tags=["galleries"])


class MeasuredMetric(BaseModel):
    """A mean over the queries with its bootstrap 95 % interval."""

    name: str
    value: float
    low: float
    high: float


class MeasuredClass(BaseModel):
    """One class: its queries, their mean precision, and the F1 of the neighbours' vote for it."""

    label: str
    queries: int
    precision: float
    f1: float


class ConfusedClasses(BaseModel):
    """Queries of a label that were voted into another: count, of all queries of that label."""

    label: str
    voted: str
    count: int
    queries: int


class JudgedImage(BaseModel):
    """A query, or a neighbour of one. right: whether a neighbour has the query's label."""

    id: int | None
    path: str
    label: str
    thumbnail: str | None
    score: float | None = None
    right: bool | None = None


class WorstQuery(BaseModel):
    """A query whose neighbours are wrong, with these, best first."""

    query: JudgedImage
    precision: float
    neighbours: list[JudgedImage]


class EvaluationAnswer(BaseModel):
    """Figures of how good the matches are. k: of the precision by class and of worst."""

    status: Literal["done"] = "done"
    gallery: str
    version: str
    queries: int
    left_out: str | None
    k: int
    metrics: list[MeasuredMetric]
    classes: list[MeasuredClass]
    confused: list[ConfusedClasses]
    worst: list[WorstQuery]
    notices: list[str]


@evaluation_routes.get("/evaluation", response_model=EvaluationAnswer, responses=STILL_RUNNING)
async def evaluate_matches(request: Request, gallery: GalleryName = None) -> Response:
    """Measure matches by labels, each image against all others; 202 while that is worked out."""
    service = service_of(request)
    job = await ask_job(service, gallery, "evaluation", _evaluated)
    if not job.future.done():
        return progress_response(job)
    measured, ids = job.future.result()
    name = service.name_of(gallery)
    return json_response(_answer(service, name, job.version, measured, ids))


def _evaluated(
    gallery: OpenGallery, progress: Progress
) -> tuple[Evaluation, dict[Path, int | None]]:
    measured = gallery.evaluate(progress)
    paths = [path for query in measured.worst for path in _paths(query)]
    return measured, ids_of_files(gallery, paths)


def _paths(query: RankedQuery) -> list[Path]:
    return [query.path, *(neighbour.path for neighbour in query.neighbours)]


def _answer(
    service: Service, name: str, version: str, e: Evaluation, ids: dict[Path, int | None]
) -> EvaluationAnswer:
    def judged(path: Path, label: str, **more: float | bool) -> JudgedImage:
        id = ids.get(path)
        thumbnail = None if id is None else thumbnail_address(service, name, id)
        return JudgedImage(
            id=id, path=str(path), label=label, thumbnail=thumbnail, **more  # type: ignore[arg-type]
        )  # fmt: skip

    return EvaluationAnswer(
        gallery=name,
        version=version,
        queries=e.queries,
        left_out=e.left_out,
        k=e.k,
        metrics=[
            MeasuredMetric(name=m.name, value=m.value, low=m.low, high=m.high) for m in e.metrics
        ],
        classes=[
            MeasuredClass(label=c.label, queries=c.queries, precision=c.precision, f1=c.f1)
            for c in e.classes[:CLASSES_TOLD]
        ],
        confused=[
            ConfusedClasses(label=c.label, voted=c.voted, count=c.count, queries=c.queries)
            for c in e.confused[:CONFUSIONS_TOLD]
        ],
        worst=[
            WorstQuery(
                query=judged(query.path, query.label),
                precision=query.precision,
                neighbours=[
                    judged(n.path, n.label, score=n.score, right=n.right) for n in query.neighbours
                ],
            )
            for query in e.worst
        ],
        notices=list(e.notices),
    )

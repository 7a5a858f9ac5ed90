"""The classes of pictures under a trained classifier."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from imgret.server.form import MULTIPART, form_schema, read_form
from imgret.server.problem import Problem, problem_responses
from imgret.server.service import service_of
from retrieval.errors import ImageError
from retrieval.text import advised, visible

MOST_CLASSES = 1000

class_routes = APIRouter(prefix="/v1", tags=["classes"], responses=problem_responses(415))


class ClassifyOptions(BaseModel):
    """How to classify pictures."""

    model_config = ConfigDict(extra="forbid")
    top: int = Field(5, ge=1, le=MOST_CLASSES, description="Number of classes to give.")


class FoundClass(BaseModel):
    """One class and how probable it is."""

    label: str
    probability: float


class ClassifiedPicture(BaseModel):
    """The classes of one picture, the most probable first, or why it cannot be used."""

    name: str
    classes: list[FoundClass] = []
    error: str | None = None


class ClassifyAnswer(BaseModel):
    """The classes of all pictures of a request, in their order."""

    results: list[ClassifiedPicture]


@class_routes.post(
    "/classify",
    openapi_extra={
        "requestBody": {
            "required": True, "content": {MULTIPART: form_schema(ClassifyOptions)},
        }
    },
)  # fmt: skip
async def classify_pictures(request: Request) -> ClassifyAnswer:
    """Predict the classes of pictures, with the classifier of `--model`."""
    service = service_of(request)
    if service.predictor is None:
        raise Problem(404, "There is no classifier. Start with `imgret serve --model RUN`.")
    pictures, fields = await read_form(request, service.options.limits)
    top = ClassifyOptions.model_validate(fields).top
    if not pictures:
        raise Problem(422, "There is no picture. Send one as `picture`.")
    found = await asyncio.gather(
        *(service.classify(picture.content, top) for picture in pictures), return_exceptions=True
    )
    results = []
    for picture, each in zip(pictures, found, strict=True):
        name = visible(picture.name)
        if isinstance(each, ImageError):
            results.append(ClassifiedPicture(name=name, error=advised(str(each))))
        elif isinstance(each, BaseException):
            raise each
        else:
            pairs = zip(each.classes, each.probabilities, strict=True)
            classes = [FoundClass(label=label, probability=p) for label, p in pairs]
            results.append(ClassifiedPicture(name=name, classes=classes))
    if all(result.error for result in results):
        raise Problem(422, results[0].error or "It cannot be used.")
    return ClassifyAnswer(results=results)

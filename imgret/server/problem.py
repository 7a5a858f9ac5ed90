"""Errors -> answers, as RFC 9457 ("Problem Details for HTTP APIs") has them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field, ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from retrieval.errors import (
    GalleryChangedError,
    GalleryError,
    ImageError,
    ImgretError,
)
from retrieval.libraries import how_to_install, lacks_library
from retrieval.text import advised, one_sentence, visible

PROBLEM_JSON = "application/problem+json"
MOST_FAULTS = 20
KINDS_OF_ERRORS: tuple[tuple[type[Exception], int, str], ...] = (  # status, seconds to wait
    (ImageError, 422, ""),
    (GalleryChangedError, 503, "1"),
    (GalleryError, 503, "5"),
    (ImgretError, 422, ""),
    (TimeoutError, 503, "5"),
)
_log = logging.getLogger("imgret")


class Fault(BaseModel):
    """One value of a request that cannot be used."""

    location: str = Field(description="Where it is, such as `k`.")
    message: str = Field(description="What is wrong with it.")


class ProblemDetails(BaseModel):
    """What went wrong (RFC 9457)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[Fault] | None = None


class Problem(Exception):
    """An error with its HTTP status. detail: what is wrong and what to do."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        errors: Sequence[Fault] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = list(errors)
        self.headers = dict(headers or {})

    def response(self) -> Response:
        """Return the answer."""
        details = ProblemDetails(
            title=HTTPStatus(self.status).phrase,
            status=self.status,
            detail=visible(self.detail),
            errors=self.errors or None,
        )
        content = details.model_dump_json(exclude_none=True)
        return Response(content, self.status, self.headers, PROBLEM_JSON)


def problem_of(error: BaseException) -> Problem:
    """Return what an error is to a client; what nobody expects is logged, in a sentence."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, HTTPException):
        said = str(error.detail)
        detail = {
            404: "There is nothing at this address. `GET /api` lists what there is.",
            405: "This address does not take this method. Use one that the header Allow names.",
        }.get(error.status_code, said)
        return Problem(error.status_code, detail, headers=error.headers)
    if isinstance(error, RequestValidationError | ValidationError):
        faults = faults_of(error)
        first = faults[0]
        return Problem(422, f"{first.location}: {first.message}.", errors=faults)
    for kind, status, wait in KINDS_OF_ERRORS:
        if isinstance(error, kind):
            said = {
                TimeoutError: "This took too long. Try it again.",
                ImageError: advised(str(error)),
            }.get(kind, str(error))
            return Problem(status, said, headers={"Retry-After": wait} if wait else None)
    if isinstance(error, ImportError) and lacks_library(error):
        return Problem(503, how_to_install((error.name or "").partition(".")[0]))
    _log.error(
        "imgret did not expect this %s (%s). Please report it.",
        type(error).__name__, one_sentence(error),
    )  # fmt: skip
    return Problem(500, "The service has failed here. Its log says why.")


def faults_of(error: RequestValidationError | ValidationError) -> list[Fault]:
    """List what is wrong with a request, without the values."""
    found = []
    for each in error.errors()[:MOST_FAULTS]:
        place = [str(part) for part in each["loc"] if part not in ("query", "path", "body")]
        message = str(each["msg"]).removeprefix("Value error, ").removesuffix(".")
        location = visible(".".join(place)[:200])[:200]
        found.append(Fault(location=location or "body", message=message))
    return found


async def answer_error(request: Request, error: Exception) -> Response:
    """Answer with the problem that an error is."""
    problem = problem_of(error)
    if problem.status == 405:  # the router names the methods of one route alone
        problem.headers = {"Allow": ", ".join(_methods_of(request))}
    return problem.response()


def _methods_of(request: Request) -> list[str]:
    """Return the methods of all routes at the path of a request."""
    found: set[str] = set()
    for route in request.app.state.all_routes:
        if route.matches(request.scope)[0] != Match.NONE:
            found |= route.methods or set()
    return sorted(found)


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return what the OpenAPI document says of errors."""
    schema = {"schema": {"$ref": f"#/components/schemas/{ProblemDetails.__name__}"}}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": {PROBLEM_JSON: schema}}
        for status in statuses
    }

"""The routes together, as one ASGI app, and the OpenAPI document that describes them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException

from imgret.server.archive import ArchiveBody, archive_routes
from imgret.server.asked import SEARCH_BODIES
from imgret.server.classes import class_routes
from imgret.server.evaluated import evaluation_routes
from imgret.server.form import READ_AT_ONCE
from imgret.server.guard import Guard
from imgret.server.health import health_routes
from imgret.server.images import image_routes
from imgret.server.options import ServiceOptions
from imgret.server.overview import overview_routes
from imgret.server.page import page_routes
from imgret.server.problem import ProblemDetails, answer_error, problem_responses
from imgret.server.searches import search_routes
from imgret.server.service import Service
from imgret.server.shown import IMAGE_BODIES

REFERENCES = "#/components/schemas/{model}"
ANYWHERE = problem_responses(400, 401, 403, 404, 405, 408, 413, 421, 422, 429, 500, 503)
DOCUMENTED = (
    health_routes, search_routes, image_routes, archive_routes, overview_routes,
    evaluation_routes, class_routes,
)  # fmt: skip


def make_app(options: ServiceOptions) -> Guard:
    """Return the service as an ASGI app. Raises what its galleries and its classifier raise."""
    service = Service(options)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        warm = asyncio.create_task(service.keep_warm())
        try:
            yield
        finally:
            warm.cancel()
            service.end()

    app = FastAPI(
        title="imgret",
        version="1",
        summary="Search for images that look like an image.",
        lifespan=lifespan,
        openapi_url=None,
        generate_unique_id_function=lambda route: route.name,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        swagger_ui_oauth2_redirect_url=None,
    )
    app.state.service = service
    app.state.all_routes = [route for each in (*DOCUMENTED, page_routes) for route in each.routes]
    app.state.places = asyncio.Semaphore(READ_AT_ONCE)
    for kind in (Exception, HTTPException, RequestValidationError):
        app.add_exception_handler(kind, answer_error)
    api = APIRouter(responses=ANYWHERE)
    for routes in DOCUMENTED:
        api.include_router(routes)
    app.include_router(api)
    app.include_router(page_routes)
    app.openapi = partial(_document, app, options)  # type: ignore[method-assign]
    return Guard(app, options, service.traffic)


def _document(app: FastAPI, options: ServiceOptions) -> dict[str, Any]:
    """Describe the service in OpenAPI 3.1; made once."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, summary=app.summary, routes=app.routes,
            openapi_version="3.1.0",
        )  # fmt: skip
        models = [
            (model, "validation")
            for model in (ProblemDetails, *SEARCH_BODIES, *IMAGE_BODIES, ArchiveBody)
        ]
        _, definitions = models_json_schema(models, ref_template=REFERENCES)  # type: ignore[arg-type]
        components = document.setdefault("components", {})
        schemas = components.setdefault("schemas", {})
        schemas.update(definitions.get("$defs", {}))
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        if options.tokens:
            components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
            document["security"] = [{"token": []}]
        app.openapi_schema = document
    return app.openapi_schema

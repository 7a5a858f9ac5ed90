"""Whether the service lives, whether it is ready, and its figures."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import Response

from imgret.server.problem import Problem
from imgret.server.service import service_of

health_routes = APIRouter(tags=["health"])


class Health(BaseModel):
    """Whether the service is well."""

    status: Literal["ok"] = "ok"


@health_routes.get("/healthz")
async def tell_health() -> Health:
    """Tell that the service lives."""
    return Health()


@health_routes.get("/readyz")
async def tell_readiness(request: Request) -> Health:
    """Tell whether the galleries are open and the encoder is warm; 503 until then."""
    service = service_of(request)
    reason = service.not_ready
    there = [service.is_awaited(n) or r.gallery.exists() for n, r in service.galleries.items()]
    if not all(there):
        reason = "A gallery is gone. Put it back, or index its images again."
    if reason is not None:
        raise Problem(503, reason, headers={"Retry-After": "2"})
    return Health()


@health_routes.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def tell_figures(request: Request) -> Response:
    """Give the figures of the service as Prometheus reads them."""
    text = service_of(request).traffic.text()
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

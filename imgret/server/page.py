"""The page, its files, and the API's document for people and for programs."""

from __future__ import annotations

from functools import cache
from importlib import resources

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from imgret.server.problem import Problem

FILES = {  # in the folder pages
    "page.js": "text/javascript; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
}

page_routes = APIRouter(include_in_schema=False)


@page_routes.get("/")
async def show_page() -> Response:
    """Give the page."""
    return HTMLResponse(_file("index.html"))


@page_routes.get("/page/{name}")
async def show_file(name: str) -> Response:
    """Give a file that the page is made of."""
    if name not in FILES:
        raise Problem(404, "There is no such file. The page names those that there are.")
    return Response(_file(name), media_type=FILES[name])


@page_routes.get("/api")
async def show_document(request: Request) -> Response:
    """Give the OpenAPI document."""
    return JSONResponse(request.app.openapi(), media_type="application/json")


@page_routes.get("/api/docs")
async def show_docs(request: Request) -> Response:
    """Give the OpenAPI document as a page."""
    from jinja2 import Environment

    template = Environment(autoescape=True).from_string(_file("docs.html.jinja").decode())
    return HTMLResponse(template.render(document=request.app.openapi()))


@cache
def _file(name: str) -> bytes:
    return (resources.files("imgret.server") / "pages" / name).read_bytes()

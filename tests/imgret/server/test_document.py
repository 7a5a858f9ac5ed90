"""What the OpenAPI document says is what the service does, whatever it is sent."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import hypothesis
import pytest

from imgret.server import Limits, ServiceOptions
from retrieval.retriever import Retriever
from tests.imgret.server.started import in_thread
from tests.samples import save_pictures

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    schemathesis = pytest.importorskip("schemathesis", reason="needs schemathesis")

QUICK, LONG = 6, 200


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("described")
    Retriever(folder / ".imgret").index(save_pictures(folder / "pictures"))
    options = ServiceOptions(
        {"one": folder / ".imgret"}, uploads=folder / "sent", allow_urls=True,
        limits=Limits(picture_seconds=2),
    )  # fmt: skip
    with in_thread(options) as client:
        yield client


@pytest.fixture(scope="module")
def document(service: httpx.Client) -> dict[str, Any]:
    return dict(service.get("/api").json())


def operations(document: dict[str, Any]) -> list[tuple[str, str]]:
    return [(path, method) for path, methods in document["paths"].items() for method in methods]


def test_every_route_is_described(document: dict[str, Any]) -> None:
    found = {f"{method.upper()} {path}" for path, method in operations(document)}
    assert found == {
        "GET /healthz", "GET /readyz", "GET /metrics", "POST /v1/search", "POST /v1/embed",
        "POST /v1/classify", "GET /v1/images", "POST /v1/images", "GET /v1/images/{id}",
        "DELETE /v1/images/{id}", "PATCH /v1/images/{id}", "GET /v1/images/{id}/neighbours",
        "GET /v1/images/{id}/thumbnail", "GET /v1/images/{id}/file", "GET /v1/gallery",
        "GET /v1/facets", "GET /v1/duplicates", "GET /v1/map", "GET /v1/evaluation",
        "POST /v1/archive",
    }  # fmt: skip


def test_every_reference_of_the_document_leads_somewhere(document: dict[str, Any]) -> None:
    def references(part: Any) -> Iterator[str]:
        if isinstance(part, dict):
            if "$ref" in part:
                yield part["$ref"]
            for each in part.values():
                yield from references(each)
        elif isinstance(part, list):
            for each in part:
                yield from references(each)

    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert set(references(document)) <= known


def check(service: httpx.Client, document: dict[str, Any], examples: int) -> None:
    """Send each operation requests that fit the document, and some that do not."""
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        response_schema_conformance,
        status_code_conformance,
    )

    checks = [
        not_a_server_error, status_code_conformance, content_type_conformance,
        response_schema_conformance,
    ]  # fmt: skip
    schema = schemathesis.openapi.from_dict(document)
    address = str(service.base_url)
    for found in schema.get_all_operations():
        operation = found.ok()
        for mode in schemathesis.GenerationMode:

            @hypothesis.settings(
                max_examples=examples, deadline=None, database=None, derandomize=True,
                suppress_health_check=list(hypothesis.HealthCheck),
                phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
            )  # fmt: skip
            @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
            def sent(case: Any) -> None:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    answer = case.call(base_url=address, timeout=60)
                    case.validate_response(answer, checks=checks)

            try:
                sent()
            except hypothesis.errors.Unsatisfiable:
                assert mode is schemathesis.GenerationMode.NEGATIVE


@pytest.mark.long
def test_no_request_breaks_the_service_or_the_document(
    service: httpx.Client, document: dict[str, Any]
) -> None:
    check(service, document, QUICK)


@pytest.mark.slow
def test_no_request_of_many_breaks_the_service(
    service: httpx.Client, document: dict[str, Any]
) -> None:
    check(service, document, LONG)


USES_THE_CLIENT = """
import io, sys
from made import Client
from made.api.images import list_images, show_image
from made.api.search import search_gallery
from made.models import SearchBody, SearchGalleryFilesSearchOptions
from made.types import File

client = Client(base_url=sys.argv[1])
first = list_images.sync(client=client, limit=1).images[0]
assert show_image.sync(first.id, client=client).path == first.path
by_id = search_gallery.sync(client=client, body=SearchBody(ids=[first.id], k=3))
with open(first.path, "rb") as file:
    sent = SearchGalleryFilesSearchOptions(picture=[File(file, "a.jpg", "image/jpeg")], k=3)
    by_picture = search_gallery.sync(client=client, body=sent)
for answer in (by_id, by_picture):
    assert [match.id for match in answer.results[0].matches][0] == first.id, answer
problem = search_gallery.sync(client=client, body=SearchBody(ids=[5]))
assert problem.status == 422, problem
"""


def test_a_client_that_is_generated_from_it_searches(
    service: httpx.Client, document: dict[str, Any], tmp_path: Path
) -> None:
    pytest.importorskip("openapi_python_client", reason="needs openapi-python-client")
    (tmp_path / "api.json").write_text(json.dumps(document))
    generate = ["-m", "openapi_python_client", "generate", "--meta", "none", "--path", "api.json"]
    for command in (
        [*generate, "--output-path", "made"],
        ["-c", USES_THE_CLIENT, service.base_url],
    ):
        done = subprocess.run(
            [sys.executable, *map(str, command)], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_document_names_the_kinds_of_bodies(document: dict[str, Any], tmp_path: Path) -> None:
    kinds = document["paths"]["/v1/search"]["post"]["requestBody"]["content"]
    assert set(kinds) == {"multipart/form-data", "application/json"}

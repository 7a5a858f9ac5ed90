"""Search over HTTP finds what the Retriever finds."""

from __future__ import annotations

import http.server
import ipaddress
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from imgret.server import ServiceOptions
from imgret.server.download import download_picture, is_public
from retrieval.errors import ImageError
from retrieval.retriever import Retriever
from tests.imgret.server.started import in_thread, is_problem


@pytest.fixture(scope="module")
def client(stored: Path) -> Iterator[httpx.Client]:
    with in_thread(ServiceOptions({"one": stored / ".imgret"})) as client:
        yield client


@pytest.fixture(scope="module")
def retriever(stored: Path) -> Retriever:
    return Retriever(stored / ".imgret")


def pictures(stored: Path, *numbers: int) -> list[Path]:
    files = sorted((stored / "pictures").rglob("*.jpg"))
    return [files[n] for n in numbers]


def sent(*files: Path) -> list[tuple[str, tuple[str, bytes]]]:
    return [("picture", (file.name, file.read_bytes())) for file in files]


def results(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    return list(answer.json()["results"])


def ids(answer: httpx.Response) -> list[list[int]]:
    return [[match["id"] for match in result["matches"]] for result in results(answer)]


def test_several_pictures_are_several_searches(
    client: httpx.Client, retriever: Retriever, stored: Path
) -> None:
    files = pictures(stored, 1, 9, 17)
    answer = client.post("/v1/search", files=sent(*files), data={"k": "4"})
    expected = retriever.search(files, k=4)
    assert ids(answer) == [[m.id for m in matches] for matches in expected]
    first, ours = expected[0][0], results(answer)[0]["matches"][0]
    assert ours["path"] == str(first.path)
    assert ours["score"] == pytest.approx(first.score, abs=1e-3)
    assert (ours["label"], ours["width"], ours["height"]) == (first.label, 80, 60)
    assert ours["thumbnail"] == f"/v1/images/{first.id}/thumbnail"
    assert answer.json()["gallery"] == "one"


def test_ids_and_embeddings_find_what_their_pictures_find(
    client: httpx.Client, retriever: Retriever, stored: Path
) -> None:
    (file,) = pictures(stored, 3)
    expected = [m.id for m in retriever.search(file, k=5)]
    embedding = retriever.encode(file)[0].tolist()
    by_id = client.post("/v1/search", json={"ids": [expected[0]], "k": 5})
    by_embedding = client.post("/v1/search", json={"embeddings": [embedding], "k": 5})
    assert ids(by_id) == ids(by_embedding) == [expected]
    answer = client.post("/v1/embed", files=sent(file))
    assert np.allclose(results(answer)[0]["embedding"], embedding, atol=2e-2)
    assert answer.json()["backbone"] == "mini"


def test_options_are_heeded(client: httpx.Client, retriever: Retriever, stored: Path) -> None:
    (file,) = pictures(stored, 5)
    how: dict[str, Any] = {
        "k": 6, "where": "label = 'class1'", "min_score": -0.5, "exclude_self": True,
        "crop": (10, 10, 40, 40),
    }  # fmt: skip
    expected = [m.id for m in retriever.search(file, **how)]
    fields = {**how, "k": "6", "min_score": "-0.5", "exclude_self": "true", "crop": "10,10,40,40"}
    assert ids(client.post("/v1/search", files=sent(file), data=fields)) == [expected]
    for name, spec in (("expand", "3"), ("rerank", "10"), ("distinct", "true")):
        answer = client.post("/v1/search", files=sent(file), data={"k": "3", name: spec})
        assert len(ids(answer)[0]) == 3


def test_a_query_leaves_itself_out(
    client: httpx.Client, stored: Path, retriever: Retriever
) -> None:
    (file,) = pictures(stored, 7)
    own = retriever.search(file, k=1)[0].id
    for answer in (
        client.post("/v1/search", files=sent(file), data={"exclude_self": "1", "k": "50"}),
        client.post("/v1/search", json={"ids": [own], "exclude_self": True, "k": 50}),
    ):
        (found,) = ids(answer)
        assert own not in found
        assert len(found) == 23


def test_examples_move_the_search(client: httpx.Client, stored: Path) -> None:
    file, liked = pictures(stored, 2, 20)
    (found,) = ids(client.post("/v1/search", files=sent(liked), data={"k": "1"}))
    more = client.post(
        "/v1/search", files=sent(file), data={"positive": f"{found[0]}:50", "k": "1"}
    )
    assert ids(more) == [found]
    alone = client.post("/v1/search", json={"positive": [{"id": found[0]}], "k": 3})
    assert ids(alone)[0][0] == found[0]
    less = {"ids": [found[0]], "negative": [{"id": found[0], "weight": 0.5}], "k": 1}
    assert ids(client.post("/v1/search", json=less)) == [found]
    cancelled = {"ids": found, "negative": [{"id": found[0]}]}
    assert is_problem(client.post("/v1/search", json=cancelled), 422)


def test_one_bad_picture_of_several_is_told_beside_the_others(
    client: httpx.Client, stored: Path
) -> None:
    (file,) = pictures(stored, 2)
    bad = ("picture", ("bad.jpg", b"no image"))
    first, second = results(client.post("/v1/search", files=[*sent(file), bad]))
    assert first["error"] is None
    assert "not an image" in second["error"]
    assert second["matches"] == []
    assert is_problem(client.post("/v1/search", files=[bad]), 422)


@pytest.mark.parametrize(
    "body",
    [
        {}, {"ids": []}, {"ids": [5]}, {"ids": [-1]}, {"ids": [1 << 64]}, {"ids": "x"},
        {"embeddings": [[1.0]]}, {"embeddings": [[0.0] * 576]}, {"embeddings": [[1], [1, 2]]},
        {"k": 0}, {"k": 1001}, {"nothing": 1}, {"where": "nothing = 1"}, {"where": "label ="},
        {"min_score": 2}, {"positive": [{}]}, {"positive": [{"id": 1, "weight": -1}]},
        {"crop": [0, 0, 1, 1]}, {"expand": "x"}, {"rerank": "x"}, {"min_confidence": 0.5},
        {"ids": [1] * 17},
    ],
)  # fmt: skip
def test_what_cannot_be_searched_by_is_a_problem(
    client: httpx.Client, retriever: Retriever, stored: Path, body: dict[str, Any]
) -> None:
    own = retriever.search(pictures(stored, 0)[0], k=1)[0].id
    asked = (
        body
        if body.keys() & {"ids", "embeddings", "positive"} or not body
        else body | {"ids": [own]}
    )
    assert is_problem(client.post("/v1/search", json=asked), 422)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"k": NaN}', b"[" * 100_000, b"\xff"])
def test_what_is_not_json_is_a_problem(client: httpx.Client, content: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    assert is_problem(client.post("/v1/search", content=content, headers=headers), 422)


def test_another_type_of_body_is_a_problem(client: httpx.Client) -> None:
    assert is_problem(client.post("/v1/search", content=b"x"), 415)
    headers = {"Content-Type": "multipart/form-data"}
    assert is_problem(client.post("/v1/search", content=b"x", headers=headers), 400)
    assert is_problem(client.post("/v1/search?gallery=other", json={"ids": [1]}), 404)


def test_addresses_are_fetched_only_where_that_is_on(stored: Path, client: httpx.Client) -> None:
    body = {"urls": ["http://127.0.0.1/a.jpg"]}
    assert is_problem(client.post("/v1/search", json=body), 403)
    with in_thread(ServiceOptions({"one": stored / ".imgret"}, allow_urls=True)) as allowing:
        answer = allowing.post("/v1/search", json=body)
        assert is_problem(answer, 422)
        assert "not one of the public internet" in answer.json()["detail"]


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "192.168.0.1", "172.16.0.1", "169.254.169.254", "0.0.0.1", "::1",
     "fe80::1", "fd00::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "224.0.0.1",
     "100.64.0.1", "::", "fec0::1"],
)  # fmt: skip
def test_no_address_of_ones_own_network_is_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))
    assert is_public(ipaddress.ip_address("8.8.8.8"))
    assert is_public(ipaddress.ip_address("2606:4700::1111"))


@pytest.fixture
def site() -> Iterator[str]:
    """A site that answers, redirects, and answers too much."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            port = self.server.server_address[1]
            moved = {
                "/elsewhere": f"http://127.0.0.2:{port}/picture", "/again": "/again",
                "/file": "file:///etc/passwd", "/moved": "/picture",
            }.get(self.path)  # fmt: skip
            self.send_response(302 if moved else 404 if self.path == "/none" else 200)
            if moved:
                self.send_header("Location", moved)
            self.end_headers()
            self.wfile.write(b"x" * (2000 if self.path == "/large" else 10))

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_each_redirect_is_checked_again(site: str) -> None:
    def allowed(address: Any) -> bool:
        return str(address) == "127.0.0.1"

    assert download_picture(f"{site}/moved", 1000, is_allowed=allowed) == b"x" * 10
    for path, why in (
        ("elsewhere", "public internet"), ("again", "too often"), ("file", "begins with"),
        ("none", "status 404"), ("large", "more than 1,000 bytes"),
    ):  # fmt: skip
        with pytest.raises(ImageError, match=why):
            download_picture(f"{site}/{path}", 1000, is_allowed=allowed)
    for url in ("ftp://a.example/", "http://me:secret@a.example/", "http://[::1/", "nothing"):
        with pytest.raises(ImageError):
            download_picture(url, 1000, is_allowed=allowed)


def test_requests_that_wait_are_encoded_together(client: httpx.Client, stored: Path) -> None:
    files = pictures(stored, *range(24)) * 2

    def ask(file: Path) -> int:
        return client.post("/v1/search", files=sent(file), data={"k": "1"}).status_code

    with ThreadPoolExecutor(24) as threads:
        assert set(threads.map(ask, files)) == {200}
    text = client.get("/metrics").text
    batches, done = (
        float(text.partition(f'imgret_batch_size_{what}{{queue="encode"}} ')[2].split()[0])
        for what in ("count", "sum")
    )
    assert done >= 48
    assert batches < done

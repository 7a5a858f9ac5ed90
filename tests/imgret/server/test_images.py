"""The images of a gallery over HTTP: listed, looked at, added, removed, labelled."""

from __future__ import annotations

import io
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from imgret.server import Limits, ServiceOptions, Tokens
from retrieval.retriever import Retriever
from tests.imgret.server.started import in_thread, is_problem
from tests.samples import picture


@pytest.fixture(scope="module")
def client(stored: Path) -> Iterator[httpx.Client]:
    with in_thread(ServiceOptions({"one": stored / ".imgret"})) as client:
        yield client


@pytest.fixture
def writing(own: Path) -> Iterator[httpx.Client]:
    options = ServiceOptions({"own": own / ".imgret"}, uploads=own / "sent")
    with in_thread(options) as client:
        yield client


def first(client: httpx.Client, **query: Any) -> dict[str, Any]:
    return dict(client.get("/v1/images", params={"limit": 1, **query}).json()["images"][0])


def encoded(seed: int) -> bytes:
    stream = io.BytesIO()
    picture(seed).save(stream, "JPEG")
    return stream.getvalue()


def send(client: httpx.Client, *contents: bytes, **fields: str) -> httpx.Response:
    files = [("picture", (f"{n}.jpg", content)) for n, content in enumerate(contents)]
    return client.post("/v1/images", files=files, data=fields)


def finished(client: httpx.Client, path: str) -> dict[str, Any]:
    for _ in range(600):
        answer = client.get(path)
        if answer.status_code != 202:
            assert answer.status_code == 200, answer.text
            return dict(answer.json())
        assert answer.json()["status"] == "running"
        time.sleep(0.1)
    raise AssertionError(path)


def test_images_are_listed_a_page_at_a_time(client: httpx.Client) -> None:
    query: dict[str, Any] = {"order": "path", "limit": 10, "where": "label != 'class0'"}
    paths: list[str] = []
    while True:
        answer = client.get("/v1/images", params=query).json()
        paths += [image["path"] for image in answer["images"]]
        if answer["next"] is None:
            break
        query["cursor"] = answer["next"]
    assert len(paths) == answer["total"] == 16
    assert paths == sorted(paths)
    for wrong in ({"cursor": "x"}, {"order": "x"}, {"limit": 0}, {"where": "x = 1"}):
        assert is_problem(client.get("/v1/images", params=wrong), 422)


def test_an_image_is_told_of_by_its_id(client: httpx.Client) -> None:
    image = first(client)
    assert client.get(f"/v1/images/{image['id']}").json() == image
    assert (image["width"], image["height"], image["format"]) == (80, 60, "JPEG")
    for id, status in ((5, 404), (-1, 422), ("x", 422), (1 << 63, 422)):
        assert is_problem(client.get(f"/v1/images/{id}"), status)


def test_a_thumbnail_and_a_file_are_those_of_the_image(client: httpx.Client) -> None:
    image = first(client)
    small = client.get(image["thumbnail"], params={"size": 32})
    assert small.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(small.content)).size == (32, 24)
    again = {"If-None-Match": small.headers["etag"]}
    assert client.get(image["thumbnail"], params={"size": 32}, headers=again).status_code == 304
    whole = client.get(f"/v1/images/{image['id']}/file")
    assert whole.content == Path(image["path"]).read_bytes()
    assert whole.headers["content-disposition"].startswith("inline; ")
    for size in (0, 5000, "x"):
        assert is_problem(client.get(image["thumbnail"], params={"size": size}), 422)
    assert 'imgret_cache_total{outcome="miss"}' in client.get("/metrics").text


def test_a_file_that_is_another_now_is_not_given(own: Path) -> None:
    with in_thread(ServiceOptions({"own": own / ".imgret"})) as client:
        image = first(client)
        Path(image["path"]).unlink()
        Path(image["path"]).symlink_to("/etc/hostname")
        for what in ("file", "thumbnail"):
            assert is_problem(client.get(f"/v1/images/{image['id']}/{what}"), 410)


def test_neighbours_are_those_of_a_search_without_the_image(client: httpx.Client) -> None:
    image = first(client)
    answer = client.get(f"/v1/images/{image['id']}/neighbours", params={"k": 5})
    found = [match["id"] for match in answer.json()["results"][0]["matches"]]
    body = {"ids": [image["id"]], "k": 6}
    searched = client.post("/v1/search", json=body).json()["results"][0]["matches"]
    assert found == [match["id"] for match in searched[1:]]


def test_facets_and_the_gallery_are_told(client: httpx.Client) -> None:
    facets = client.get("/v1/facets", params={"where": "label = 'class1'"}).json()
    assert facets["labels"] == [{"value": "class1", "images": 8}]
    told = client.get("/v1/gallery").json()
    assert (told["images"], told["backbone"], told["galleries"]) == (24, "mini", ["one"])
    assert (told["can_write"], told["can_upload"], told["can_classify"]) == (True, False, False)
    assert {"name": "label", "holds": "text"} in told["columns"]
    assert not told["is_written"]


def test_several_galleries_are_told_apart(stored: Path, own: Path) -> None:
    options = ServiceOptions({"one": stored / ".imgret", "two": own / ".imgret"})
    with in_thread(options) as client:
        image = first(client, gallery="two")
        assert str(own) in image["path"]
        assert image["thumbnail"].endswith("?gallery=two")
        assert client.get(image["thumbnail"]).status_code == 200
        assert str(own) not in first(client)["path"]
        body = {"ids": [image["id"]], "k": 1}
        found = client.post("/v1/search?gallery=two", json=body).json()
        assert found["results"][0]["matches"][0]["path"] == image["path"]


def test_a_picture_that_is_sent_is_stored_once_and_found(writing: httpx.Client, own: Path) -> None:
    content = encoded(100)
    answer = send(writing, content)
    assert answer.status_code == 201
    (result,) = answer.json()["results"]
    assert (result["created"], result["image"]["label"]) == (True, "sent")
    file = Path(result["image"]["path"])
    assert file.parent == own / "sent"
    assert file.read_bytes() == content
    found = writing.post("/v1/search", files={"picture": content}, data={"k": "1"}).json()
    assert found["results"][0]["matches"][0]["id"] == result["image"]["id"]
    again = send(writing, content)
    assert again.status_code == 200
    assert again.json()["results"][0]["image"]["id"] == result["image"]["id"]
    assert [f.name for f in (own / "sent").iterdir()] == [file.name]


def test_what_is_in_the_gallery_already_is_not_stored_again(
    writing: httpx.Client, own: Path
) -> None:
    image = first(writing)
    answer = send(writing, Path(image["path"]).read_bytes(), encoded(101), b"no image")
    assert answer.status_code == 201
    old, new, bad = answer.json()["results"]
    assert (old["created"], old["image"]["id"]) == (False, image["id"])
    assert new["created"]
    assert "not an image" in bad["error"]
    assert len(list((own / "sent").iterdir())) == 1


def test_a_picture_that_cannot_be_decoded_leaves_nothing(writing: httpx.Client, own: Path) -> None:
    assert is_problem(send(writing, encoded(102)[:200]), 422)
    assert is_problem(send(writing, b"no image"), 422)
    assert [f for f in (own / "sent").rglob("*") if f.is_file()] == []
    assert writing.get("/v1/gallery").json()["failed"] == 0


def test_a_label_is_the_folder_of_what_is_sent(writing: httpx.Client, own: Path) -> None:
    (result,) = send(writing, encoded(103), label="Zoë 7").json()["results"]
    assert result["image"]["label"] == "Zoë 7"
    assert Path(result["image"]["path"]).parent == own / "sent" / "Zoë 7"
    for label in ("../x", "a/b", ".hidden", " x", "a\nb", "x" * 300):
        assert is_problem(send(writing, encoded(104), label=label), 422)


def test_a_file_of_that_name_is_never_overwritten(writing: httpx.Client, own: Path) -> None:
    import hashlib

    content = encoded(105)
    (own / "sent").mkdir()
    file = own / "sent" / f"{hashlib.sha256(content).hexdigest()}.jpg"
    file.write_bytes(b"mine")
    assert is_problem(send(writing, content), 409)
    assert file.read_bytes() == b"mine"


@pytest.mark.long
def test_many_uploads_at_once_are_all_there(writing: httpx.Client, own: Path) -> None:
    contents = [encoded(200 + n) for n in range(20)]
    with ThreadPoolExecutor(10) as threads:
        answers = list(threads.map(lambda content: send(writing, content), contents * 2))
    assert {answer.status_code for answer in answers} <= {200, 201}
    ids = {answer.json()["results"][0]["image"]["id"] for answer in answers}
    assert len(ids) == 20
    assert Retriever(own / ".imgret").verify().ok


def test_an_image_is_removed_and_with_it_what_was_sent(writing: httpx.Client, own: Path) -> None:
    old = first(writing)
    (result,) = send(writing, encoded(106)).json()["results"]
    for image, stays in ((old, True), (result["image"], False)):
        assert writing.delete(f"/v1/images/{image['id']}").status_code == 204
        assert is_problem(writing.get(f"/v1/images/{image['id']}"), 404)
        assert is_problem(writing.delete(f"/v1/images/{image['id']}"), 404)
        assert Path(image["path"]).exists() is stays


def test_a_label_is_changed(writing: httpx.Client) -> None:
    image = first(writing)
    answer = writing.patch(f"/v1/images/{image['id']}", json={"label": "new"})
    assert answer.json() == image | {"label": "new"}
    assert first(writing, where="label = 'new'")["id"] == image["id"]
    for body in ({}, {"label": ""}, {"label": "a\nb"}, {"label": 5}, {"other": "x"}):
        assert is_problem(writing.patch(f"/v1/images/{image['id']}", json=body), 422)
    assert is_problem(writing.patch("/v1/images/5", json={"label": "x"}), 404)
    assert writing.patch(f"/v1/images/{image['id']}", json={"label": None}).json()["label"] is None


def test_duplicates_are_looked_for_once_in_the_background(own: Path) -> None:
    source = next((own / "pictures").rglob("*.jpg"))
    (source.parent / "copy.jpg").write_bytes(source.read_bytes())
    Retriever(own / ".imgret").index(own / "pictures")
    with in_thread(ServiceOptions({"own": own / ".imgret"})) as client:
        report = finished(client, "/v1/duplicates?tier=bytes")
        (group,) = report["groups"]
        assert {Path(i["path"]).name for i in group["images"]} == {"copy.jpg", source.name}
        assert all(client.get(i["thumbnail"]).status_code == 200 for i in group["images"])
        assert client.get("/v1/duplicates?tier=bytes").status_code == 200
        assert is_problem(client.get("/v1/duplicates?tier=bytes&cursor=x"), 422)


def test_the_map_is_made_in_the_background(client: httpx.Client) -> None:
    drawn = finished(client, "/v1/map")
    assert drawn["total"] == len(drawn["points"]) == 24
    assert all(p["id"] is not None and 0 <= p["x"] <= 1 for p in drawn["points"])


@pytest.mark.long
def test_nothing_is_written_where_that_is_off(own: Path) -> None:
    tokens = Tokens.of([("0123456789abcdef", "read-write")])
    options = ServiceOptions(
        {"own": own / ".imgret"}, uploads=own / "sent", read_only=True, tokens=tokens
    )
    with in_thread(options) as client:
        client.headers["Authorization"] = "Bearer 0123456789abcdef"
        image = first(client)
        assert is_problem(send(client, encoded(1)), 403)
        assert is_problem(client.delete(f"/v1/images/{image['id']}"), 403)
        assert is_problem(client.patch(f"/v1/images/{image['id']}", json={"label": "x"}), 403)
        assert not client.get("/v1/gallery").json()["can_write"]
    with in_thread(ServiceOptions({"own": own / ".imgret"})) as client:
        assert is_problem(send(client, encoded(1)), 403)


def test_pixels_are_bounded_in_what_is_sent(own: Path) -> None:
    limits = Limits(pixels=80 * 60 - 1)
    options = ServiceOptions({"own": own / ".imgret"}, uploads=own / "sent", limits=limits)
    with in_thread(options) as client:
        assert is_problem(send(client, encoded(1)), 422)
        assert is_problem(client.post("/v1/search", files={"picture": encoded(1)}), 422)


def test_an_evaluation_is_that_of_the_retriever_and_names_the_worst_queries_by_id(
    client: httpx.Client, stored: Path
) -> None:
    told = finished(client, "/v1/evaluation")
    measured = Retriever(stored / ".imgret").evaluate(calibrate=False)
    assert {m["name"]: m["value"] for m in told["metrics"]} == pytest.approx(
        {m.name: m.value for m in measured.metrics}
    )
    assert [w["query"]["path"] for w in told["worst"]] == [str(q.path) for q in measured.worst]
    for worst in told["worst"]:
        for image in (worst["query"], *worst["neighbours"]):
            assert client.get(f"/v1/images/{image['id']}").json()["path"] == image["path"]


def test_files_are_packed_and_those_that_changed_are_named(writing: httpx.Client) -> None:
    listed = writing.get("/v1/images").json()["images"][:3]
    Path(listed[1]["path"]).write_bytes(b"other")
    answer = writing.post("/v1/archive", json={"ids": [image["id"] for image in listed]})
    assert answer.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert len(archive.namelist()) == 3
        assert Path(listed[1]["path"]).name in archive.read("left-out.txt").decode()
        name = next(n for n in archive.namelist() if n.endswith(Path(listed[0]["path"]).name))
        assert archive.read(name) == Path(listed[0]["path"]).read_bytes()


def test_an_archive_is_bounded_in_number_and_bytes(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert is_problem(client.post("/v1/archive", json={"ids": list(range(1_001))}), 422)
    assert is_problem(client.post("/v1/archive", json={"ids": [0]}), 404)
    monkeypatch.setattr("imgret.server.archive.MOST_PACKED", 10)
    assert is_problem(client.post("/v1/archive", json={"ids": [first(client)["id"]]}), 413)

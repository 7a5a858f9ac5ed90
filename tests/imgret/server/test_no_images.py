"""A gallery without images, or one that is not there yet: told of, and filled by what is sent."""

from __future__ import annotations

import io
import json
import threading
import time
from pathlib import Path

import pytest

from imgret.server import ServiceOptions
from retrieval.gallery.run_progress import NOTED_IN, noted, read_note
from retrieval.retriever import Retriever
from tests.conftest import Command
from tests.imgret.server.started import in_thread, is_problem, started
from tests.samples import picture


def sent(seed: int) -> dict[str, bytes]:
    stream = io.BytesIO()
    picture(seed).save(stream, "JPEG")
    return {"picture": stream.getvalue()}


def emptied(own: Path) -> Path:
    Retriever(own / ".imgret").remove([own / "pictures"])
    return own / ".imgret"


def test_a_gallery_without_images_is_ready_and_told_of(own: Path) -> None:
    with in_thread(ServiceOptions({"own": emptied(own)})) as client:
        assert client.get("/readyz").status_code == 200
        told = client.get("/v1/gallery")
        assert told.status_code == 200
        assert told.json()["images"] == 0
        assert told.json()["version"].rpartition("-")[2].isdigit()
        assert is_problem(client.get("/v1/images"), 503)


def test_what_is_sent_fills_a_gallery_without_images(own: Path) -> None:
    options = ServiceOptions({"own": emptied(own)}, uploads=own / "sent")
    with in_thread(options) as client:
        assert client.post("/v1/images", files=sent(5)).status_code == 201
        assert client.get("/v1/gallery").json()["images"] == 1
        found = client.post("/v1/search", files=sent(5)).json()
        assert found["results"][0]["matches"][0]["score"] > 0.99


@pytest.mark.long
def test_the_first_picture_that_is_sent_makes_the_gallery(tmp_path: Path, cache: Path) -> None:
    with started(tmp_path, cache, "--uploads", tmp_path / "sent") as service:
        client = service.client
        told = client.get("/v1/gallery").json()
        assert (told["images"], told["version"]) == (0, "")
        assert told["path"] == str(tmp_path / ".imgret")
        assert not (tmp_path / ".imgret").exists()
        assert client.post("/v1/images", files=sent(5), data={"label": "new"}).status_code == 201
        told = client.get("/v1/gallery").json()
        assert (told["images"], told["backbone"]) == (1, "mini")
        assert client.get("/v1/images").json()["images"][0]["label"] == "new"
        assert client.get("/readyz").status_code == 200
        (tmp_path / ".imgret").rename(tmp_path / "away")  # which is not begun anew
        assert is_problem(client.get("/readyz"), 503)
        assert is_problem(client.post("/v1/images", files=sent(6)), 503)
        assert not (tmp_path / ".imgret").exists()


def test_a_gallery_that_is_not_there_is_refused_without_uploads(
    inline: Command, tmp_path: Path
) -> None:
    for more in ((), ("--uploads", tmp_path / "sent", "--read-only")):
        done = inline("serve", tmp_path / "none.imgret", *more)
        assert done.returncode == 2
        assert "is not a gallery. Create one with `imgret index" in done.stderr


def test_a_folder_of_other_files_does_not_become_a_gallery(inline: Command, tmp_path: Path) -> None:
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "thesis.txt").write_text("long")
    done = inline("serve", tmp_path / "papers", "--uploads", tmp_path / "sent")
    assert done.returncode == 2
    assert "holds other files, such as thesis.txt" in done.stderr


def test_how_far_index_is_is_told_with_a_total(own: Path) -> None:
    waits, told = threading.Event(), threading.Event()

    def progress(step: str, done: int, total: int | None) -> None:
        if step == "encoding":
            time.sleep(0.6)  # a shorter run notes nothing
            if done:
                told.set()
                waits.wait(60)

    for n in range(300, 306):
        picture(n).save(own / "pictures" / f"{n}.png")
    retriever = Retriever(own / ".imgret")
    with in_thread(ServiceOptions({"own": own / ".imgret"})) as client:
        writer = threading.Thread(
            target=retriever.index, args=([own / "pictures"],), kwargs={"progress": progress}
        )
        writer.start()
        assert told.wait(60)
        answer = client.get("/v1/gallery").json()
        waits.set()
        writer.join(60)
        assert answer["is_written"]
        assert answer["writer"] == {"step": "encoding", "done": 0, "total": 6}
        assert client.get("/v1/gallery").json()["writer"] is None
    assert not (own / ".imgret" / NOTED_IN).exists()


@pytest.mark.parametrize(
    "content",
    [
        "", "[]", "7", '{"step": 1, "done": 1, "total": 1}', '{"step": "x", "done": true}',
        '{"step": "x", "done": -1, "total": 1}', '{"step": "x", "done": 1, "total": 1e9}',
        '{"step": "x", "done": 1}', json.dumps({"step": "x" * 2000, "done": 1, "total": 1}),
        '{"step": "x", "done": 99999999999999999999, "total": 1}', "[" * 1000,
    ],
)  # fmt: skip
def test_a_note_of_a_stranger_is_not_believed(tmp_path: Path, content: str) -> None:
    (tmp_path / NOTED_IN).write_text(content)
    assert read_note(tmp_path) is None


def test_a_note_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").write_text('{"step": "x", "done": 1, "total": 1}')
    (tmp_path / NOTED_IN).symlink_to(tmp_path / "other")
    assert read_note(tmp_path) is None


def test_control_characters_of_a_note_are_written_out(tmp_path: Path) -> None:
    (tmp_path / NOTED_IN).write_text(json.dumps({"step": "a\x1b[2J", "done": 1, "total": None}))
    found = read_note(tmp_path)
    assert found is not None
    assert found.step == "a\\x1b[2J"


def test_notes_are_written_twice_a_second_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    note, seen = noted(tmp_path, None), []
    for n in range(40):
        now[0] = n / 10
        note("encoding", n, 40)
        found = read_note(tmp_path)
        seen.append(None if found is None else found.done)
    assert len(set(seen)) == 1 + 7  # none at first, and then one each half second
    assert seen[:5] == [None] * 5

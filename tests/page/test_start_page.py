"""What one sees before there is something to see: no pictures, no token; and pictures that come."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from retrieval.retriever import Retriever
from tests.page.conftest import WAIT, Service, drop, serving
from tests.samples import picture, save_pictures


@pytest.fixture
def tab(chromium: Any) -> Iterator[Any]:
    context = chromium.new_context(viewport={"width": 1280, "height": 800})
    context.set_default_timeout(2 * WAIT)
    yield context.new_page()
    context.close()


@pytest.mark.long
def test_an_empty_gallery_says_how_to_index_and_shows_what_comes(
    tab: Any, tmp_path: Path, cache: Path
) -> None:
    first = tmp_path / "first" / "1.png"
    first.parent.mkdir()
    picture(99).save(first)
    retriever = Retriever(tmp_path / ".imgret")
    retriever.index(first)
    retriever.remove([first])
    with serving(tmp_path, cache) as address:
        tab.goto(address)
        tab.get_by_role("heading", name="The gallery holds no pictures yet").wait_for()
        tab.get_by_text("imgret index PICTURES/").wait_for()
        retriever.index(save_pictures(tmp_path / "pictures"))
        tab.get_by_text("24 pictures", exact=True).last.wait_for()
        for n in range(200, 206):
            picture(n).save(tmp_path / "pictures" / f"{n}.png")
        retriever.index(tmp_path / "pictures")
        tab.get_by_role("status").filter(has_text="Indexing").wait_for()
        tab.get_by_text("30 pictures", exact=True).last.wait_for()


@pytest.mark.long
def test_how_far_index_is_is_shown_with_a_total(tab: Any, tmp_path: Path, cache: Path) -> None:
    Retriever(tmp_path / ".imgret").index(save_pictures(tmp_path / "pictures"))
    for n in range(400, 480):
        picture(n).save(tmp_path / "pictures" / f"{n}.png")
    waits = threading.Event()

    def progress(step: str, done: int, total: int | None) -> None:
        if step == "encoding":
            time.sleep(0.6)  # a shorter run notes nothing
            if done:
                waits.wait(60)

    retriever = Retriever(tmp_path / ".imgret")
    with serving(tmp_path, cache) as address:
        tab.goto(address)
        tab.get_by_text("24 pictures", exact=True).last.wait_for()
        writer = threading.Thread(
            target=retriever.index, args=(tmp_path / "pictures",), kwargs={"progress": progress}
        )
        writer.start()
        try:
            tab.get_by_role("progressbar", name="Indexing").wait_for()
            tab.get_by_text("Indexing (encoding): 0 of 80").wait_for()
            assert tab.get_by_role("progressbar", name="Indexing").get_attribute("max") == "80"
        finally:
            waits.set()
            writer.join(60)
        tab.get_by_role("progressbar", name="Indexing").wait_for(state="detached")
        tab.get_by_text("104 pictures", exact=True).last.wait_for()


@pytest.mark.long
def test_a_gallery_that_is_not_there_yet_is_empty_and_is_filled_by_what_is_sent(
    tab: Any, tmp_path: Path, cache: Path
) -> None:
    picture(7).save(tmp_path / "one.png")
    with serving(tmp_path, cache, "--uploads", tmp_path / "sent") as address:
        tab.goto(address)
        tab.get_by_role("heading", name="The gallery holds no pictures yet").wait_for()
        content = (tmp_path / "one.png").read_bytes()
        assert httpx.post(f"{address}v1/images", files={"picture": content}).status_code == 201
        tab.get_by_text("1 picture", exact=True).last.wait_for()


@pytest.mark.long
def test_a_token_is_asked_for_and_pictures_are_shown_with_it(
    tab: Any, tmp_path: Path, cache: Path
) -> None:
    Retriever(tmp_path / ".imgret").index(save_pictures(tmp_path / "pictures"))
    token = "abcdefgh12345678"  # noqa: S105  of this test alone
    with serving(tmp_path, cache, IMGRET_TOKEN=token) as address:
        tab.goto(address)
        tab.get_by_label("Token").fill("hgfedcba12345678")
        tab.keyboard.press("Enter")
        tab.get_by_role("alert").wait_for()
        tab.get_by_label("Token").fill(token)
        tab.keyboard.press("Enter")
        image = tab.locator(".card img").first
        image.wait_for()
        tab.wait_for_function("() => document.querySelector('.card img')?.naturalWidth > 0")
        assert image.get_attribute("src").startswith("blob:")
        assert token not in tab.url


@pytest.mark.long
def test_a_service_of_a_classifier_alone_shows_classes(
    tab: Any, service: Service, tmp_path: Path, cache: Path
) -> None:
    with serving(tmp_path, cache, "--model", service.folder / "run") as address:
        tab.goto(address)
        tab.get_by_role("heading", name="Which class is it?").wait_for()
        drop(tab, next((service.folder / "blobs" / "test" / "blue").iterdir()))
        tab.get_by_role("progressbar", name="blue").wait_for()

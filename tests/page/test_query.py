"""The query: how it comes, its box, its examples, and its address."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.page.conftest import Service, Visit, drop, names

WASHER = ("parts", "test", "washer", "washer_000.jpg")


def test_a_picture_can_be_chosen_pasted_and_photographed(visit: Visit, service: Service) -> None:
    page = visit.open()
    photograph = page.locator("input[capture]")
    assert photograph.get_attribute("capture") == "environment"
    page.locator("input[type=file]").first.set_input_files(service.folder.joinpath(*WASHER))
    page.locator(".grid .name", has_text="washer_000.jpg").first.wait_for()
    page.get_by_role("button", name="Clear").click()
    page.get_by_role("grid", name="The gallery").wait_for()
    content = list(service.folder.joinpath("parts", "test", "nut", "nut_000.jpg").read_bytes())
    page.evaluate(
        """content => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(content)], "x.jpg", { type: "image/jpeg" }));
            dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true }));
        }""",
        content,
    )
    page.locator(".grid .name", has_text="nut_000.jpg").first.wait_for()


def test_a_picture_that_cannot_be_read_is_named_in_a_sentence(
    visit: Visit, service: Service
) -> None:
    page = visit.open()
    drop(page, service.folder / "run" / "config.json")
    alert = page.get_by_role("alert")
    alert.wait_for()
    assert alert.inner_text().endswith(".")


def test_back_and_forward_lead_through_the_searches(visit: Visit) -> None:
    page = visit.open()
    page.locator(".card .shot").first.click()
    page.get_by_role("grid", name="Matches").wait_for()
    first = page.url
    page.locator(".card .shot").nth(2).click()
    page.wait_for_function("url => location.href !== url", arg=first)
    page.go_back()
    page.wait_for_url(first)
    page.go_back()
    page.get_by_role("grid", name="The gallery").wait_for()
    page.go_forward()
    page.get_by_role("grid", name="Matches").wait_for()
    page.wait_for_url(first)


def test_an_address_can_be_shared_without_the_picture(
    visits: Callable[..., Visit], service: Service
) -> None:
    mine = visits().open()
    drop(mine, service.folder.joinpath(*WASHER))
    mine.wait_for_url(re.compile(r"like=file\.[0-9a-f]{64}\.[\w-]+"))
    mine.locator(".grid .name", has_text="washer_000.jpg").first.wait_for()
    theirs = visits()
    page = theirs.open(mine.url.removeprefix(service.address))
    page.get_by_text("The picture is in another browser").wait_for()
    page.locator(".grid .name", has_text="washer_000.jpg").first.wait_for()
    assert names(page)[:3] == names(mine)[:3]


def test_a_box_is_drawn_by_keys_alone(visit: Visit) -> None:
    page = visit.open()
    page.locator(".card .shot").first.click()
    area = page.get_by_role("application", name=re.compile("^Query"))
    area.locator("img").evaluate("image => image.decode()")
    area.focus()
    for key in ("ArrowRight", "ArrowDown", "Shift+ArrowRight", "Enter"):
        page.keyboard.press(key)
    page.wait_for_url(re.compile(r"box=24%2C28%2C52%2C48"))
    page.keyboard.press("Escape")
    page.wait_for_function("() => !location.href.includes('box=')")


def test_a_finger_draws_a_box_once_the_button_is_pressed(visits: Callable[..., Visit]) -> None:
    visit = visits(width=390, height=844, has_touch=True, is_mobile=True)
    page = visit.open()
    page.locator(".card .shot").first.tap()
    page.get_by_role("button", name="Draw a box").tap()
    page.locator(".crop img").evaluate("image => image.decode()")
    area = page.locator(".crop").bounding_box()
    client = page.context.new_cdp_session(page)

    def touch(kind: str, *points: tuple[float, float]) -> None:
        at = [{"x": area["x"] + x, "y": area["y"] + y} for x, y in points]
        client.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": at})

    touch("touchStart", (8, 8))
    touch("touchMove", (40, 40))
    touch("touchMove", (70, 60))
    touch("touchEnd")
    page.wait_for_url("**box=*")


def test_examples_move_the_matches(visit: Visit, service: Service) -> None:
    page = visit.open()
    drop(page, service.folder.joinpath(*WASHER))
    page.locator(".grid .name", has_text="washer_000.jpg").first.wait_for()
    before = names(page)
    card = page.locator(".card").nth(3)
    card.hover()
    card.get_by_role("button", name="Less like").click()
    page.wait_for_url("**unlike=id.*")
    page.get_by_role("button", name="Less like: remove this picture").wait_for()
    page.wait_for_function(
        "before => JSON.stringify([...document.querySelectorAll('.grid .name')]"
        ".map(n => n.textContent)) !== before",
        arg=str(before).replace("'", '"').replace(", ", ","),
    )
    bolt = service.folder / "parts" / "test" / "bolt" / "bolt_000.jpg"
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Also like: add a picture").click()
    chooser.value.set_files(bolt)
    page.get_by_role("button", name="Also like: remove this picture").click()
    page.get_by_role("button", name="Less like: remove this picture").click()
    page.wait_for_function("() => !location.href.includes('unlike')")


@pytest.mark.parametrize("fragment", ["#like=id.999999", "#open=1", "#view=nothing&box=9"])
def test_an_address_that_leads_nowhere_breaks_nothing(visit: Visit, fragment: str) -> None:
    page: Any = visit.open(fragment)
    page.wait_for_timeout(300)
    assert page.locator("#page").inner_text()


def test_a_search_does_not_wait_for_the_browser_to_keep_its_picture(
    visit: Visit, service: Service
) -> None:
    visit.page.add_init_script("IDBFactory.prototype.open = () => ({})")  # which never answers
    page = visit.open()
    drop(page, service.folder / "parts" / "test" / "bolt" / "bolt_000.jpg")
    page.get_by_role("grid", name="Matches").wait_for()
    page.locator(".grid .name", has_text="bolt_000.jpg").first.wait_for()

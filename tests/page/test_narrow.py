"""What narrows the matches: the filter, the facets, the slider; and the order."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx

from tests.page.conftest import Visit, names


def test_the_filter_completes_columns_and_values(visit: Visit) -> None:
    page = visit.open()
    box = page.get_by_role("combobox", name="Filter")
    box.press_sequentially("lab")
    assert page.get_by_role("listbox").get_by_role("option").all_inner_texts() == ["label"]
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    box.press_sequentially("= 'wash")
    page.get_by_role("option", name="'washer'").click()
    page.keyboard.press("Enter")
    page.wait_for_url("**where=*")
    page.get_by_text("14 pictures", exact=True).wait_for()
    assert box.input_value() == "label = 'washer'"


def test_an_error_of_the_filter_stands_beside_it(visit: Visit) -> None:
    page = visit.open()
    box = page.get_by_role("combobox", name="Filter")
    box.fill("widht > 4")
    page.keyboard.press("Escape")
    page.keyboard.press("Enter")
    error = page.get_by_role("alert")
    error.wait_for()
    assert "did you mean width" in error.inner_text()
    assert error.count() == 1
    assert box.get_attribute("aria-invalid") == "true"
    assert box.get_attribute("aria-describedby") == error.get_attribute("id")


def test_facets_narrow_and_can_be_chosen_together(visit: Visit) -> None:
    page = visit.open()
    page.get_by_role("checkbox", name=re.compile("^nut")).check()
    page.get_by_text("16 pictures", exact=True).wait_for()
    page.get_by_role("checkbox", name=re.compile("^bolt")).check()
    page.get_by_text("30 pictures", exact=True).wait_for()
    sizes = page.get_by_role("group", name="Size")
    assert sizes.get_by_role("checkbox").count() == 1  # of those that none has there is no choice
    sizes.get_by_role("checkbox", name=re.compile("^below 100 kB ?30$")).check()
    page.wait_for_url("**size=*")
    page.get_by_text("30 pictures", exact=True).wait_for()
    page.get_by_role("button", name="Remove all").click()
    page.get_by_text("72 pictures", exact=True).last.wait_for()
    folder = page.get_by_role("group", name="Folder").get_by_role("checkbox").first
    folder.check()
    page.wait_for_url("**folder=parts*")
    page.get_by_text(re.compile(r"^1[0-9] pictures$")).wait_for()


def test_the_slider_and_the_line_tell_what_is_likely_right(visit: Visit) -> None:
    page = visit.open()
    page.locator(".card .shot").first.click()
    page.get_by_text("Below here nothing is likely right").wait_for()
    slider = page.get_by_role("slider", name="Least probability")
    count = page.locator(".count p").first
    before = int(re.findall(r"\d+", count.inner_text())[0])
    slider.fill("0.5")
    page.wait_for_url("**least=0.5*")
    page.get_by_text("Below here nothing is likely right").wait_for(state="detached")
    assert 0 < int(re.findall(r"\d+", count.inner_text())[0]) < before


def test_without_a_calibration_the_slider_is_of_scores(visit: Visit) -> None:
    page = visit.open("#gallery=plain")
    page.locator(".card .shot").first.click()
    page.get_by_role("slider", name="Least score").wait_for()
    assert page.get_by_text("Below here").count() == 0


def test_the_gallery_can_be_browsed_in_an_order(visit: Visit) -> None:
    page = visit.open("#gallery=plain")
    page.get_by_label("Order").select_option("path")
    page.wait_for_url("**order=path*")
    page.wait_for_function("() => document.querySelector('.grid .name')?.textContent === '00.jpg'")
    assert names(page)[:3] == ["00.jpg", "03.jpg", "06.jpg"]


def test_the_order_by_file_name_is_not_that_by_path(visit: Visit) -> None:
    page = visit.open("#gallery=plain")
    page.get_by_label("Order").select_option(label="by file name")
    page.wait_for_url("**order=name*")
    page.wait_for_function(
        "() => document.querySelectorAll('.grid .name')[1]?.textContent === '01.jpg'"
    )
    assert names(page)[:3] == ["00.jpg", "01.jpg", "02.jpg"]


def test_what_looks_alike_is_shown_together_under_its_number(visit: Visit) -> None:
    page = visit.open()
    page.get_by_label("Order").select_option(label="alike together")
    page.wait_for_url("**order=clusters*")
    page.locator(".grid .line").first.wait_for()
    told = httpx.get(f"{visit.address}v1/images?order=clusters&limit=1000").json()
    sizes = [cluster["images"] for cluster in told["clusters"]]
    assert sum(sizes) == told["total"] == 72
    lines = page.locator(".grid .line")
    assert lines.first.inner_text() == f"{sizes[0]} alike"
    assert names(page)[0] == Path(told["images"][0]["path"]).name
    page.get_by_label("Order").select_option("path")
    lines.first.wait_for(state="detached")


def test_progress_is_shown_while_clusters_are_worked_out(visit: Visit) -> None:
    asked = []

    def working(route: Any) -> None:
        asked.append(route.request.url)
        if len(asked) > 1:
            route.continue_()
            return
        told = {"status": "running", "step": "clustering", "done": 30, "total": 72}
        route.fulfill(status=202, json=told)

    visit.page.route("**/v1/images?*order=clusters*", working)
    page = visit.open("#order=clusters")
    page.get_by_role("progressbar", name="Putting together what looks alike").wait_for()
    page.get_by_text("(clustering): 30 of 72").wait_for()
    page.locator(".grid .line").first.wait_for()
    assert page.get_by_role("progressbar").count() == 0


def test_another_gallery_can_be_chosen(visit: Visit) -> None:
    page = visit.open()
    page.get_by_role("combobox", name="Gallery").select_option("plain")
    page.get_by_text("24 pictures", exact=True).wait_for()
    page.wait_for_url("**gallery=plain*")

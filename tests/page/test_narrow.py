"""What narrows the matches: the filter, the facets, the slider; and the order."""

from __future__ import annotations

import re

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
    page.get_by_role("checkbox", name="10 MB and more").check()
    page.get_by_text("0 pictures", exact=True).wait_for()
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


def test_another_gallery_can_be_chosen(visit: Visit) -> None:
    page = visit.open()
    page.get_by_role("combobox", name="Gallery").select_option("plain")
    page.get_by_text("24 pictures", exact=True).wait_for()
    page.wait_for_url("**gallery=plain*")

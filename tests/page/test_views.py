"""The other views: duplicates, the map, the evaluation, classes."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import httpx

from tests.page.conftest import Service, Visit, drop


def test_one_of_each_group_is_kept_and_the_script_names_the_others(
    visit: Visit, tmp_path: Path
) -> None:
    page = visit.open("#view=duplicates")
    page.get_by_label("Show").select_option("bytes")
    group = page.locator(".group").first
    group.wait_for()
    group.get_by_role("radio").nth(1).check()
    kept = group.locator(".card.kept .name").inner_text()
    with page.expect_download() as download:
        page.get_by_role("button", name="As a shell script").click()
    script = tmp_path / "remove.sh"
    download.value.save_as(script)
    subprocess.run(["sh", "-n", script], check=True)
    text = script.read_text()
    assert text.count("\nrm -- ") == 1
    assert f"/{kept}'" not in text
    group.get_by_role("radio", name="keep all").check()
    assert group.locator(".card.kept").count() == 0


def test_a_lasso_on_the_map_shows_a_grid(visit: Visit) -> None:
    page = visit.open("#view=map")
    canvas = page.locator(".map-canvas")
    canvas.wait_for(timeout=60_000)
    place = canvas.bounding_box()
    corners = [(0.01, 0.01), (0.99, 0.01), (0.99, 0.99), (0.01, 0.99)]
    points = [
        (place["x"] + place["width"] * x, place["y"] + place["height"] * y) for x, y in corners
    ]
    page.mouse.move(*points[0])
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*point, steps=4)
    page.mouse.up()
    page.wait_for_url("**ids=*")
    page.get_by_role("button", name="of the map").click()
    page.wait_for_function("() => !location.href.includes('ids=')")


def test_a_lasso_around_too_many_says_how_many_it_left_out(visit: Visit) -> None:
    def crowded(route: Any) -> None:
        points = [
            {"id": n, "x": n % 40 / 40, "y": n / 1300, "label": "bolt"} for n in range(1, 1235)
        ]
        told = {"status": "done", "points": points, "total": 1234}
        route.fulfill(json=told)

    visit.page.route("**/v1/map*", crowded)
    page = visit.open("#view=map")
    canvas = page.locator(".map-canvas")
    canvas.wait_for(timeout=60_000)
    place = canvas.bounding_box()
    page.mouse.move(place["x"] + 2, place["y"] + 2)
    page.mouse.down()
    for x, y in ((place["width"] - 2, 2), (place["width"] - 2, place["height"] - 2)):
        page.mouse.move(place["x"] + x, place["y"] + y, steps=4)
    page.mouse.move(place["x"] + 2, place["y"] + place["height"] - 2, steps=4)
    page.mouse.up()
    page.wait_for_url("**left=234*")
    page.get_by_text("234 more were within the line").wait_for()
    page.get_by_role("button", name="1,000 of the map").click()
    page.wait_for_function("() => !location.href.includes('left=')")
    assert page.get_by_text("within the line").count() == 0


def test_the_map_is_read_by_keys(visit: Visit) -> None:
    page = visit.open("#view=map")
    canvas = page.locator(".map-canvas")
    canvas.wait_for(timeout=60_000)
    canvas.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.get_by_role("status").filter(has_text="Picture").wait_for()
    page.keyboard.press("Enter")
    page.get_by_text("50 pictures", exact=True).wait_for()


def test_the_evaluation_shows_what_the_service_measured(visit: Visit, service: Service) -> None:
    page = visit.open()
    page.get_by_role("link", name="Evaluation").click()
    page.get_by_role("region", name="Metrics").wait_for(timeout=60_000)
    told = httpx.get(f"{service.address}v1/evaluation").json()
    rows = page.get_by_role("region", name="Metrics").locator("tbody tr")
    assert rows.count() == len(told["metrics"])
    shares = [metric for metric in told["metrics"] if not metric["name"].startswith("distance")]
    percent = [[f"{100 * m[key]:.1f} %" for key in ("value", "low", "high")] for m in shares]
    assert [row.split("\t") for row in rows.all_inner_texts()][: len(shares)] == [
        [m["name"], mean, f"{low} to {high}"]
        for m, (mean, low, high) in zip(shares, percent, strict=True)
    ]
    classes = page.get_by_role("region", name="Classes").locator("tbody tr")
    assert classes.count() == len(told["classes"])
    for notice in told["notices"]:
        page.get_by_text(notice).wait_for()
    assert page.locator(".failed").count() == len(told["worst"]) > 0


def failed(page: Any) -> Any:
    """The first query that failed, as the page shows it."""
    page.locator(".failed").first.wait_for(timeout=60_000)
    return page.locator(".failed").first


def test_neighbours_of_a_failed_query_are_framed_and_said_to_be_right_or_wrong(
    visit: Visit, service: Service
) -> None:
    page = visit.open("#view=evaluation")
    first = failed(page)
    query = first.get_by_role("grid", name="Query").get_by_role("gridcell")
    assert "right" not in query.get_attribute("aria-label")
    assert query.locator(".word").inner_text() == "Query"
    assert first.get_by_role("grid", name="Neighbours").locator(".word").count() == 0
    cards = first.get_by_role("grid", name="Neighbours").get_by_role("gridcell")
    cards.first.wait_for()
    told = httpx.get(f"{service.address}v1/evaluation").json()["worst"][0]
    verdicts = ["right" if each["right"] else "wrong" for each in told["neighbours"]]
    assert "wrong" in verdicts
    for n, verdict in enumerate(verdicts):
        assert cards.nth(n).get_attribute("aria-label").endswith(f", {verdict}")
        assert verdict in cards.nth(n).get_attribute("class").split()


def test_a_picture_of_the_evaluation_is_shown_large_and_searched_by(visit: Visit) -> None:
    page = visit.open("#view=evaluation")
    card = failed(page).get_by_role("grid", name="Neighbours").get_by_role("gridcell").first
    name = card.locator(".name").inner_text()
    card.focus()
    page.keyboard.press("o")
    dialog = page.get_by_role("dialog", name=name)
    dialog.wait_for()
    dialog.get_by_role("button", name="Previous").click()
    dialog.wait_for(state="detached")  # another one, of the query, is there
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="detached")
    page.wait_for_url("**view=evaluation*")
    card.locator(".shot").click()
    page.get_by_role("grid", name="Matches").wait_for()
    page.go_back()
    failed(page)


def test_back_from_a_search_leads_to_the_same_place(visit: Visit) -> None:
    page = visit.open("#view=evaluation")
    failed(page)
    last = page.locator(".failed").last
    last.scroll_into_view_if_needed()
    card = last.get_by_role("grid", name="Neighbours").get_by_role("gridcell").first
    card.wait_for()
    card.scroll_into_view_if_needed()
    before = page.evaluate("scrollY")
    assert before > 500
    card.locator(".shot").click()
    page.get_by_role("grid", name="Matches").wait_for()
    assert page.evaluate("scrollY") == 0
    page.go_back()
    failed(page)
    page.wait_for_function("top => Math.abs(scrollY - top) < 3", arg=before)
    page.get_by_role("link", name="Map").click()
    page.get_by_role("link", name="Evaluation").click()  # which is no way back
    failed(page)
    page.wait_for_timeout(1200)
    assert page.evaluate("scrollY") < before - 100


def test_a_label_that_is_written_in_the_evaluation_frames_anew(visit: Visit) -> None:
    def written(route: Any) -> None:
        if route.request.method == "PATCH":  # the gallery is of all tests
            route.fulfill(body="{}", content_type="application/json")
        else:
            route.continue_()

    visit.page.route("**/v1/images/*", written)
    page = visit.open("#view=evaluation")
    first = failed(page)
    label = first.locator("h3").inner_text().partition(":")[0]
    wrong = first.locator(".card.wrong")
    wrong.first.wait_for()
    before = wrong.count()
    wrong.first.focus()
    page.keyboard.press("o")
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Label").fill(label)
    dialog.get_by_role("button", name="Save").click()
    dialog.get_by_text("Saved").wait_for()
    page.keyboard.press("Escape")
    dialog.wait_for(state="detached")
    assert wrong.count() == before - 1


def test_a_label_of_the_evaluation_leads_to_its_pictures(visit: Visit) -> None:
    page = visit.open("#view=evaluation")
    failed(page)
    page.get_by_role("region", name="Classes").get_by_role("link", name="washer").click()
    page.get_by_text("14 pictures", exact=True).wait_for()


def test_a_gallery_without_labels_has_no_evaluation(visit: Visit) -> None:
    def unlabelled(route: Any) -> None:
        told = route.fetch().json() | {"labels": 0}
        route.fulfill(body=json.dumps(told), content_type="application/json")

    visit.page.route("**/v1/gallery*", unlabelled)
    page = visit.open()
    page.locator(".card").first.wait_for()
    assert page.get_by_role("link", name="Evaluation").count() == 0


def test_classes_of_a_dropped_picture_are_shown_with_what_speaks_for_them(
    visit: Visit, service: Service
) -> None:
    page = visit.open()
    page.get_by_role("link", name="Classes").click()
    picture = next((service.folder / "blobs" / "test" / "red").iterdir())
    drop(page, picture)
    page.get_by_role("progressbar", name="red").wait_for()
    assert page.get_by_role("progressbar").count() == 3
    heat = page.get_by_role("img", name=re.compile("^What speaks for (red|green|blue)$"))
    heat.wait_for()
    assert heat.get_attribute("src").startswith("blob:")
    page.wait_for_function("() => [...document.images].every(image => image.naturalWidth > 0)")
    page.get_by_role("checkbox", name="Show what speaks").uncheck()
    heat.wait_for(state="detached")
    assert page.get_by_role("img").count() == 1

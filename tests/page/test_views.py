"""The other views: duplicates, the map, classes."""

from __future__ import annotations

import subprocess
from pathlib import Path

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


def test_classes_of_a_dropped_picture_are_shown(visit: Visit, service: Service) -> None:
    page = visit.open()
    page.get_by_role("link", name="Classes").click()
    picture = next((service.folder / "blobs" / "test" / "red").iterdir())
    drop(page, picture)
    page.get_by_role("progressbar", name="red").wait_for()
    assert page.get_by_role("progressbar").count() == 3

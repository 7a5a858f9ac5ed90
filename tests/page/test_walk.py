"""What a new user does on the first day, in a browser."""

from __future__ import annotations

from pathlib import Path

from tests.page.conftest import Service, Visit, drop, names


def test_a_new_user_drops_crops_filters_asks_for_more_and_reviews_duplicates(
    visit: Visit, service: Service, tmp_path: Path
) -> None:
    page = visit.open()
    page.get_by_text("72 pictures").first.wait_for()

    query = service.folder / "parts" / "test" / "bolt" / "bolt_000.jpg"
    drop(page, query)
    page.get_by_role("grid", name="Matches").wait_for()
    page.locator(".grid .name", has_text="bolt_000.jpg").first.wait_for()
    assert "bolt_" in names(page)[1]

    area = page.locator(".crop").bounding_box()
    page.mouse.move(area["x"] + 10, area["y"] + 10)
    page.mouse.down()
    page.mouse.move(area["x"] + 80, area["y"] + 80, steps=3)
    page.mouse.up()
    page.wait_for_url("**box=*")
    page.get_by_role("button", name="Whole picture").wait_for()

    page.get_by_role("combobox", name="Filter").fill("label = 'nut'")
    page.keyboard.press("Enter")
    page.wait_for_function(
        "() => [...document.querySelectorAll('.grid .facts')].length > 0 && "
        "[...document.querySelectorAll('.grid .facts')].every(f => f.textContent.includes('nut'))"
    )

    card = page.locator(".card").nth(1)
    asked = card.locator(".name").inner_text()
    card.hover()
    card.get_by_role("button", name="More like").click()
    page.wait_for_url("**like=id.*")
    page.wait_for_function(
        "name => document.querySelector('.grid .name')?.textContent !== name", arg=asked
    )
    assert asked not in names(page)[:1]

    page.get_by_role("link", name="Duplicates").click()
    page.get_by_text("Nothing is deleted").wait_for()
    with page.expect_download() as download:
        page.get_by_role("button", name="List of the others").click()
    download.value.save_as(tmp_path / "others.txt")
    others = (tmp_path / "others.txt").read_text().splitlines()
    assert len(others) >= 2
    assert all(Path(other).is_file() for other in others)

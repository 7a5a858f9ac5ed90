"""One picture large, and many at once."""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Callable
from pathlib import Path

from tests.page.conftest import HOSTILE, Visit, names


def test_a_picture_is_shown_large_with_its_facts_and_neighbours(
    visits: Callable[..., Visit],
) -> None:
    visit = visits(permissions=["clipboard-read", "clipboard-write"])
    page = visit.open()
    card = page.locator(".card").first
    name = card.locator(".name").inner_text()
    card.hover()
    card.get_by_role("button", name="large").click()
    dialog = page.get_by_role("dialog", name=name)
    dialog.get_by_role("cell", name="JPEG").wait_for()
    dialog.locator(".neighbours button").nth(3).wait_for()
    dialog.get_by_role("button", name="Copy path").click()
    dialog.get_by_text("Copied").wait_for()
    path = page.evaluate("navigator.clipboard.readText()")
    assert Path(path).is_file()
    assert Path(path).name == name
    stage = dialog.get_by_role("application")
    stage.focus()
    page.keyboard.press("+")
    assert "scale(1.4)" in stage.locator("img").get_attribute("style")
    page.keyboard.press("0")
    page.keyboard.press("Escape")
    dialog.wait_for(state="detached")
    page.wait_for_url(lambda address: "open=" not in address)


def test_the_large_view_steps_through_the_matches(visit: Visit) -> None:
    page = visit.open("#gallery=plain&order=path")
    page.locator(".card").first.hover()
    page.locator(".card").first.get_by_role("button", name="large").click()
    page.get_by_role("dialog", name="00.jpg").wait_for()
    page.get_by_role("button", name="Next").click()
    page.get_by_role("dialog", name="03.jpg").wait_for()
    page.get_by_role("button", name="Close").focus()
    page.keyboard.press("ArrowLeft")
    page.get_by_role("dialog", name="00.jpg").wait_for()


def test_a_label_is_set_in_the_large_view(visit: Visit) -> None:
    page = visit.open("#gallery=plain&order=path")
    page.locator(".card").nth(1).hover()
    page.locator(".card").nth(1).get_by_role("button", name="large").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("combobox", name="Label").fill("seen")
    dialog.get_by_role("button", name="Save").click()
    dialog.get_by_text("Saved").wait_for()
    page.keyboard.press("Escape")
    page.locator(".card", has_text="seen").first.wait_for()
    dialog = page.get_by_role("dialog")
    page.locator(".card").nth(1).hover()
    page.locator(".card").nth(1).get_by_role("button", name="large").click()
    dialog.get_by_role("combobox", name="Label").fill("class0")
    dialog.get_by_role("button", name="Save").click()
    dialog.get_by_text("Saved").wait_for()


def test_a_selection_becomes_a_table_paths_labels_and_a_zip(
    visits: Callable[..., Visit], tmp_path: Path
) -> None:
    page = visits(permissions=["clipboard-read", "clipboard-write"]).open()
    page.get_by_role("combobox", name="Filter").fill("path LIKE '%/test/nut/%'")
    page.keyboard.press("Enter")
    page.get_by_text("4 pictures", exact=True).wait_for()
    page.locator(".pick").first.check()
    page.locator(".pick").nth(3).click(modifiers=["Shift"])
    region = page.get_by_role("region", name="Selection")
    region.get_by_text("4 selected").wait_for()
    shown = names(page)
    with page.expect_download() as download:
        region.get_by_role("button", name="CSV").click()
    download.value.save_as(tmp_path / "matches.csv")
    with (tmp_path / "matches.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [Path(row["path"]).name for row in rows] == shown
    assert HOSTILE in shown
    assert {row["label"] for row in rows} == {"nut"}
    region.get_by_role("button", name="Copy paths").click()
    region.get_by_text("Paths copied").wait_for()
    paths = page.evaluate("navigator.clipboard.readText()").splitlines()
    assert all(Path(path).is_file() for path in paths)
    with page.expect_download() as download:
        region.get_by_role("button", name="Zip").click()
    download.value.save_as(tmp_path / "pictures.zip")
    with zipfile.ZipFile(tmp_path / "pictures.zip") as archive:
        assert archive.testzip() is None
        sizes = sorted(info.file_size for info in archive.infolist())
    assert sizes == sorted(Path(path).stat().st_size for path in paths)
    region.get_by_role("button", name="Set label").click()
    region.get_by_label("Label").fill("nut")
    region.get_by_role("button", name="Set", exact=True).click()
    region.get_by_text("4 labelled").wait_for()

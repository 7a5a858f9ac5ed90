"""What holds on every view: keys, names for screen readers, widths, no network, small."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.page.conftest import HOSTILE, Visit, names

FILES = ROOT / "imgret" / "server" / "pages"
VIEWS = {
    "gallery": "", "matches": "#like=id.0", "large": "#gallery=plain&open=0",
    "duplicates": "#view=duplicates", "evaluation": "#view=evaluation", "classes": "#view=classes",
}  # fmt: skip


def first_id(page: Any, gallery: str = "parts") -> int:
    script = "name => fetch('/v1/images?limit=1&gallery=' + name).then(a => a.json())"
    return int(page.evaluate(script, gallery)["images"][0]["id"])


@pytest.mark.long
@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light"), (2560, "dark")])
def test_axe_finds_nothing_serious(
    visits: Callable[..., Visit], view: str, width: int, scheme: str
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe")
    visit = visits(width=width, scheme=scheme)
    page = visit.open()
    fragment = VIEWS[view].replace("id.0", f"id.{first_id(page)}")
    page = visit.open(fragment.replace("open=0", f"open={first_id(page, 'plain')}"))
    if view == "evaluation":
        page.locator(".failed .card").first.wait_for(timeout=60_000)
    page.wait_for_timeout(1200)
    found = axe.Axe().run(page).response["violations"]
    serious = [each for each in found if each["impact"] in ("serious", "critical")]
    assert [(each["id"], each["nodes"][0]["html"]) for each in serious] == []
    across = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert across <= 0, "the page scrolls sideways"


def test_the_grid_is_walked_by_keys(visit: Visit) -> None:
    page = visit.open("#gallery=plain&order=path")
    page.locator(".card").first.focus()
    for key in ("ArrowRight", "ArrowDown", "ArrowLeft", "End", "Home"):
        page.keyboard.press(key)
    assert page.evaluate("document.activeElement.dataset.index") == "0"
    page.keyboard.press("End")
    assert page.evaluate("document.activeElement.dataset.index") == "23"
    page.keyboard.press("Space")
    page.get_by_text("1 selected").wait_for()
    page.keyboard.press("o")
    page.get_by_role("dialog").wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="detached")
    assert page.evaluate("document.activeElement.dataset.index") == "23"
    page.keyboard.press("Enter")
    page.get_by_role("grid", name="Matches").wait_for()


def test_a_hostile_name_is_text(visit: Visit) -> None:
    page = visit.open("#where=path+LIKE+%27%25onerror%25%27")
    page.locator(".grid .name").first.wait_for()
    assert names(page) == [HOSTILE]
    assert page.title() == "imgret"


def test_nothing_is_asked_of_another_host(visit: Visit) -> None:
    asked: list[str] = []
    visit.page.on("request", lambda request: asked.append(request.url))
    page = visit.open()
    page.locator(".card img").first.wait_for()
    allowed = (visit.address, "blob:", "about:")
    assert [url for url in asked if not url.startswith(allowed)] == []


def test_the_page_is_small_and_names_no_other_place() -> None:
    assert (FILES / "page.js").stat().st_size < 100_000
    html = (FILES / "index.html").read_text(encoding="utf-8")
    assert "http" not in html
    assert "style=" not in html


@pytest.mark.long
def test_ten_thousand_pictures_scroll_to_the_end_without_jumps(visit: Visit) -> None:
    """The service's answers are made up here, since a gallery of 10,000 takes minutes."""

    def answer(route: Any) -> None:
        url = route.request.url
        start = int(url.partition("cursor=")[2].partition("&")[0] or 0)
        limit = int(url.partition("limit=")[2].partition("&")[0])
        images = [
            {
                "id": n, "path": f"/x/{n % 97}/{'long_name_' * (n % 7)}{n}.jpg", "label": None,
                "width": 4, "height": 3,
            }
            for n in range(start, min(10_000, start + limit))
        ]  # fmt: skip
        following = str(start + limit) if start + limit < 10_000 else None
        body = {"images": images, "total": 10_000, "next": following}
        route.fulfill(body=json.dumps(body), content_type="application/json")

    visit.page.route("**/v1/images?*", answer)
    client = visit.page.context.new_cdp_session(visit.page)
    client.send("Network.enable")
    client.send("Network.setBlockedURLs", {"urls": ["*/thumbnail*"]})
    page = visit.open()
    page.locator(".card").first.wait_for()
    slowest = page.evaluate(
        """async () => {
            let slowest = 0, before = performance.now(), still = 0, last = -1;
            while (still < 200) {
                scrollBy(0, 900);
                await new Promise(requestAnimationFrame);
                const now = performance.now();
                slowest = Math.max(slowest, now - before);
                before = now;
                still = scrollY === last ? still + 1 : 0;
                last = scrollY;
            }
            return slowest;
        }"""
    )
    page.locator(".grid .name", has_text="9999.jpg").wait_for()
    assert page.locator(".card").count() < 300
    assert slowest < 1000  # a machine that is busy may take longer than the 50 ms seen here
    overlaps = page.evaluate(
        """() => {
            const rows = [...document.querySelectorAll('.cards')].map(row => [
                row.getBoundingClientRect().top,
                Math.max(...[...row.children].map(card => card.getBoundingClientRect().bottom)),
            ]).sort((a, b) => a[0] - b[0]);
            return rows.slice(1).filter((row, n) => row[0] < rows[n][1] + 8).length;
        }"""
    )
    assert overlaps == 0

"""What a new user does on the first day: three commands, and the page that the last one opens."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.page.conftest import WAIT, drop, names
from tests.samples import command_environment, command_line

OPENED_IN, ENDED_IN = 180.0, 60.0  # seconds


@pytest.fixture
def home(tmp_path: Path, cache: Path) -> Path:
    """A folder with sample pictures, a copy of one, and their gallery, made by the commands."""
    run(tmp_path, cache, "sample", "parts", "--train", 12, "--test", 2, "--size", 96)
    nut = tmp_path / "parts" / "test" / "nut"
    shutil.copy(nut / "nut_000.jpg", nut / "copy of nut_000.jpg")
    run(tmp_path, cache, "index", "parts")
    return tmp_path


def run(folder: Path, cache: Path, *arguments: object) -> None:
    done = subprocess.run(
        command_line(*arguments), cwd=folder, env=command_environment(cache),
        capture_output=True, text=True, timeout=OPENED_IN,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@contextlib.contextmanager
def opening(home: Path, cache: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`imgret serve --open` as a process, and the address that it gives to the user's browser."""
    browser, opened = home / "browser", home / "opened"
    browser.write_text(f'#!/bin/sh\necho "$1" > "{opened}.part" && mv "{opened}.part" "{opened}"\n')
    browser.chmod(0o755)
    environment = command_environment(cache) | {"BROWSER": str(browser), "OMP_NUM_THREADS": "1"}
    with (home / "log").open("w") as log, subprocess.Popen(
        command_line("serve", "--open", "--port", 0), cwd=home, env=environment,
        stdout=log, stderr=log, text=True,
    ) as process:  # fmt: skip
        try:
            until = time.monotonic() + OPENED_IN
            while not opened.exists() and time.monotonic() < until and process.poll() is None:
                time.sleep(0.05)
            assert opened.exists(), (home / "log").read_text()
            yield process, opened.read_text().strip()
        finally:
            process.kill()


@pytest.fixture
def tab(chromium: Any) -> Iterator[Any]:
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(WAIT)
    yield context.new_page()
    context.close()


def test_a_new_user_samples_indexes_opens_the_page_and_ends_the_service(
    tab: Any, home: Path, cache: Path
) -> None:
    failures: list[str] = []
    tab.on("pageerror", lambda error: failures.append(str(error)))
    with opening(home, cache) as (process, address):
        tab.goto(address)
        tab.get_by_text("71 pictures", exact=True).first.wait_for()
        search_by_a_dropped_picture(tab, home / "parts" / "test" / "bolt" / "bolt_000.jpg")
        search_by_a_part_of_it(tab)
        leave_all_but_nuts(tab)
        ask_for_more_like_one(tab)
        review_duplicates(tab, home / "others.txt")
        process.send_signal(signal.SIGTERM)
        assert process.wait(ENDED_IN) == 0
    assert failures == []
    log = (home / "log").read_text()
    assert "Traceback" not in log
    assert " 500 " not in log


def search_by_a_dropped_picture(page: Any, query: Path) -> None:
    drop(page, query)
    page.get_by_role("grid", name="Matches").wait_for()
    page.locator(".grid .name", has_text=query.name).first.wait_for()
    assert "bolt_" in names(page)[1]


def search_by_a_part_of_it(page: Any) -> None:
    area = page.locator(".crop").bounding_box()
    page.mouse.move(area["x"] + 10, area["y"] + 10)
    page.mouse.down()
    page.mouse.move(area["x"] + 80, area["y"] + 80, steps=3)
    page.mouse.up()
    page.wait_for_url("**box=*")
    page.get_by_role("button", name="Whole picture").wait_for()


def leave_all_but_nuts(page: Any) -> None:
    page.get_by_role("combobox", name="Filter").fill("label = 'nut'")
    page.keyboard.press("Enter")
    page.wait_for_function(
        "() => [...document.querySelectorAll('.grid .facts')].length > 0 && "
        "[...document.querySelectorAll('.grid .facts')].every(f => f.textContent.includes('nut'))"
    )


def ask_for_more_like_one(page: Any) -> None:
    card = page.locator(".card").nth(1)
    asked = card.locator(".name").inner_text()
    card.hover()
    card.get_by_role("button", name="More like").click()
    page.wait_for_url("**like=id.*")
    page.wait_for_function(
        "name => document.querySelector('.grid .name')?.textContent !== name", arg=asked
    )
    assert asked not in names(page)[:1]


def review_duplicates(page: Any, list_of_others: Path) -> None:
    page.get_by_role("link", name="Duplicates").click()
    page.get_by_text("Nothing is deleted").wait_for()
    with page.expect_download() as download:
        page.get_by_role("button", name="List of the others").click()
    download.value.save_as(list_of_others)
    others = list_of_others.read_text().splitlines()
    assert len(others) >= 1
    assert all(Path(other).is_file() for other in others)

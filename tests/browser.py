"""Pages in a browser, and what a page may do by what stands in it."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

OPTIONS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-quic",
           "--disable-background-networking", "--disable-component-update", "--disable-sync",
           "--virtual-time-budget=5000", "--window-size=1200,800"]  # fmt: skip
FRAME = """<!doctype html>
<iframe src="{page}" style="border:0;width:{width}px;height:800px"></iframe>
<script>
const frame = document.querySelector("iframe"), root = () => frame.contentDocument.documentElement;
frame.onload = () => setTimeout(() => {{ document.title = "width " + root().scrollWidth; }}, 200);
</script>"""


def browser() -> str:
    found = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
    )
    if not found:
        pytest.skip("needs Chromium or Chrome to open the page")
    return found


def opened(page: Path, profile: Path, hash_: str = "") -> str:
    """The document after its script has run."""
    return _run(f"{page.as_uri()}{hash_}", profile).stdout


def seen(page: Path, folder: Path, width: int) -> tuple[int, list[str]]:
    """How wide a page is in a window of that width, and what it says on the console.

    In a frame, since no window of Chromium's is as narrow as a phone.
    """
    frame = folder / "frame.html"
    frame.write_text(FRAME.format(page=page.as_uri(), width=width), encoding="utf-8")
    done = _run(frame.as_uri(), folder / "profile", "--allow-file-access-from-files",
                "--hide-scrollbars", "--enable-logging=stderr", "--v=0")  # fmt: skip
    found = re.search(r"<title>width (\d+)<", done.stdout)
    assert found, done.stdout[-500:]
    return int(found[1]), [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def _run(address: str, profile: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [browser(), *OPTIONS, *more, f"--user-data-dir={profile}", "--dump-dom", address]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)


class Elements(HTMLParser):
    """The elements of a page in order, with their attributes and the text right within them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str], list[str]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {key: value or "" for key, value in attrs}, []))

    def handle_endtag(self, tag: str) -> None:
        self.found.append((f"/{tag}", {}, []))  # what follows is no text of the element

    def handle_data(self, data: str) -> None:
        if self.found:
            self.found[-1][2].append(data)

    def of(self, tag: str) -> list[tuple[dict[str, str], str]]:
        return [(attrs, "".join(text)) for name, attrs, text in self.found if name == tag]


def check_page(page: str) -> None:
    """Its policy is strict and fits its style and script; nothing in it is against the policy."""
    elements = Elements(page)
    policies = [a["content"] for a, _ in elements.of("meta") if "http-equiv" in a]
    assert len(policies) == 1
    rules = dict(rule.strip().split(" ", 1) for rule in policies[0].split(";"))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["img-src"] == "data:"
    assert "unsafe" not in policies[0]
    assert "http" not in policies[0]
    assert page.index("Content-Security-Policy") < page.index("<style")
    for tag in ("style", "script"):
        texts = [text for attrs, text in elements.of(tag) if "type" not in attrs]
        assert rules[f"{tag}-src"] == (" ".join(map(_hash, texts)) or "'none'")
    for tag, attrs, _ in elements.found:
        assert "style" not in attrs, (tag, attrs)
        assert not [key for key in attrs if key.startswith("on")], (tag, attrs)
        assert attrs.get("src", "data:").startswith("data:"), (tag, attrs)
    for attrs, _ in elements.of("a"):
        href = attrs.get("href", "")
        assert href.startswith("file:///") or not re.search(r"[:?]", href), href


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

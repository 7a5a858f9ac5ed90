"""The lines of the page on object stores, run against a store."""

from __future__ import annotations

import shlex

import pytest

from retrieval.objects import ObjectPath
from tests.conftest import Command
from tests.pages import DOCS, indented

PAGE = (DOCS / "guide" / "stores.md").read_text(encoding="utf-8")


@pytest.mark.long
def test_the_lines_of_the_page_run(bucket: ObjectPath, photos: ObjectPath, imgret: Command) -> None:
    above = PAGE.partition("## Shards")[0]  # what is below is run by test_shards.py
    lines = [line.strip() for line in above.splitlines() if line.startswith("    imgret ")]
    assert len(lines) == 4
    assert indented(PAGE)
    for line in lines:
        arguments = shlex.split(line.replace("s3://bucket", str(bucket)))[1:]
        done = imgret(*arguments)
        assert done.returncode == 0, (line, done.stderr)

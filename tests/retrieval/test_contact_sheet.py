"""A page of queries and their matches."""

from __future__ import annotations

import base64
import os
import re
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from retrieval.errors import ImgretError
from retrieval.report.contact_sheet import contact_sheet, write_contact_sheet
from retrieval.report.pages import THUMBNAIL
from retrieval.retriever import Match, QueryResult
from tests.samples import picture


def result(folder: Path, *, label: str | None = "cars", name: str = "match.jpg") -> QueryResult:
    picture(0, 800, 400).save(folder / "query.jpg")
    picture(1).save(folder / name)
    return QueryResult(folder / "query.jpg", (Match(folder / name, 0.87654, label, 1),))


def test_a_sheet_shows_scores_labels_and_paths(tmp_path: Path) -> None:
    page = contact_sheet([result(tmp_path)], title="Cars & more")
    for part in ("0.877", "cars", "match.jpg", "query.jpg", "Cars &amp; more"):
        assert part in page


def test_thumbnails_are_embedded_and_small(tmp_path: Path) -> None:
    found = re.findall(r'data:image/jpeg;base64,([^"]+)"', contact_sheet([result(tmp_path)]))
    sizes = [Image.open(BytesIO(base64.b64decode(data))).size for data in found]
    assert sizes == [(THUMBNAIL, THUMBNAIL // 2), (80, 60)]


def test_a_sheet_refers_to_nothing_outside_itself(tmp_path: Path) -> None:
    page = contact_sheet([result(tmp_path)])
    assert all(source.startswith("data:") for source in re.findall(r'src="([^"]*)', page))
    assert not re.search(r"https?:|url\(|@import|<script", page)


def test_names_and_labels_are_escaped(tmp_path: Path) -> None:
    name, label = "<b>x.jpg", '"><script>alert(1)</script>'
    page = contact_sheet([result(tmp_path, name=name, label=label)])
    assert "&lt;b&gt;x.jpg" in page
    assert "<b>x" not in page
    assert "<script" not in page


def test_a_match_that_is_gone_is_shown_as_gone(tmp_path: Path) -> None:
    shown = result(tmp_path)
    (tmp_path / "match.jpg").unlink()
    assert "file is gone" in contact_sheet([shown])


def test_no_matches_and_no_queries_make_a_page(tmp_path: Path) -> None:
    assert "nothing found" in contact_sheet([QueryResult(tmp_path / "query.jpg")])
    assert contact_sheet([]).rstrip().endswith("</html>")


def test_a_name_of_any_bytes_can_be_written(tmp_path: Path) -> None:
    query = QueryResult(tmp_path / os.fsdecode(b"odd\xff.jpg"))
    write_contact_sheet(tmp_path / "sheet.html", [query])
    assert "odd" in (tmp_path / "sheet.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("place", ["nowhere/sheet.html", "folder"])
def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path, place: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(ImgretError, match="cannot be written"):
        write_contact_sheet(tmp_path / place, [])
    assert [file.name for file in tmp_path.iterdir()] == ["folder"]

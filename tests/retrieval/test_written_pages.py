"""What all written pages have in common: policy, names, links, frames, room."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from retrieval.report import duplicate_sheet
from retrieval.report.cards import address, card, folded
from retrieval.report.comparison import comparison_page
from retrieval.report.contact_sheet import contact_sheet
from retrieval.report.evaluation import evaluation_page
from retrieval.report.map import map_page
from retrieval.report.svg import embedded_svg
from retrieval.retriever import (
    DuplicateGroup,
    DuplicateMember,
    DuplicateReport,
    Match,
    QueryResult,
    Retriever,
)
from retrieval.retriever.labels import known_labels
from retrieval.retriever.map import GalleryMap, Point
from tests.browser import Elements, browser, check_page, seen
from tests.retrieval.test_figures import HOSTILE, compared, evaluated
from tests.samples import picture

NAMES = [
    "javascript:alert(1).jpg",
    "<img src=x onerror=alert(1)>.jpg",
    "a?b#c%41&d.jpg",
    "\"'onload='x'.jpg",
    "a long name without any place to break it anywhere at all_" * 3 + ".jpg",
]
LABELS = [HOSTILE, "Chevrolet Silverado 1500 Hybrid Crew Cab 2012", "unbreakable" * 12, "b", "c"]


def files(folder: Path) -> list[Path]:
    found = [folder / "a folder: of <b>" / name for name in NAMES]
    found[0].parent.mkdir()
    for seed, file in enumerate(found):
        picture(seed).save(file)
    return found


def sheet(folder: Path) -> str:
    paths = files(folder)
    matches = [Match(p, 0.5, label, 1) for p, label in zip(paths, LABELS, strict=True)]
    labels = {paths[0]: LABELS[1]}
    return contact_sheet([QueryResult(paths[0], tuple(matches))], HOSTILE, None, labels, folder)


def duplicates(folder: Path) -> str:
    members = [
        DuplicateMember(file, 80, 60, 999, label, 0.9, tier, folder / HOSTILE[:9])
        for file, label, tier in zip(files(folder), LABELS, [None, *["copy"] * 4], strict=True)
    ]
    group = DuplicateGroup("copy", tuple(members))
    failures = (("a" * 400, HOSTILE),)
    report = DuplicateReport(folder, None, 9, (group,), failures=failures)
    return duplicate_sheet(report, HOSTILE, folder)


def drawn(folder: Path) -> str:
    points = [
        Point(file, label, n / 5, n % 2)
        for n, (file, label) in enumerate(zip(files(folder), LABELS, strict=True))
    ]
    return map_page(GalleryMap(folder / HOSTILE[:9], "tsne", 5, tuple(points)), beside=folder)


PAGES: dict[str, Callable[[Path], str]] = {
    "sheet": sheet,
    "duplicates": duplicates,
    "evaluation": lambda folder: evaluation_page(evaluated(folder, label=HOSTILE), folder),
    "comparison": lambda folder: comparison_page(compared(folder, 4, name=HOSTILE * 2), folder),
    "map": drawn,
}


@pytest.fixture(scope="module", params=PAGES)
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    file = folder / f"{request.param}.html"
    file.write_text(PAGES[request.param](folder), encoding="utf-8")
    return file


def test_a_page_has_a_strict_policy_and_keeps_it(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    check_page(text)
    assert "<img src=x" not in text


@pytest.mark.parametrize("width", [390, 1000])
def test_a_page_does_not_scroll_sideways_and_breaks_no_rule(page: Path, width: int) -> None:
    browser()
    across, said = seen(page, page.parent, width)
    assert across == width
    assert said == []


def test_the_name_stands_first_and_whole_and_the_folder_after_it_shortened(tmp_path: Path) -> None:
    (file, *_) = paths = files(tmp_path)
    page = contact_sheet([QueryResult(file, (Match(paths[4], 0.5, "a", 1),))])
    name, title = paths[4].name, str(paths[4]).replace("<", "&lt;").replace(">", "&gt;")
    assert f">{name}</a>" in page
    assert page.index(f">{name}</a>") < page.index(f'title="{title}"')
    shown = re.findall(r'<span class="folder".*?</span>.*?</span>', page)[1]
    kept = "".join(re.sub(r"<[^>]*>", "", shown).split())
    assert kept == "".join(str(file.parent).replace("<", "&lt;").replace(">", "&gt;").split())


def test_right_and_wrong_are_words_too(tmp_path: Path) -> None:
    page = sheet(tmp_path)
    roles = [a["class"] for a, _ in Elements(page).of("figure")]
    assert roles == ["card query", "card wrong", "card right", "card wrong", "card wrong",
                     "card wrong"]  # fmt: skip
    assert page.count('<span class="spoken">right</span>') == 1
    assert page.count('<span class="spoken">wrong</span>') == 4
    assert page.count('alt="wrong match"') == 4


def test_matches_of_a_query_without_a_label_are_not_judged(tmp_path: Path) -> None:
    (file, *_) = files(tmp_path)
    page = contact_sheet([QueryResult(file, (Match(file, 0.5, "a", 1),))])
    assert 'class="card"' in page
    assert "spoken" not in page.partition("</style>")[2]


def test_links_lead_to_the_files_whatever_their_names(tmp_path: Path) -> None:
    from urllib.parse import unquote, urljoin, urlsplit

    paths = [*files(tmp_path), tmp_path / os.fsdecode(b"odd\xff.jpg")]
    for file in paths:
        for beside in (None, tmp_path, tmp_path / "elsewhere"):
            base = (tmp_path / "page.html").as_uri()
            parts = urlsplit(urljoin(base, address(file, beside)))
            assert (parts.scheme, parts.query, parts.fragment) == ("file", "", "")
            assert unquote(parts.path, errors="surrogateescape") == str(file)
    assert address(paths[0], tmp_path).startswith("a%20folder")


def test_what_is_gone_or_has_no_name_is_no_link(tmp_path: Path) -> None:
    assert card(tmp_path / "gone.jpg", None).href == ""
    picture(0).save(tmp_path / "1.jpg")
    assert card(tmp_path / "1.jpg", None).href
    unnamed = card(tmp_path / "1.jpg", None, name="standard input")
    assert (unnamed.href, unnamed.path, unnamed.name) == ("", "", "standard input")


@pytest.mark.parametrize("folder", ["/", "/a", "/home/me/" + "deep/" * 20 + "end", "/x" * 50])
def test_a_folder_is_cut_in_its_middle_alone(folder: str) -> None:
    start, middle, end = folded(Path(folder))
    assert start + middle + end == folder
    assert len(start) + len(end) <= 23
    assert bool(middle) == (len(folder) > 23)


def test_the_style_of_a_figure_becomes_attributes() -> None:
    text = (
        '<?xml?><svg width="1"><metadata>x</metadata><style>*{}</style><text style="font: bold '
        '7px \'A\', sans-serif; fill: #222222">style="a" &lt;</text>'
        '<path id="p" style="fill: url(#h); stroke: #767676"/></svg>'
    )
    assert embedded_svg(text, "x") == (
        '<svg fill="currentColor" stroke-linejoin="round" stroke-linecap="butt" width="1"><text '
        'font-size="7px" font-family="&#x27;A&#x27;, sans-serif" font-weight="bold" '
        'fill="currentColor">style="a" &lt;</text>'
        '<path id="x-p" fill="url(#x-h)" stroke="var(--soft)"/></svg>'
    )


def test_labels_of_queries_are_known_by_row_or_by_folder(
    pictures: Path, weights: Path, tmp_path: Path
) -> None:
    retriever = Retriever(tmp_path / "g", backbone=str(weights))
    retriever.index(pictures)
    inside = next(pictures.rglob("*.jpg"))
    outside = tmp_path / "queries" / inside.parent.name / "new.jpg"
    stranger = tmp_path / "holiday" / "new.jpg"
    known = known_labels(retriever.gallery, [inside, outside, stranger])
    assert known == {inside: inside.parent.name, outside: inside.parent.name}
    assert known_labels(retriever.gallery, []) == {}
    unlabelled = Retriever(tmp_path / "n", backbone=str(weights))
    unlabelled.index(pictures, labels="none")
    assert known_labels(unlabelled.gallery, [inside, outside]) == {}

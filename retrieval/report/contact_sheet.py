"""Contact sheets: queries and their matches as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from retrieval.report.cards import Card, card, judged
from retrieval.report.pages import embedded_thumbnail, render_page, write_page
from retrieval.retriever import Match, QueryResult


def contact_sheet(
    results: Sequence[QueryResult],
    title: str = "Matches",
    names: Mapping[Path, Path] | None = None,
    labels: Mapping[Path, str] | None = None,
    beside: Path | None = None,
) -> str:
    """Make an HTML page of queries, each beside its matches with name, folder, score and label.

    Thumbnails are embedded, so the page needs no other file. Images that cannot be read any more
    are shown as gone; matches outside of a stranger's gallery are left out. names: what to call
    queries whose file has a name that says nothing. labels: of queries, where they are known; their
    matches are framed as right or wrong. beside: the folder of the page, for its links.
    """
    names, labels = names or {}, labels or {}
    rows = []
    for result in results:
        wanted, named = labels.get(result.query), names.get(result.query)
        rows.append({
            "query": card(
                result.query, embedded_thumbnail(result.query), beside=beside, role="query",
                facts=[wanted or ""], name=None if named is None else str(named),
            ),
            "matches": [_match(m, wanted, beside) for m in result.matches if not m.outside],
        })  # fmt: skip
    return render_page("contact_sheet.html.jinja", title=title, rows=rows, judged=bool(labels))


def write_contact_sheet(
    file: Path,
    results: Sequence[QueryResult],
    title: str = "Matches",
    names: Mapping[Path, Path] | None = None,
    labels: Mapping[Path, str] | None = None,
) -> None:
    """Write contact_sheet() to a file, atomically. Raises WriteError when that fails."""
    write_page(file, contact_sheet(results, title, names, labels, file.parent))


def _match(match: Match, wanted: str | None, beside: Path | None) -> Card:
    return card(
        match.path, embedded_thumbnail(match.path), beside=beside,
        role=judged(match.label, wanted),
        facts=[
            f"{match.score:.3f}",
            "" if match.probability is None else f"probability {match.probability:.2f}",
            match.label or "",
            f"({match.copies} copies)" if match.copies > 1 else "",
        ],
    )  # fmt: skip

"""Contact sheets: queries and their matches as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from retrieval.report.pages import embedded_thumbnail, render_page, write_page
from retrieval.retriever import QueryResult


def contact_sheet(
    results: Sequence[QueryResult],
    title: str = "Matches",
    names: Mapping[Path, Path] | None = None,
) -> str:
    """An HTML page of queries, each beside its matches with score, label and path.

    Thumbnails are embedded, so the page needs no other file. Images that cannot be read any more
    are shown as gone; matches outside of a stranger's gallery are left out. names: what to call
    queries whose file has a name that says nothing.
    """
    rows = [
        {
            "name": str((names or {}).get(result.query, result.query)),
            "thumbnail": embedded_thumbnail(result.query),
            "matches": [
                vars(m) | {"thumbnail": embedded_thumbnail(m.path), "missing": m.missing}
                for m in result.matches
                if not m.outside
            ],
        }
        for result in results
    ]
    return render_page("contact_sheet.html.jinja", title=title, rows=rows)


def write_contact_sheet(
    file: Path,
    results: Sequence[QueryResult],
    title: str = "Matches",
    names: Mapping[Path, Path] | None = None,
) -> None:
    """Write contact_sheet() to a file, atomically. Raises WriteError when that fails."""
    write_page(file, contact_sheet(results, title, names))

"""Contact sheets: queries and their matches as one self-contained HTML page."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from retrieval.errors import ImageError, ImgretError
from retrieval.gallery.folder import write_atomically
from retrieval.images import thumbnail
from retrieval.retriever import QueryResult

THUMBNAIL = 256  # longest side, pixels


def contact_sheet(results: Sequence[QueryResult], title: str = "Matches") -> str:
    """An HTML page of queries, each beside its matches with score, label and path.

    Thumbnails are embedded, so the page needs no other file. Images that cannot be read any more
    are shown as gone.
    """
    environment = Environment(
        loader=PackageLoader("retrieval"), autoescape=True, undefined=StrictUndefined
    )
    rows = [
        {
            "name": str(result.query),
            "thumbnail": _embedded(result.query),
            "matches": [vars(m) | {"thumbnail": _embedded(m.path)} for m in result.matches],
        }
        for result in results
    ]
    page: Any = environment.get_template("contact_sheet.html.jinja")
    return str(page.render(title=title, rows=rows))


def write_contact_sheet(file: Path, results: Sequence[QueryResult], title: str = "Matches") -> None:
    """Write contact_sheet() to a file, atomically. Raises ImgretError when that fails."""
    try:
        page = contact_sheet(results, title)
        write_atomically(file, page.encode(errors="backslashreplace"))  # names may be any bytes
    except OSError as error:
        raise ImgretError(f"{file} cannot be written ({error.strerror}).") from error


def _embedded(path: Path) -> str | None:
    try:
        picture = thumbnail(path, THUMBNAIL)
    except ImageError:
        return None
    stream = BytesIO()
    picture.save(stream, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()

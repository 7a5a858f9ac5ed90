"""What every page is made with: templates, embedded thumbnails, an atomic write."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from retrieval.errors import ImageError
from retrieval.files import write_atomically
from retrieval.images import thumbnail
from retrieval.report.policy import policy
from retrieval.text import counted, unwritable, visible
from retrieval.threads import default_workers, map_ahead

THUMBNAIL, QUALITY = 256, 82  # longest side in pixels, of a JPEG


def render_page(template: str, package: str = "retrieval", /, **values: Any) -> str:
    """Render a template of a package, or else of retrieval; all values are escaped.

    What is hidden in a name, such as a mark that turns the text after it around, is written out.
    A template names its styles and scripts; page.html.jinja puts them in, and allows nothing else.
    """

    def source(*files: str) -> Markup:
        """Return files of the templates as they are."""
        found = [places.get_source(environment, file)[0] for file in files]
        return Markup("\n".join(found))  # noqa: S704  our own files

    places = ChoiceLoader([PackageLoader(name) for name in dict.fromkeys([package, "retrieval"])])
    environment = Environment(
        loader=places, autoescape=True, undefined=StrictUndefined, finalize=_finished
    )
    environment.globals |= {"counted": counted, "policy": policy, "source": source}
    page: Any = environment.get_template(template)
    return str(page.render(**values))


def write_page(file: Path, page: str) -> None:
    """Write a page to a file, atomically. Raises WriteError when that fails."""
    try:
        write_atomically(file, page.encode(errors="backslashreplace"))  # names may be any bytes
    except OSError as error:
        raise unwritable(file, error) from error


def _finished(value: Any) -> Any:
    return (
        visible(value) if isinstance(value, str | Path) and not isinstance(value, Markup) else value
    )


def embedded_thumbnail(path: Path, side: int = THUMBNAIL, quality: int = QUALITY) -> str | None:
    """Embed a thumbnail of at most `side` pixels; None if the image is gone."""
    try:
        return embedded(thumbnail(path, side), quality)
    except ImageError:
        return None


def embedded(picture: Image.Image, quality: int = QUALITY) -> str:
    """Encode a picture as a data: URI of a JPEG of that quality."""
    stream = BytesIO()
    picture.save(stream, "JPEG", quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()


def thumbnails(paths: Iterable[Path], side: int = THUMBNAIL) -> dict[Path, str | None]:
    """embedded_thumbnail() of each path, made in threads."""
    wanted = list(paths)
    made = map_ahead(
        lambda p: embedded_thumbnail(p, side),
        wanted,
        late=lambda _: None,
        workers=default_workers(),
    )
    return dict(zip(wanted, made, strict=True))

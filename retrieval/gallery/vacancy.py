"""Whether a folder may become a gallery."""

from __future__ import annotations

import re

from retrieval.errors import GalleryError
from retrieval.gallery.folder import STAGING, Gallery
from retrieval.gallery.plans import PLANS

_OURS = re.compile(
    r"images\.lance|gallery\.toml|copies|lock(-holder|-progress)?|writer\.json|index-.*|"
    rf"{STAGING}|{PLANS}|\..*"
)


def check_vacant(gallery: Gallery) -> None:
    """Raise GalleryError if its folder is no gallery and holds what is not of one.

    A first run that was killed leaves some of what is of one, and hidden files are of whoever.
    """
    if gallery.exists() or not gallery.path.is_dir():
        return
    names = (path.name for path in sorted(gallery.path.iterdir()))
    other = next((name for name in names if not _OURS.fullmatch(name)), None)
    if other is not None:
        raise GalleryError(
            f"{gallery.path} is not a gallery and holds other files, such as {other}. Name a new "
            "folder with --gallery."
        )

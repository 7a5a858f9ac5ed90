"""What can go wrong, as a small tree.

    ImgretError            anything imgret says in one sentence instead of a traceback
    ├── ImageError         one image cannot be used: the message is the reason, without the path
    ├── BackboneError      a network or its weights cannot be had, or do not fit
    ├── GalleryError       a gallery is missing, locked, of another format, or damaged
    ├── QueryError         what is searched by, or how, is no query
    │   └── FilterError    a filter cannot be read: where it is wrong, and which columns there are
    └── RecipeError        a recipe cannot be read, or has a key or value that is none

Library code raises these; only the command line prints them and exits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


class ImgretError(Exception):
    """Says what is wrong and what to do, for a person to read."""


class ImageError(ImgretError):
    """One image cannot be used; the message is the reason."""


class BackboneError(ImgretError):
    """A backbone or its weights cannot be loaded, exported or run."""


class GalleryError(ImgretError):
    """A gallery is missing, locked, damaged, or was made otherwise."""


class QueryError(ImgretError):
    """What is searched by, or how it is to be searched, cannot be used."""


class FilterError(QueryError):
    """A filter cannot be read, or not be said in the language that is asked for."""


class RecipeError(ImgretError):
    """A recipe cannot be read, or a key of it is wrong."""


def first_fault(error: ValidationError) -> tuple[str, str]:
    """The first key that pydantic found wrong, and what it says of it."""
    first = error.errors()[0]
    return ".".join(str(part) for part in first["loc"]), first["msg"]

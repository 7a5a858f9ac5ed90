"""What can go wrong, as a small tree.

    ImgretError            the root: catch it to catch all of these; it is never raised itself
    ├── ArgumentError      an argument or option has a value that cannot be used
    │   └── QueryError     a query cannot be searched by
    │       └── FilterError    a filter cannot be read: where it is wrong, and which columns exist
    ├── BackboneError      a network or its weights cannot be loaded, or do not fit
    ├── DataError          folders of images, their labels or their splits do not serve the purpose
    ├── GalleryError       a gallery is missing, locked, of another format, or damaged
    │   ├── GalleryChangedError    another command rewrote it while it was read
    │   └── GalleryEmptyError      it holds no image yet, so there is nothing to search
    ├── ImageError         one image cannot be used, and why
    ├── ProcessError       a process that works for this one has ended
    ├── RecipeError        a recipe cannot be read, or has a wrong key or value
    ├── RunError           a run of `imgret train` cannot be read, resumed or used
    ├── ServerError        a server that holds a published gallery cannot be reached, or refuses
    └── WriteError         a file or a stream cannot be written
        └── GalleryWriteError    the same of a gallery, so it is a GalleryError too

Library code raises these; only the command line prints them, and exits with their exit_code.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails


class ImgretError(Exception):
    """The root of imgret's errors; its message says what is wrong and what to do."""

    exit_code: ClassVar[int] = 2
    """What a command exits with; 1 is for a command that worked and found nothing."""


class ArgumentError(ImgretError):
    """An argument or an option has a value that cannot be used."""


class QueryError(ArgumentError):
    """A query cannot be searched by."""


class FilterError(QueryError):
    """A filter cannot be read, or cannot be said in the requested language."""


class BackboneError(ImgretError):
    """A backbone or its weights cannot be loaded, exported or run."""


class DataError(ImgretError):
    """Folders of images, their labels or their splits are missing, unreadable or too few."""


class GalleryError(ImgretError):
    """A gallery is missing, locked or damaged, or was made with other settings."""


class GalleryChangedError(GalleryError):
    """A gallery was rewritten by another command, which took away what was being read."""


class GalleryEmptyError(GalleryError):
    """A gallery holds no embedded image, so there is nothing to search."""


class ImageError(ImgretError):
    """One image cannot be used, and why; a search puts the path before the reason."""


class ProcessError(ImgretError):
    """A process that works for this one has ended."""


class RecipeError(ImgretError):
    """A recipe cannot be read, or a key of it is wrong."""


class RunError(ImgretError):
    """A run of `imgret train` cannot be read, resumed or used."""


class ServerError(ImgretError):
    """A server that holds a published gallery cannot be reached, or refuses."""


class WriteError(ImgretError):
    """A file or a stream cannot be written."""


class GalleryWriteError(GalleryError, WriteError):
    """A gallery cannot be written."""


_TAKES = {  # by the type of pydantic's error; {} stands for what it names
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_parsing": "a number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "string_type": "text",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
    "greater_than": "more than {gt}",
    "greater_than_equal": "{ge} or more",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "literal_error": "{expected}",
    "too_short": "{min_length} or more values",
    "too_long": "at most {max_length} values",
    "string_too_short": "text of {min_length} or more characters",
    "string_too_long": "text of at most {max_length} characters",
}
_LONGEST_VALUE = 80  # characters


_BRANCH = re.compile(r"(literal|dict|tuple|list|constrained|function)[-\[].*|int|float|str")


def first_fault(error: ValidationError) -> tuple[str, str]:
    """Return the first key that pydantic found wrong, and what is wrong, without a full stop.

    For a key that takes several kinds of values, that is the kind that fits best, or all of them.
    """
    errors = error.errors()
    first = errors[0]
    branch = next((n for n, part in enumerate(first["loc"]) if _is_branch(part)), None)
    if branch is None:
        return _dotted(first["loc"]), _fault(first, _takes(first))
    kinds = [e for e in errors if e["loc"][:branch] == first["loc"][:branch]]
    deepest = max(kinds, key=lambda e: len(e["loc"]))
    if len(deepest["loc"]) > branch + 1:  # its parts were looked at
        return _dotted(deepest["loc"]), _fault(deepest, _takes(deepest))
    takes = " or ".join(filter(None, map(_takes, kinds)))
    return _dotted(first["loc"]), _fault(first, takes)


def _is_branch(part: int | str) -> bool:
    """Tell whether a part of a place is pydantic's word for one of several kinds of a value."""
    return isinstance(part, str) and _BRANCH.fullmatch(part) is not None


def _dotted(place: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in place if not _is_branch(part))


def _takes(error: ErrorDetails) -> str:
    """What is taken in place of what was given; "" where pydantic's own words say it."""
    return _TAKES.get(error["type"], "").format(**error.get("ctx", {}))


def _fault(error: ErrorDetails, takes: str) -> str:
    if error["type"] == "extra_forbidden":
        return "there is no such key"
    if error["type"] == "missing":
        return "this key is missing"
    if not takes:
        return error["msg"].removeprefix("Value error, ").removesuffix(".")
    given = repr(error["input"])
    if len(given) > _LONGEST_VALUE:
        given = f"{given[:_LONGEST_VALUE]}..."
    return f"it takes {takes}, not {given}"

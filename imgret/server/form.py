"""The pictures and the values of a multipart request, within bounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import UploadFile
from starlette.requests import Request

from imgret.server.options import Limits
from imgret.server.problem import Problem

PICTURE = "picture"
MULTIPART = "multipart/form-data"
MOST_FIELDS, MOST_FIELD_BYTES = 64, 1 << 16


@dataclass(frozen=True)
class SentPicture:
    """A picture of a request. name: what the client calls it."""

    name: str
    content: bytes


async def read_form(
    request: Request, limits: Limits, several: Sequence[str] = ()
) -> tuple[list[SentPicture], dict[str, Any]]:
    """Read the pictures and the other fields. several: fields that may be given again.

    Raises Problem where there is no picture, or another kind of file.
    """
    if not is_multipart(request):
        raise Problem(
            415, f"The request is not {MULTIPART}. Send pictures with `curl --form picture=@FILE`."
        )
    form = request.form(
        max_files=limits.pictures, max_fields=MOST_FIELDS, max_part_size=MOST_FIELD_BYTES
    )
    pictures: list[SentPicture] = []
    fields: dict[str, Any] = {}
    async with form as parts:
        for key, value in parts.multi_items():
            if isinstance(value, UploadFile):
                if key != PICTURE:
                    raise Problem(422, f"A file was sent as {key!r}. Name it {PICTURE}.")
                pictures.append(SentPicture(value.filename or "", await value.read()))
            elif key == PICTURE:
                raise Problem(422, "picture is text. Send a file, as `--form picture=@FILE` does.")
            elif key in several:
                fields.setdefault(key, []).append(value)
            elif key in fields:
                raise Problem(422, f"{key} was given twice. Give it once.")
            else:
                fields[key] = value
    return pictures, fields


def is_multipart(request: Request) -> bool:
    """Tell whether a request says that it is multipart."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() == MULTIPART


def form_schema(*references: str, required: bool = True) -> dict[str, Any]:
    """Return what the OpenAPI document says of a form. references: schemas of its other fields."""
    file = {"type": "string", "contentMediaType": "application/octet-stream"}
    pictures = {
        "type": "object",
        "properties": {PICTURE: {"type": "array", "items": file, "minItems": 1, "maxItems": 16}},
    }
    if required:
        pictures["required"] = [PICTURE]
    parts: list[dict[str, Any]] = [{"$ref": f"#/components/schemas/{r}"} for r in references]
    return {"schema": {"allOf": [pictures, *parts]} if parts else pictures}

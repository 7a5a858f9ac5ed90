"""The pictures and the values of a multipart request, within bounds."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from python_multipart.multipart import parse_options_header
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from imgret.server.options import Limits
from imgret.server.problem import Problem

PICTURE = "picture"
MULTIPART = "multipart/form-data"
ENCODINGS = (b"utf-8", b"utf8", b"us-ascii")
MOST_FIELDS, MOST_FIELD_BYTES = 64, 1 << 16
SMALL_BODY, READ_AT_ONCE, HELD_SECONDS = 1 << 19, 4, 1.0  # bytes; large bodies


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
    _check_encoding(request)
    parser = MultiPartParser(
        request.headers, request.stream(), max_files=limits.pictures, max_fields=MOST_FIELDS,
        max_part_size=MOST_FIELD_BYTES,
    )  # fmt: skip
    parser.spool_max_size = limits.body  # a temporary file takes longer than all the rest
    try:
        async with in_turn(request):
            form = await parser.parse()
    except MultiPartException as error:
        raise Problem(400, f"The form cannot be read: {error.message.rstrip('.')}.") from error
    pictures: list[SentPicture] = []
    fields: dict[str, Any] = {}
    for key, value in form.multi_items():
        if isinstance(value, UploadFile):
            if key != PICTURE:
                raise Problem(422, f"A file was sent as {key!r}. Name it {PICTURE}.")
            pictures.append(SentPicture(value.filename or "", await value.read()))
            await value.close()
        elif key == PICTURE:
            raise Problem(422, "picture is text. Send a file, as `--form picture=@FILE` does.")
        elif key in several:
            fields.setdefault(key, []).append(value)
        elif key in fields:
            raise Problem(422, f"{key} was given twice. Give it once.")
        else:
            fields[key] = value
    return pictures, fields


@contextlib.asynccontextmanager
async def in_turn(request: Request) -> AsyncIterator[None]:
    """Read a large body while few others are read.

    Read all at once, none is complete until nearly all are, and the processors have nothing to
    do meanwhile. A place is held for HELD_SECONDS, so that a slow client keeps nobody waiting.
    """
    if _is_small(request):
        yield
        return
    places: asyncio.Semaphore = request.app.state.places
    await places.acquire()
    loop = asyncio.get_running_loop()
    held = loop.call_later(HELD_SECONDS, places.release)
    try:
        yield
    finally:
        if loop.time() < held.when():
            held.cancel()
            places.release()


def _check_encoding(request: Request) -> None:
    """Raise Problem for a form in another encoding: Python has some that take hours, or fail."""
    _, values = parse_options_header(request.headers["content-type"])
    if values.get(b"charset", ENCODINGS[0]).lower() not in ENCODINGS:
        raise Problem(415, "The form has another encoding than UTF-8. Send it without a charset.")


def _is_small(request: Request) -> bool:
    said = request.headers.get("content-length", "")
    return said.isdecimal() and int(said[:18]) <= SMALL_BODY


def is_multipart(request: Request) -> bool:
    """Tell whether a request says that it is multipart."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() == MULTIPART


def form_schema(model: type[BaseModel] | None = None, **texts: str) -> dict[str, Any]:
    """Return what the OpenAPI document says of a form. model: of its fields beside the pictures.

    texts: patterns of those that a form writes in another way than JSON; a list is given again.
    """
    file = {  # 3.1 has the second key; generators of clients read the first one
        "type": "string", "format": "binary", "contentMediaType": "application/octet-stream",
    }  # fmt: skip
    schema: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}
    if model is not None:
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schema.pop("$defs", None)
    fields = schema["properties"]
    for name, pattern in texts.items():
        text = {"type": "string", "pattern": f"^{pattern}$"}
        several = fields[name].get("type") == "array"
        fields[name] = {"type": "array", "items": text, "maxItems": 32} if several else text
    fields[PICTURE] = {"type": "array", "items": file, "minItems": 1, "maxItems": 16}
    schema["required"] = [PICTURE]
    return {"schema": schema}

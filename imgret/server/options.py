"""What the service is started with, and its limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from imgret.server.tokens import Tokens

LOOPBACK = ("127.0.0.1", "localhost", "::1")
LogFormat = Literal["text", "json"]


@dataclass(frozen=True)
class Limits:
    """What one request, one client and all together may cost.

    body: bytes of a request. json: of one in JSON, which takes longer to read. bodies: bytes of all
    requests that are being answered. pictures: in one request. pixels: of one picture.
    picture_seconds: of a processor, to decode one picture. waiting: requests that are answered at
    a time; one more is told to come again. connections: open ones. header_seconds, body_seconds:
    until a request's header, and the rest of it, is here. write_seconds: for which a client may
    read nothing of its answer. seconds: of a whole request. wrong_tokens: from one address in a
    minute.
    """

    body: int = 64 << 20
    json: int = 8 << 20
    bodies: int = 1 << 30
    pictures: int = 16
    pixels: int = 100_000_000
    picture_seconds: float = 10.0
    waiting: int = 128
    connections: int = 512
    header_seconds: float = 10.0
    body_seconds: float = 30.0
    write_seconds: float = 30.0
    seconds: float = 60.0
    wrong_tokens: int = 20


@dataclass(frozen=True)
class ServiceOptions:
    """What the service answers from, and to whom.

    galleries: their folders, or where they were published, by name; the first is meant where a
    request names none. trust: as in Retriever. model: the run of a classifier. host: the address to
    listen on. uploads: the folder that pictures are stored in. read_only: whether nothing may be
    written. allow_urls: whether pictures may be fetched from addresses. origins: other sites whose
    pages may ask. log_format: of a line a request. debug: whether each answer says how long it
    took.
    """

    galleries: Mapping[str, Path | str] = field(default_factory=dict)
    trust: bool = False
    model: Path | None = None
    host: str = LOOPBACK[0]
    tokens: Tokens = field(default_factory=Tokens)
    uploads: Path | None = None
    read_only: bool = False
    allow_urls: bool = False
    origins: tuple[str, ...] = ()
    log_format: LogFormat = "text"
    debug: bool = False
    limits: Limits = field(default_factory=Limits)

    @property
    def can_begin(self) -> bool:
        """Whether a gallery that is not there yet is made by the first picture that is sent."""
        return self.uploads is not None and not self.read_only

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the service."""
        return self.host in LOOPBACK

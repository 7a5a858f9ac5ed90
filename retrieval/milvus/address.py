"""The address of a published gallery, and who logs in there."""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

from retrieval.arguments import path_of
from retrieval.errors import ArgumentError

SCHEME = "milvus://"
MILVUS_PORT = 19530
TOKEN_NAME = "MILVUS_TOKEN"  # noqa: S105  of an environment variable
LIKE = "milvus://host:19530/photos"

_PART = r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?"  # of a host's name
_PLACE = re.compile(
    rf"(?P<host>(?=[^:]{{1,253}}(?::|$)){_PART}(?:\.{_PART})*|\[(?P<v6>[0-9A-Fa-f:.]{{2,45}})\])"
    r"(?::(?P<port>[0-9]{1,5}))?"
)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}")  # Milvus takes 255 characters


def is_served(text: object) -> bool:
    """Tell whether a text is the address of a published gallery.

    >>> is_served("milvus://host/photos"), is_served("photos")
    (True, False)
    """
    return isinstance(text, str) and text[: len(SCHEME)].lower() == SCHEME


@dataclass(frozen=True)
class ServedAddress:
    """Where a gallery is published. name: of the alias there. gallery: its own place, or None.

    >>> ServedAddress.parse("milvus://localhost/photos?gallery=my%20cars.imgret")
    ServedAddress(host='localhost', port=19530, name='photos', gallery='my cars.imgret')
    """

    host: str
    port: int
    name: str
    gallery: str | None = None

    @classmethod
    def parse(cls, text: str) -> ServedAddress:
        """Read an address. Raises ArgumentError, which repeats no password."""
        if not is_served(text):
            raise ArgumentError(f"The address does not begin with {SCHEME}. Write it like {LIKE}.")
        place, _, options = text[len(SCHEME) :].partition("?")
        if "@" in place:
            raise ArgumentError(
                f"An address holds no user and no password. Write it like {LIKE}, and set "
                f"{TOKEN_NAME} or add the host to ~/.netrc."
            )
        where, _, name = place.partition("/")
        found = _PLACE.fullmatch(where)
        port = int(found["port"] or MILVUS_PORT) if found else 0
        if not found or not 0 < port < 1 << 16 or not _is_v6(found["v6"] or "::"):
            raise ArgumentError(f"{where!r} is not a host and a port. Write it like {LIKE}.")
        if not _NAME.fullmatch(name):
            raise ArgumentError(
                f"{name!r} cannot be a name in Milvus. Use at most 200 letters, digits and _, with "
                "no digit first."
            )
        return cls(found["host"], port, name, _gallery_of(options))

    def __str__(self) -> str:
        """Write the address without the gallery."""
        return f"{SCHEME}{self.host}:{self.port}/{self.name}"

    def of(self, gallery: str) -> str:
        """Write the address with a gallery."""
        return f"{self}?gallery={quote(gallery, safe='/:', errors='surrogateescape')}"

    @property
    def token(self) -> str:
        """What logs in: MILVUS_TOKEN, or the user and password of ~/.netrc; "" for neither.

        Raises ArgumentError where ~/.netrc cannot be read.
        """
        if token := os.environ.get(TOKEN_NAME):
            return token
        import netrc

        file = Path.home() / ".netrc"
        try:
            known = netrc.netrc(file).hosts.get(self.host) if file.is_file() else None
        except (OSError, ValueError, netrc.NetrcParseError):
            raise ArgumentError(
                f"{file} cannot be read. Correct it, or set {TOKEN_NAME}."
            ) from None
        return f"{known[0]}:{known[2]}" if known else ""


def check_no_address(address: ServedAddress | None, gallery: Path) -> None:
    """Raise ArgumentError for what writes where a gallery is searched in a server."""
    if address is not None:
        raise ArgumentError(
            f"{address} is only searched. Name the gallery {gallery} instead, and run `imgret "
            "publish` afterwards."
        )


def _gallery_of(options: str) -> str | None:
    if not options:
        return None
    name, _, value = options.partition("=")
    if name != "gallery" or not value or "&" in value:
        raise ArgumentError(
            f"The address takes gallery=PATH after the question mark, and nothing else. Write it "
            f"like {LIKE}?gallery=photos.imgret, with %26 for &."
        )
    gallery = unquote(value, errors="surrogateescape")  # a path may be of any bytes
    path_of("gallery", gallery, stores=True)
    return gallery


def _is_v6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True

"""Who gets in: tokens that may read, and tokens that may write too."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import math
import re
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from retrieval.errors import ArgumentError
from retrieval.files import read_bounded
from retrieval.text import one_sentence

LEAST_CHARACTERS, MOST_TOKEN_BYTES = 16, 1 << 16
_LINE = re.compile(r"(read-only|read-write)[ \t]+(\S+)")
_TOKEN = re.compile(r"[!-~]+")

Right = Literal["read-only", "read-write"]
WINDOW_SECONDS, ADDRESSES_KNOWN, BITS_OF_A_HOST = 60.0, 10_000, 64


@dataclass(frozen=True)
class Tokens:
    """The tokens of a service, as their digests, each with what it allows; none lets all in."""

    rights: tuple[tuple[bytes, Right], ...] = ()

    @classmethod
    def of(cls, lines: Iterable[tuple[str, Right]]) -> Tokens:
        """Hold tokens. Raises ArgumentError for one that is too short or has other characters."""
        rights = []
        for token, right in lines:
            if len(token) < LEAST_CHARACTERS or not _TOKEN.fullmatch(token):
                raise ArgumentError(
                    f"A token is too short or has spaces or letters that are not ASCII. Use "
                    f"{LEAST_CHARACTERS} or more characters, such as those of `openssl rand "
                    "-hex 24`."
                )
            rights.append((_digest(token), right))
        return cls(tuple(rights))

    @classmethod
    def read(cls, file: Path) -> Tokens:
        """Read a file of lines such as `read-only TOKEN`. Raises ArgumentError."""
        try:
            text = read_bounded(file, MOST_TOKEN_BYTES).decode()
        except (OSError, ValueError) as error:
            raise ArgumentError(
                f"{file} cannot be read ({one_sentence(error)}). Give a text file with lines such "
                "as `read-only TOKEN`."
            ) from error
        found: list[tuple[str, Right]] = []
        for number, line in enumerate(text.splitlines(), start=1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            parts = _LINE.fullmatch(line.strip())
            if parts is None:
                raise ArgumentError(
                    f"Line {number} of {file} is not a token with its right. Write it like "
                    "`read-only TOKEN` or `read-write TOKEN`."
                )
            found.append((parts[2], "read-only" if parts[1] == "read-only" else "read-write"))
        if not found:
            raise ArgumentError(f"{file} holds no token. Add a line such as `read-write TOKEN`.")
        return cls.of(found)

    def __bool__(self) -> bool:
        return bool(self.rights)

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(self.rights + other.rights)

    def right_of(self, token: str) -> Right | None:
        """Return what a token allows; all are compared, each in constant time."""
        digest, found = _digest(token), None
        for known, right in self.rights:
            if hmac.compare_digest(known, digest):
                found = right
        return found


class WrongTokens:
    """Counts wrong tokens by address, so that nobody tries many. most: in a minute, of each."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._counts: OrderedDict[str, tuple[float, int]] = OrderedDict()  # since when, how many

    def wait(self, address: str) -> int:
        """Return the seconds until a token from an address is looked at again; 0: it is now."""
        since, count = self._known(_sender(address))
        left = since + WINDOW_SECONDS - time.monotonic()
        return max(1, math.ceil(left)) if count >= self._most else 0

    def note(self, address: str) -> None:
        """Count a wrong token."""
        sender = _sender(address)
        since, count = self._known(sender)
        self._counts[sender] = since, count + 1
        self._counts.move_to_end(sender)
        while len(self._counts) > ADDRESSES_KNOWN:
            self._counts.popitem(last=False)

    def _known(self, sender: str) -> tuple[float, int]:
        now = time.monotonic()
        since, count = self._counts.get(sender, (now, 0))
        return (since, count) if now - since < WINDOW_SECONDS else (now, 0)


def _sender(address: str) -> str:
    """Return who sends from an address: of IPv6 a whole network is one household's."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4:
        return address
    return str(ipaddress.ip_network((parsed, BITS_OF_A_HOST), strict=False))


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()

"""Fetch a picture from a public web address, within bounds of size and time.

Neither the address nor what it is redirected to may be this machine or one of its own network. The
name is looked up once, each answer is checked, and the connection goes to what was checked.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, HTTPException, HTTPResponse
from urllib.parse import urljoin, urlsplit

from retrieval.errors import ImageError
from retrieval.text import one_sentence

MOST_REDIRECTS = 5
DOWNLOAD_SECONDS = 15.0
PART_BYTES = 1 << 16
REDIRECTS = (301, 302, 303, 307, 308)
TRANSLATED = ipaddress.ip_network("64:ff9b::/96")  # NAT64: the last four bytes are of IPv4

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def download_picture(
    url: str, most: int, *, is_allowed: Callable[[Address], bool] | None = None
) -> bytes:
    """Return what a web address gives, at most so many bytes.

    is_allowed: tells whether an address may be connected to, by default whether it is public.
    Raises ImageError with the reason.
    """
    until = time.monotonic() + DOWNLOAD_SECONDS
    try:
        for _ in range(MOST_REDIRECTS + 1):
            with _answered(url, until, is_allowed or is_public) as answer:
                if answer.status in REDIRECTS:
                    url = urljoin(url, answer.headers.get("Location", ""))
                    continue
                if answer.status != 200:
                    raise ImageError(f"its address answers with status {answer.status}")
                return _content(answer, most)
    except (OSError, HTTPException, ValueError) as error:
        if time.monotonic() >= until:
            raise ImageError(f"its address took more than {DOWNLOAD_SECONDS:g} seconds") from error
        raise ImageError(f"its address cannot be read: {one_sentence(error)}") from error
    raise ImageError("its address is redirected too often")


def is_public(address: Address) -> bool:
    """Tell whether an address is one of the public internet, whatever it is written as."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in TRANSLATED:
            inner = ipaddress.IPv4Address(address.packed[-4:])
        if address.teredo is not None or address.is_site_local:
            return False
        if inner is not None:
            return is_public(inner)
    return address.is_global and not (
        address.is_multicast or address.is_reserved or address.is_loopback or address.is_link_local
    )


@contextlib.contextmanager
def _answered(
    url: str, until: float, is_allowed: Callable[[Address], bool]
) -> Iterator[HTTPResponse]:
    """Ask one address; the connection is cut when the time is over."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ImageError("its address begins with neither http:// nor https://")
    if parts.username is not None or parts.password is not None:
        raise ImageError("its address holds a name or a password")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    place = _checked_place(parts.hostname, port, is_allowed)
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    with socket.create_connection(place, timeout=left) as plain, contextlib.ExitStack() as held:
        cut = threading.Timer(left, _cut, [plain])
        cut.daemon = True
        cut.start()
        held.callback(cut.cancel)
        connection = HTTPConnection(parts.hostname, port)
        connection.sock = plain
        if parts.scheme == "https":
            context = ssl.create_default_context()
            connection.sock = held.enter_context(
                context.wrap_socket(plain, server_hostname=parts.hostname)
            )
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request(
            "GET", target, headers={"Accept": "image/*", "Accept-Encoding": "identity"}
        )
        yield connection.getresponse()


def _checked_place(host: str, port: int, is_allowed: Callable[[Address], bool]) -> tuple[str, int]:
    """Look a name up; all that it stands for has to be allowed."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [str(place[0]).partition("%")[0] for *_, place in found]
    for address in addresses:
        if not is_allowed(ipaddress.ip_address(address)):
            raise ImageError("its address is not one of the public internet")
    return addresses[0], port


def _content(answer: HTTPResponse, most: int) -> bytes:
    parts, left = [], most + 1
    while left > 0 and (part := answer.read(min(left, PART_BYTES))):
        parts.append(part)
        left -= len(part)
    if left <= 0:
        raise ImageError(f"its address gives more than {most:,} bytes")
    return b"".join(parts)


def _cut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)

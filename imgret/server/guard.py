"""The first to see a request: host, origin, token, size, time, and how many there are at once."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import re
import socket
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response

from imgret.server.options import LOOPBACK, ServiceOptions
from imgret.server.problem import Problem, problem_of
from imgret.server.tokens import WrongTokens
from imgret.server.traffic import UNKNOWN_ROUTE, Traffic

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

API = "/v1/"
OPEN = re.compile(r"/|/healthz|/readyz|/api|/api/docs|/page/[\w.-]+")
READS = (
    "/v1/search",
    "/v1/embed",
    "/v1/classify",
    "/v1/archive",
)  # although they are sent with POST
SAFE = ("GET", "HEAD", "OPTIONS")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SECURITY_HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}
LOOK_SECONDS, LINGER_SECONDS = 0.001, 0.3
HOST_NAME = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]]+)(?::\d{1,5})?")


class Guard:
    """Lets through to an app what may enter, and answers for the rest. traffic: what came."""

    def __init__(self, app: App, options: ServiceOptions, traffic: Traffic) -> None:
        self._app = app
        self._options = options
        self.traffic = traffic
        self._wrong = WrongTokens(options.limits.wrong_tokens)
        self._hosts = _hosts(options)
        self._running = 0
        self._bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, incoming = time.monotonic(), _Incoming(receive, self._options.limits)
        answer = _Answer(scope, send, incoming, self._options)
        try:
            await self._answer(scope, incoming, answer)
        except Exception as error:  # noqa: BLE001  a client is told of each as a problem
            if not answer.status:
                problem = incoming.problem or problem_of(error)
                await self._tell(problem, scope, incoming, answer)
        finally:
            route = getattr(scope.get("route"), "path", UNKNOWN_ROUTE)
            seconds = time.monotonic() - began
            self.traffic.tell(scope["method"], scope["path"], route, answer.status, seconds)
        await answer.linger()

    async def _answer(self, scope: Scope, incoming: _Incoming, answer: _Answer) -> None:
        headers = Headers(scope=scope)
        self._check_host(headers)
        origin = self._checked_origin(scope, headers)
        answer.origin = origin
        if scope["method"] == "OPTIONS" and origin and "access-control-request-method" in headers:
            await Response(status_code=204, headers=PREFLIGHT)(scope, incoming, answer)
            return
        self._check_token(scope, headers)
        expected = _length(headers, self._options.limits.body)
        if not scope["path"].startswith(API):
            await self._app(scope, incoming, answer)
            return
        with self._admitted(expected):
            async with asyncio.timeout(self._options.limits.seconds):
                await self._app(scope, incoming, answer)

    async def _tell(
        self, problem: Problem, scope: Scope, incoming: _Incoming, answer: _Answer
    ) -> None:
        await problem.response()(scope, incoming, answer)

    def _check_host(self, headers: Headers) -> None:
        """Refuse a name that is not ours: a page elsewhere may have made it lead here."""
        found = HOST_NAME.fullmatch(headers.get("host", ""))
        name = found[1].strip("[]").lower().rstrip(".") if found else ""
        if name in self._hosts or (not self._options.is_local and _is_address(name)):
            return
        raise Problem(421, "This service does not answer to that host. Use its own address.")

    def _checked_origin(self, scope: Scope, headers: Headers) -> str | None:
        """Return the origin of a page of another site that may ask, None for our own page's.

        A link that leads from elsewhere to our page is no such question.
        """
        origin = headers.get("origin")
        if origin is None:
            follows = headers.get("sec-fetch-mode") == "navigate" and OPEN.fullmatch(scope["path"])
            if headers.get("sec-fetch-site") in ("cross-site", "same-site") and not follows:
                raise Problem(403, "Pages of other sites may not ask. Start with --allow-origin.")
            return None
        if origin in self._options.origins:
            return origin
        host = headers.get("host", "").lower()
        if origin.lower() in (f"http://{host}", f"https://{host}"):
            return None
        raise Problem(403, "Pages of other sites may not ask. Start with --allow-origin.")

    def _check_token(self, scope: Scope, headers: Headers) -> None:
        method, path = scope["method"], scope["path"]
        writes = method not in SAFE and path not in READS
        if self._options.tokens and not (method in SAFE and OPEN.fullmatch(path)):
            scheme, _, token = headers.get("authorization", "").partition(" ")
            token, (address, *_) = token.strip(), scope.get("client") or ("",)
            if token and (seconds := self._wrong.wait(address)):
                self.traffic.refused.inc()
                raise Problem(
                    429, f"Too many wrong tokens came from this address. Wait {seconds} seconds.",
                    headers={"Retry-After": str(seconds)},
                )  # fmt: skip
            right = self._options.tokens.right_of(token)
            if scheme.lower() != "bearer" or right is None:
                if token:  # a page without one asks, too, and guesses nothing
                    self._wrong.note(address)
                raise Problem(
                    401, "Give a token, in the header `Authorization: Bearer TOKEN`.",
                    headers={"WWW-Authenticate": 'Bearer realm="imgret"'},
                )  # fmt: skip
            if writes and right != "read-write":
                raise Problem(403, "This token may only read. Use one that may write.")
        if writes and self._options.read_only and path.startswith(API):
            raise Problem(403, "This service was started with --read-only, so it changes nothing.")

    def _admitted(self, expected: int) -> _Place:
        """Take a place among the running requests. Raises Problem 429 where there is none."""
        limits = self._options.limits
        if self._running >= limits.waiting or self._bytes + expected > limits.bodies:
            self.traffic.refused.inc()
            raise Problem(
                429, "Too many requests are being answered. Try again in a second.",
                headers={"Retry-After": "1"},
            )  # fmt: skip
        return _Place(self, expected)


class _Place:
    """A place among the requests that are being answered."""

    def __init__(self, guard: Guard, size: int) -> None:
        self._guard, self._size = guard, size

    def __enter__(self) -> None:
        self._guard._running += 1
        self._guard._bytes += self._size
        self._guard.traffic.running.inc()

    def __exit__(self, *_: object) -> None:
        self._guard._running -= 1
        self._guard._bytes -= self._size
        self._guard.traffic.running.dec()


class _Incoming:
    """What comes of a request, within a limit of bytes and of time. problem: where it was broken.

    A framework may take what is raised here for a client that left, so it is kept, too.
    """

    def __init__(self, receive: Receive, limits: Any) -> None:
        self._receive = receive
        self._limits = limits
        self._read = 0
        self._until: float | None = None  # its turn may come later
        self.is_read = False
        self.problem: Problem | None = None

    async def __call__(self) -> Message:
        """Return the next part."""
        if self.is_read:
            return await self._receive()
        if self._until is None:
            self._until = time.monotonic() + self._limits.body_seconds
        try:
            async with asyncio.timeout(max(0.0, self._until - time.monotonic())):
                message = await self._receive()
        except TimeoutError:
            seconds = self._limits.body_seconds
            self.problem = Problem(408, f"The request was not here after {seconds:g} seconds.")
            raise self.problem from None
        self._read += len(message.get("body", b""))
        if self._read > self._limits.body:
            self.problem = too_large(self._limits.body)
            raise self.problem
        self._take(message)
        return message

    async def look(self) -> None:
        """Take what is here already of what nobody asks for."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_SECONDS):
                self._take(await self._receive())

    def _take(self, message: Message) -> None:
        self.is_read = message["type"] != "http.request" or not message.get("more_body", False)


class _Answer:
    """What goes out, with the headers that each answer has. status: 0 before it began."""

    def __init__(
        self, scope: Scope, send: Send, incoming: _Incoming, options: ServiceOptions
    ) -> None:
        self._send = send
        self._incoming = incoming
        names = {name for name, _ in scope["headers"]}
        self._has_body = bool(names & {b"content-length", b"transfer-encoding"})
        self._began = time.monotonic()
        self._debug = options.debug
        self._path = scope["path"]
        self._lingers = False  # whether to, once the answer is whole
        self._is_whole = False
        self.status = 0
        self.origin: str | None = None

    async def __call__(self, message: Message) -> None:
        """Send a part of the answer."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in SECURITY_HEADERS.items():
                headers.setdefault(name, value)
            if self._path.startswith(API):
                headers.setdefault("cache-control", "no-store")
            if self.origin:
                headers["access-control-allow-origin"] = self.origin
                headers["cross-origin-resource-policy"] = "cross-origin"
                headers.add_vary_header("Origin")
            if self._has_body and not self._incoming.is_read:
                await self._incoming.look()
                self._lingers = not self._incoming.is_read
            if self._lingers:
                headers["connection"] = "close"  # what is still to come is not read
            if self._debug:
                took = 1000 * (time.monotonic() - self._began)
                headers["server-timing"] = f"total;dur={took:.1f}"
        ends = message["type"] == "http.response.body" and not message.get("more_body", False)
        if self._lingers and ends:
            self._is_whole = True
            message = {**message, "more_body": True}
        await self._send(message)

    async def linger(self) -> None:
        """Wait before the connection is closed: else a client that still sends sees no answer."""
        if self._is_whole:
            await asyncio.sleep(LINGER_SECONDS)
            await self._send({"type": "http.response.body", "body": b""})


PREFLIGHT = {
    "access-control-allow-methods": "GET, POST, PATCH, DELETE",
    "access-control-allow-headers": "authorization, content-type",
    "access-control-max-age": "600",
}


def too_large(most: int) -> Problem:
    """Return the problem of a body of more bytes than may be."""
    return Problem(413, f"The request has more than {most:,} bytes. Send less at a time.")


def _length(headers: Headers, most: int) -> int:
    """Return how many bytes are to come; of an unknown number the most. Raises Problem."""
    said = headers.get("content-length")
    if said is None:
        return most if "transfer-encoding" in headers else 0
    if not said.isdecimal() or len(said) > 18:
        raise Problem(400, "Content-Length is not a number of bytes.")
    if int(said) > most:
        raise too_large(most)
    return int(said)


def _hosts(options: ServiceOptions) -> frozenset[str]:
    """Return the names that the service answers to."""
    names = {*LOOPBACK, options.host.lower()}
    names |= {(urlsplit(origin).hostname or "").lower() for origin in options.origins}
    if not options.is_local:
        names |= {socket.gethostname().lower(), socket.getfqdn().lower()}
    return frozenset(filter(None, names))


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True

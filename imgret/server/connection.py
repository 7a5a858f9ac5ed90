"""One connection: a slow client is dropped, and one too many is told so at once."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from imgret.server.options import Limits
from imgret.server.problem import Problem


class Connection(H11Protocol):
    """uvicorn's protocol, with limits."""

    limits = Limits()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request; refuse a connection above the limit."""
        super().connection_made(transport)
        self._header_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        if len(self.connections) > self.limits.connections:
            self._say_and_close(
                Problem(
                    503, "There are too many connections. Try again soon.",
                    headers={"Retry-After": "1"},
                )
            )  # fmt: skip
            return
        self._wait_for_header()

    def data_received(self, data: bytes) -> None:
        """Take what has come; a header that began has to come to its end in time."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop("_header_timer")
        else:
            self._wait_for_header()

    def on_response_complete(self) -> None:
        """Wait for the next request of the connection, as uvicorn does."""
        self._stop("_header_timer")
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Drop a client that goes on reading nothing of its answer."""
        super().pause_writing()
        seconds = self.limits.write_seconds
        self._write_timer = self.loop.call_later(seconds, self._drop)

    def resume_writing(self) -> None:
        """Go on writing: the client has read."""
        self._stop("_write_timer")
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop("_header_timer")
        self._stop("_write_timer")
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP with a problem."""
        del msg
        self._say_and_close(Problem(400, "This is not an HTTP request that can be read."))

    def _drop(self) -> None:
        """Close at once; the system keeps nothing for a client that does not read."""
        own = self.transport.get_extra_info("socket")
        if own is not None:
            with contextlib.suppress(OSError):
                own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def _wait_for_header(self) -> None:
        if self._header_timer is None:
            seconds = self.limits.header_seconds
            self._header_timer = self.loop.call_later(seconds, self.transport.close)

    def _stop(self, name: str) -> None:
        timer: asyncio.TimerHandle | None = getattr(self, name, None)
        if timer is not None:
            timer.cancel()
            setattr(self, name, None)

    def _say_and_close(self, problem: Problem) -> None:
        response = problem.response()
        response.headers["connection"] = "close"
        phrase = HTTPStatus(problem.status).phrase
        lines = [f"HTTP/1.1 {problem.status} {phrase}".encode()]
        lines += [name + b": " + value for name, value in response.raw_headers]
        self.transport.write(b"\r\n".join(lines) + b"\r\n\r\n" + bytes(response.body))
        self.transport.close()


def connection_with(limits: Limits) -> type[asyncio.Protocol]:
    """Return the protocol with other limits."""
    members: dict[str, Any] = {"limits": limits, "__doc__": Connection.__doc__}
    return type("Connection", (Connection,), members)

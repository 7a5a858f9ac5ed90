"""Listen, answer, and end in order: what runs when a signal comes is finished."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Callable, Generator

import uvicorn

from imgret.server.app import make_app
from imgret.server.connection import connection_with
from imgret.server.log import logged_to
from imgret.server.options import ServiceOptions
from retrieval.errors import ArgumentError

BACKLOG = 1024


class Server(uvicorn.Server):
    """uvicorn's server, which ends with its work done and without raising the signal again."""

    def __init__(self, config: uvicorn.Config, on_start: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_start = on_start

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """End on SIGTERM and SIGINT while this lasts."""

        def end(*_: object) -> None:
            self.should_exit = True

        before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to answer, and tell so."""
        await super().startup(sockets)
        self._on_start()


def run_service(options: ServiceOptions, port: int, on_start: Callable[[str], None]) -> None:
    """Answer requests until SIGTERM or SIGINT. port: 0 takes any that is free.

    on_start: told the address once it answers. Raises ArgumentError when the port cannot be used,
    and ImgretError for a gallery or a classifier that cannot.
    """
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "asyncio", "python_multipart"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # tracebacks, or what clients send
    with contextlib.closing(listen(options.host, port)) as listening:
        app = make_app(options)
        config = uvicorn.Config(
            app, http=connection_with(options.limits), ws="none", loop="asyncio", log_config=None,
            access_log=False, server_header=False, proxy_headers=False, lifespan="on",
            backlog=BACKLOG, timeout_graceful_shutdown=int(options.limits.seconds),
        )  # fmt: skip
        address = _address(options.host, listening)
        server = Server(config, lambda: on_start(address))
        log = app.traffic.log
        with contextlib.ExitStack() as ended:
            ended.callback(log.end)  # after the last request, which is told when it is answered
            ended.enter_context(logged_to(log))
            asyncio.run(server.serve([listening]))


def listen(host: str, port: int) -> socket.socket:
    """Take the port, before anything large is opened. Raises ArgumentError."""
    try:
        family, *_, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        # with its protocol named, asyncio sends small parts at once (TCP_NODELAY): else 40 ms later
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(address)
            listening.listen(BACKLOG)
        except OSError:
            listening.close()
            raise
    except OSError as error:
        raise ArgumentError(
            f"Port {port} of {host} cannot be used ({error.strerror}). Choose another --port or "
            "--host."
        ) from error
    return listening


def _address(host: str, listening: socket.socket) -> str:
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{listening.getsockname()[1]}/"

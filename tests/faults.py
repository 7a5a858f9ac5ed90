"""A proxy in front of a store that leaves requests without an answer, as a bad network does."""

from __future__ import annotations

import contextlib
import http.client
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

OF_ONE_CONNECTION = {"connection", "transfer-encoding", "content-length", "keep-alive"}


class DroppingProxy:
    """Passes requests on to a store, but for those that it drops, and notes.

    drops: tells from method and path with query whether to. silent: whether these get no answer at
    all, instead of the end of their connection.
    """

    def __init__(self, store: int) -> None:
        self.store, self.port, self.silent = store, 0, False
        self.drops: Callable[[str, str], bool] = lambda _, __: False
        self.dropped: list[str] = []
        self.ended = threading.Event()

    @classmethod
    @contextlib.contextmanager
    def before(cls, store: int) -> Iterator[DroppingProxy]:
        """Run a proxy before the store at a port."""
        proxy = cls(store)

        class Handler(_Handler):
            of = proxy

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            server.daemon_threads = True
            proxy.port = server.server_address[1]
            thread = threading.Thread(target=server.serve_forever, daemon=True)
            thread.start()
            try:
                yield proxy
            finally:
                proxy.ended.set()
                server.shutdown()
                thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    of: DroppingProxy

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.of.drops(self.command, self.path):
            self.of.dropped.append(f"{self.command} {self.path}")
            self.close_connection = True
            if self.of.silent:
                self.of.ended.wait()
            return
        connection = http.client.HTTPConnection("127.0.0.1", self.of.store, timeout=60)
        with contextlib.closing(connection):
            connection.request(self.command, self.path, body, dict(self.headers))
            answer = connection.getresponse()
            content = answer.read()
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in OF_ONE_CONNECTION:
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else None
        self.send_header("Content-Length", length or str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass_on

    def log_message(self, *_: object) -> None:
        """Say nothing."""

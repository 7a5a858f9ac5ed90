"""A small web page on this machine: drop an image, see the class probabilities."""

from __future__ import annotations

import json
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources

from classify.predictor import Prediction, Predictor
from retrieval.errors import ArgumentError
from retrieval.images import MAX_FILE_BYTES

HOST = "127.0.0.1"
POLICY = "default-src 'none'; img-src blob:; style-src 'unsafe-inline'; connect-src 'self'; "
POLICY += "script-src 'unsafe-inline'"


class PageServer(ThreadingHTTPServer):
    """Serves the page of one run to this machine only.

    port: 0 takes any that is free. Raises ArgumentError when the port is taken.
    """

    daemon_threads = True

    def __init__(self, predictor: Predictor, port: int = 0, top: int = 5) -> None:
        self.predictor, self.top = predictor, top
        self.turn = threading.Lock()
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            raise ArgumentError(
                f"Port {port} cannot be used ({error.strerror}). Choose another --port."
            ) from error

    @property
    def address(self) -> str:
        """Where a browser finds the page."""
        return f"http://{HOST}:{self.server_port}/"

    def predict(self, content: bytes) -> Prediction:
        """The classes of an encoded image."""
        with self.turn:
            return self.predictor.predict_bytes(content, top=self.top)


class _Handler(BaseHTTPRequestHandler):
    server: PageServer

    def do_GET(self) -> None:
        """The page itself."""
        if not self._is_local() or self.path != "/":
            self._answer(HTTPStatus.NOT_FOUND, "text/plain", b"There is only one page here: /\n")
            return
        page = (resources.files("classify") / "templates" / "serving.html").read_text("utf-8")
        self._answer(HTTPStatus.OK, "text/html; charset=utf-8", page.encode())

    def do_POST(self) -> None:
        """An image's bytes -> its classes as JSON."""
        length = self.headers.get("Content-Length", "")
        if not self._is_local() or self.path != "/predict" or not length.isdecimal():
            self._answer(HTTPStatus.NOT_FOUND, "text/plain", b"Send an image to /predict.\n")
            return
        if int(length) > MAX_FILE_BYTES:
            self._answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "text/plain", b"It is too large.\n")
            return
        prediction = self.server.predict(self.rfile.read(int(length)))
        document = {
            "error": prediction.error,
            "classes": list(zip(prediction.classes, prediction.probabilities, strict=True)),
        }
        self._answer(HTTPStatus.OK, "application/json", json.dumps(document).encode())

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def _is_local(self) -> bool:
        """Whether the browser asked for this machine, and not for a name that leads here."""
        return self.headers.get("Host", "").partition(":")[0] in (HOST, "localhost")

    def _answer(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", POLICY)
        self.end_headers()
        self.wfile.write(body)

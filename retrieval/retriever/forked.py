"""A Retriever in a forked process: its calls are done by a fresh process beside it.

Lance, OpenVINO and FAISS have threads, which a fork leaves behind while it copies the locks that
they held: in the child they wait for ever (measured: 1 to 30 of 100 children hung in Lance, every
one in FAISS with two threads). So where Lance was used before the fork, as below gunicorn --preload
or a DataLoader's workers, a new interpreter is started once and asked; it ends with the process
that started it. What passes between the two is private to them.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import wraps
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

from retrieval.errors import ImgretError
from retrieval.gallery.table import was_used_before_fork
from retrieval.retriever.results import Progress

RUN = "import sys; from retrieval.retriever.forked import serve; serve(int(sys.argv[1]))"

Method = TypeVar("Method", bound=Callable[..., Any])


class Forkable(Protocol):
    """What has a helper of its own in a forked process."""

    helper: Helper | None
    helper_lock: threading.Lock

    def arguments(self) -> tuple[Path, dict[str, Any]]:
        """The gallery's path and what was asked for, to make another one like it."""
        ...


def in_own_process(method: Method) -> Method:
    """Have a method done by a helper where this process was forked from one that used Lance."""

    @wraps(method)
    def call(self: Forkable, *args: Any, **kwargs: Any) -> Any:
        if not was_used_before_fork():
            return method(self, *args, **kwargs)
        if self.helper is None or self.helper.process != os.getpid():
            self.helper, self.helper_lock = Helper(*self.arguments()), threading.Lock()
        with self.helper_lock:
            return self.helper.call(method.__name__, args, kwargs)

    return cast(Method, call)


class Helper:
    """A process that has a Retriever. process: the one that it works for."""

    def __init__(self, gallery: Path, asked: dict[str, Any]) -> None:
        self.process = os.getpid()
        ours, theirs = socket.socketpair()
        path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
        with theirs:
            subprocess.Popen(  # noqa: S603  our own interpreter
                [sys.executable, "-W", "ignore", "-c", RUN, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONPATH": path},
            )
        self._connection = Connection(ours.detach())
        self._connection.send((gallery, asked))

    def call(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Retriever.name(*args, **kwargs). Raises what that raises."""
        progress: Progress | None = kwargs.get("progress")
        plain = {key: value for key, value in kwargs.items() if key != "progress"}
        try:
            self._connection.send((name, args, plain, progress is not None))
            while True:
                kind, value = self._connection.recv()
                if kind == "progress" and progress is not None:
                    progress(*value)
                elif kind == "raised":
                    raise value
                elif kind == "iterator":
                    return iter(value)
                elif kind == "result":
                    return value
        except (EOFError, OSError) as error:
            raise ImgretError(
                f"The helper of this forked process has ended ({error}). Open a new Retriever, or "
                "start processes by spawn instead of fork."
            ) from error


def serve(handle: int) -> None:
    """Do what the process at the other end of a socket asks for, until it ends."""
    from retrieval.retriever.retriever import Retriever

    connection = Connection(handle)
    gallery, asked = connection.recv()
    retriever = Retriever(gallery, **asked)
    while True:
        try:
            name, args, kwargs, tells = connection.recv()
        except EOFError:
            return
        if tells:
            kwargs["progress"] = lambda *said: connection.send(("progress", said))
        try:
            value = getattr(retriever, name)(*args, **kwargs)
            kind = "iterator" if isinstance(value, Iterator) else "result"
            connection.send((kind, list(value) if isinstance(value, Iterator) else value))
        except Exception as error:  # noqa: BLE001  raised again at the other end
            try:
                connection.send(("raised", error))
            except Exception:  # noqa: BLE001  one that cannot be sent
                connection.send(("raised", ImgretError(str(error))))

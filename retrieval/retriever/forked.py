"""A Retriever in a forked process: its calls are done by a fresh process beside it.

Lance, OpenVINO and FAISS have threads, which a fork leaves behind while it copies the locks that
they held. Then the child waits for ever (measured: 1 to 30 of 100 children hung in Lance, every
one in FAISS with two threads). So where Lance was used before the fork, as below gunicorn --preload
or a DataLoader's workers, a new interpreter is started once and asked; it ends with the process
that started it. What passes between the two is private to them.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from retrieval.errors import ImageError, ProcessError
from retrieval.gallery.dataset import was_used_before_fork
from retrieval.images import as_sent
from retrieval.progress import Progress

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

Method = TypeVar("Method", bound=Callable[..., Any])
Made = TypeVar("Made")


class Forkable(Protocol):
    """An object with helpers, each by the id of the forked process that it works for."""

    helpers: dict[int, Helper]

    def arguments(self) -> tuple[Path | str, dict[str, Any]]:
        """Return the gallery's path and arguments, to make another one like it."""
        ...


def unpickled(kind: Callable[..., Made], gallery: Path | str, asked: dict[str, Any]) -> Made:
    """Make an object anew of its arguments."""
    return kind(gallery, **asked)


def in_own_process(method: Method) -> Method:
    """Have a method done by a helper where this process was forked from one that used Lance."""

    @wraps(method)
    def call(self: Forkable, *args: Any, **kwargs: Any) -> Any:
        if not was_used_before_fork():
            return method(self, *args, **kwargs)
        helper = self.helpers.setdefault(os.getpid(), Helper(*self.arguments()))
        for process in set(self.helpers) - {os.getpid()}:  # a parent's, kept alive by this copy
            self.helpers.pop(process, None)
        return helper.call(method.__name__, args, kwargs)

    return cast(Method, call)


class Helper:
    """A process that has a Retriever; started by the first call, and again after a failed one.

    Several threads may share it: one call after the other.
    """

    def __init__(self, gallery: Path | str, asked: dict[str, Any]) -> None:
        self._asked = gallery, asked
        self._connection: Connection | None = None
        self._lock = threading.Lock()

    def call(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Retriever.name(*args, **kwargs). Raises what that raises, or what progress raises."""
        from retrieval.cluster import working_folder

        progress: Progress | None = kwargs.get("progress")
        plain = {key: _as_sent(item) for key, item in kwargs.items() if key != "progress"}
        request = working_folder(), name, tuple(map(_as_sent, args)), plain, progress is not None
        with self._lock:
            try:
                kind, value = self._asked_for(request, progress)
            except BaseException:
                self._end()  # what it has still to say is no answer to the next call
                raise
        if kind == "raised":
            raise value
        return iter(value) if kind == "iterator" else value

    def _asked_for(self, request: Any, progress: Progress | None) -> tuple[str, Any]:
        """What the helper answers; what it tells on the way goes to progress."""
        connection = self._started()
        with _said_as_error():
            connection.send(request)
        while True:
            with _said_as_error():
                kind, value = connection.recv()
            if kind != "progress":
                return kind, value
            if progress:
                progress(*value)

    def _started(self) -> Connection:
        if self._connection is None:
            from retrieval.cluster import start_child

            _, self._connection = start_child("retrieval.retriever.forked:serve")
            self._connection.send(self._asked)
        return self._connection

    def _end(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


@contextlib.contextmanager
def _said_as_error() -> Iterator[None]:
    try:
        yield
    except (EOFError, OSError) as error:
        raise ProcessError(
            f"The helper of this forked process has ended ({error}). Try again, or start processes "
            "with spawn instead of fork."
        ) from error


def _as_sent(value: Any) -> Any:
    """An argument as the helper can be given it; several pictures as a list."""
    if isinstance(value, list | tuple) or (
        isinstance(value, Iterator) and not hasattr(value, "read")
    ):
        return [_as_sent(item) for item in value]
    try:
        return as_sent(value)
    except ImageError as error:
        raise ImageError(f"The query image: {error}") from error


def serve(handle: int) -> None:
    """Answer the calls of the process at the other end of a socket, until it ends."""
    from multiprocessing.connection import Connection

    from retrieval.retriever.retriever import Retriever

    connection = Connection(handle)
    with contextlib.suppress(EOFError, ConnectionError):
        gallery, asked = connection.recv()
        retriever = Retriever(gallery, **asked)
        while True:
            _answer(connection, retriever)


def _answer(connection: Connection, retriever: Any) -> None:
    """Do one call and send what it gives or raises. Raises EOFError, ConnectionError at the end."""
    folder, name, args, kwargs, tells = connection.recv()
    if tells:
        kwargs["progress"] = lambda *said: connection.send(("progress", said))
    try:
        with contextlib.suppress(OSError):
            os.chdir(folder or ".")
        value = getattr(retriever, name)(*args, **kwargs)
        answer = ("iterator", list(value)) if isinstance(value, Iterator) else ("result", value)
    except ConnectionError:
        raise
    except Exception as error:  # noqa: BLE001  raised again at the other end
        answer = "raised", error
    try:
        connection.send(answer)
    except ConnectionError:
        raise
    except Exception:  # noqa: BLE001  a result or an error that cannot be sent
        connection.send(("raised", RuntimeError(str(answer[1]))))

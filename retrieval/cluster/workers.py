"""What workers are, wherever they run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

TellDone = Callable[[int], None]
"""Called with how much of a job is done."""


class OpenedDuty(Protocol):
    """A duty that is ready to be done: what it needs is loaded, once for all jobs."""

    @property
    def facts(self) -> Any:
        """What the worker says of itself when it is ready."""
        ...

    def do(self, job: Any, tell: TellDone) -> Any:
        """Do one job and return what comes of it."""
        ...


class Helpers(Protocol):
    """Other processes that compute for a worker."""

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        """Apply a function to items there, and give what comes of each, in order."""
        ...


class Duty(Protocol):
    """What a worker is told at its start. It is sent to the worker, so it is small."""

    def open(self, helpers: Helpers | None = None) -> OpenedDuty:
        """Load what all jobs need, in the worker. helpers: its own, where it has some."""
        ...


@dataclass(frozen=True)
class Told:
    """What a worker tells, or what is told of it.

    kind: "ready" (value: its facts), "progress" (value: how much of its job is done), "done"
    (value: what came of its job), "raised" (value: an exception; its process has ended) or "lost"
    (its process has ended without a word; value: how, in a few words).
    """

    worker: int
    kind: Literal["ready", "progress", "done", "raised", "lost"]
    value: Any = None


class Workers(Protocol):
    """Processes that do jobs, one after the other; each is known by its number."""

    def start(self) -> int:
        """Start one more worker, which tells when it is ready; return its number."""
        ...

    def submit(self, worker: int, job: Any) -> None:
        """Give a job to a worker that is ready and has none."""
        ...

    def wait(self, seconds: float) -> list[Told]:
        """Wait until any worker tells something, for so many seconds at most."""
        ...

    def end(self) -> None:
        """End all workers at once, whatever they do. What they have stored stays."""
        ...

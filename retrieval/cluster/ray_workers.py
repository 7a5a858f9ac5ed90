"""Workers that are actors of a Ray cluster: one that is joined, or one on this machine.

A worker may have helpers, which are actors too and do what it gives them: so one GPU gets the cores
that decode for it. Nothing is restarted or tried again by Ray (max_restarts=0): the roster does.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from typing import Any

from retrieval.cluster.cores import counting_only
from retrieval.cluster.workers import Duty, Told
from retrieval.errors import ImgretError, ProcessError
from retrieval.libraries import how_to_install, is_installed
from retrieval.reached import why_unreachable
from retrieval.text import one_sentence

LOOPBACK_BEGINS = "127."
CALLS_AHEAD = 3  # that wait at each helper, so that it never waits for its worker
SECONDS_UNPLACED = 60.0  # without any worker, until that is told
SECONDS_TO_JOIN_AGAIN = (2.0, 8.0)  # Ray starts a server for each client, which a busy head fails
UNPLACED = "Ray has had no place for a worker for %.0f seconds: it waits for %s."

_log = logging.getLogger("imgret")


@dataclass(frozen=True)
class Places:
    """What each worker needs of its cluster: cores, GPUs, and helpers of one core each."""

    cores: int = 1
    gpus: int = 0
    helpers: int = 0


@contextlib.contextmanager
def joined_ray(address: str | None) -> Iterator[list[dict[str, float]]]:
    """Join the cluster at an address, ray://HOST:PORT, and give what each node has (CPU, GPU).

    None is the one that runs on this machine, or else a new one, which ends with this. Raises
    ProcessError where it cannot be reached, or Ray is not installed.
    """
    if not is_installed("ray"):
        raise ProcessError(how_to_install("ray", by="--cluster ray"))
    import ray

    if ray.is_initialized():
        yield _nodes()
        return
    try:
        _join(address)
    except (OSError, RuntimeError, ValueError, AssertionError) as error:
        ray.shutdown()  # else it takes every later cluster for that client's
        raise ProcessError(
            f"Ray cannot be reached at {address or 'this machine'} ({one_sentence(error)}). Check "
            "the address and that Ray runs there, or give --cluster processes."
        ) from error
    try:
        yield _nodes()
    finally:
        ray.shutdown()


def _join(address: str | None) -> None:
    import ray

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is not None:
        for seconds in SECONDS_TO_JOIN_AGAIN:
            with contextlib.suppress(ConnectionAbortedError):
                ray.init(address=address, **quiet)
                return
            time.sleep(seconds)
        ray.init(address=address, **quiet)
        return
    if os.environ.get("RAY_ADDRESS", "").startswith(LOOPBACK_BEGINS):
        _stay_on_loopback()
    if not _is_noted_in_vain():
        with contextlib.suppress(ConnectionError):
            ray.init(address="auto", **quiet)
            return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    _stay_on_loopback()
    ray.init(address="local", _node_ip_address="127.0.0.1", include_dashboard=False, **quiet)


def _is_noted_in_vain() -> bool:
    """Whether Ray has a note of a cluster here that is gone, which it would ask for minutes."""
    if os.environ.get("RAY_ADDRESS"):
        return False
    noted = ""
    with contextlib.suppress(ImportError, AttributeError, OSError):
        from ray._private.utils import read_ray_address

        noted = read_ray_address() or ""
    host, _, port = noted.rpartition(":")
    return bool(host and port.isdecimal() and why_unreachable(host.strip("[]"), int(port)))


def _stay_on_loopback() -> None:
    """Keep Ray from taking this machine's address in its network for that of its loopback."""
    with contextlib.suppress(ImportError, AttributeError):
        from ray._private import ray_constants

        ray_constants.ENABLE_RAY_CLUSTER = False


def _nodes() -> list[dict[str, float]]:
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


class RayWorkers:
    """Workers as actors of the cluster that this process has joined.

    duty: what they do. places: what each needs.
    """

    def __init__(self, duty: Duty, places: Places) -> None:
        self._duty, self._places = duty, places
        self._numbers = count()
        self._members: dict[int, _Actor] = {}
        self._awaited: dict[Any, int] = {}  # what Ray has promised -> whose it is
        self._since: float | None = time.monotonic()  # without any worker that is placed

    def start(self) -> int:
        """Start one more worker; return its number."""
        number = next(self._numbers)
        member = self._members[number] = _Actor(self._places)
        self._awaited[member.actor.place.remote()] = number
        return number

    def submit(self, worker: int, job: Any) -> None:
        """Give a job to a worker that is ready."""
        self._awaited[self._members[worker].actor.do.remote(job)] = worker

    def wait(self, seconds: float) -> list[Told]:
        """Wait until any worker tells something, for so many seconds at most."""
        import ray

        found, _ = ray.wait(list(self._awaited), num_returns=1, timeout=seconds)
        if found:  # and all others that are there
            found, _ = ray.wait(list(self._awaited), num_returns=len(self._awaited), timeout=0)
        told = [self._heard(promise) for promise in found]
        self._tell_if_unplaced()
        return [news for news in told if news is not None]

    def end(self) -> None:
        """End all workers at once."""
        for number in list(self._members):
            self._forget(number)

    def _heard(self, promise: Any) -> Told | None:
        import ray

        number = self._awaited.pop(promise)
        member = self._members[number]
        try:
            value = ray.get(promise)
        except ray.exceptions.RayTaskError as error:
            self._forget(number)
            return _failed(number, error)
        except (ray.exceptions.RayError, ConnectionError) as error:
            self._forget(number)
            return Told(number, "lost", one_sentence(error))
        if member.slot is None:  # it told where it is
            self._since = None
            member.slot = self._free_slot(value, number)
            opened = member.actor.open.remote(self._duty, member.slot[1], member.helpers)
            self._awaited[opened] = number
            return None
        kind, value = value
        return Told(number, kind, value)

    def _free_slot(self, node: str, number: int) -> tuple[str, int]:
        """The first share of a node's cores that no other worker has."""
        taken = {member.slot for n, member in self._members.items() if n != number}
        return next((node, slot) for slot in count() if (node, slot) not in taken)

    def _forget(self, number: int) -> None:
        self._awaited = {p: n for p, n in self._awaited.items() if n != number}
        self._members.pop(number).end()

    def _tell_if_unplaced(self) -> None:
        if self._since is not None and time.monotonic() - self._since > SECONDS_UNPLACED:
            self._since = None
            _log.warning(UNPLACED, SECONDS_UNPLACED, self._places)


class _Actor:
    """One worker: its actor, its helpers, and (node, number of its share of the cores)."""

    def __init__(self, places: Places) -> None:
        import ray

        self.slot: tuple[str, int] | None = None
        self.group: Any = None
        if places.helpers:
            first = {"CPU": places.cores, "GPU": places.gpus}
            bundles = [{name: n for name, n in first.items() if n}, *[{"CPU": 1}] * places.helpers]
            self.group = ray.util.placement_group(bundles, strategy="PACK")
        hand = ray.remote(max_restarts=0)(RayHand).options(
            num_cpus=places.cores, num_gpus=places.gpus, scheduling_strategy=self._at(0)
        )
        self.actor = hand.remote(0 if places.helpers else places.cores)
        helper = ray.remote(max_restarts=0)(RayHelper)
        self.helpers = [
            helper.options(num_cpus=1, scheduling_strategy=self._at(1 + place)).remote()
            for place in range(places.helpers)
        ]

    def _at(self, bundle: int) -> Any:
        """Where a process is to run: in a bundle of the group, or anywhere."""
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        if self.group is None:
            return "SPREAD"
        return PlacementGroupSchedulingStrategy(self.group, placement_group_bundle_index=bundle)

    def end(self) -> None:
        import ray

        for actor in (self.actor, *self.helpers):
            with contextlib.suppress(ray.exceptions.RayError, ConnectionError, ValueError):
                ray.kill(actor)
        if self.group is not None:
            ray.util.remove_placement_group(self.group)


class RayHand:
    """The worker in its own process. cores: how many it may use; 0 for all of its node."""

    def __init__(self, cores: int) -> None:
        self._cores = cores

    def place(self) -> str:
        """Return the node that this is on."""
        import ray

        return str(ray.get_runtime_context().get_node_id())

    def open(self, duty: Duty, slot: int, helpers: Sequence[Any]) -> tuple[str, Any]:
        """Open the duty, on the share of the node's cores that has this number."""
        share: set[int] = set()
        if self._cores and hasattr(os, "sched_getaffinity"):
            cores = sorted(os.sched_getaffinity(0))
            first = slot * self._cores
            share = {cores[(first + place) % len(cores)] for place in range(self._cores)}
        with counting_only(share):
            self._opened = duty.open(RayHelpers(helpers)) if helpers else duty.open()
        return "ready", self._opened.facts

    def do(self, job: Any) -> tuple[str, Any]:
        """Do one job."""
        return "done", self._opened.do(job, lambda _: None)


class RayHelper:
    """A process that computes what a worker gives it."""

    def call(self, function: Callable[[Any], Any], item: Any) -> Any:
        """Return function(item)."""
        return function(item)


class RayHelpers:
    """The helpers of a worker, as it has them."""

    def __init__(self, actors: Sequence[Any]) -> None:
        self._actors = actors

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        """Apply a function to items, in order, some ahead. Ends this process if a helper is lost.

        Who waits for this worker then has its job done by another, with helpers of its own.
        """
        import ray

        left = enumerate(items)
        waiting: deque[Any] = deque()

        def begin(calls: int) -> None:
            for number, item in islice(left, calls):
                actor = self._actors[number % len(self._actors)]
                waiting.append(actor.call.remote(function, item))

        begin(CALLS_AHEAD * len(self._actors))
        while waiting:
            try:
                result = ray.get(waiting.popleft())
            except ray.exceptions.RayTaskError:
                raise
            except ray.exceptions.RayError:
                os._exit(1)
            begin(1)
            yield result


def _failed(number: int, error: Any) -> Told:
    """What a worker raised, as it raised it."""
    cause = getattr(error, "cause", error)
    if not isinstance(cause, ImgretError):
        cause = ProcessError(
            f"A worker has failed ({type(cause).__name__}: {one_sentence(cause)}). Run the same "
            "command again, or leave --cluster out."
        )
    return Told(number, "raised", cause)

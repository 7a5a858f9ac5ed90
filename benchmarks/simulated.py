"""A run of index over many nodes, as events: parts that end, nodes and drivers that die."""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from dataclasses import dataclass, field

PART, AT_ONCE = 65_536, 16  # images of a part; parts that one commit appends
HOUR = 3600.0


@dataclass(frozen=True)
class CommitCosts:
    """What a commit costs: seconds = base + slope * fragments; bytes of the manifest a fragment."""

    base: float
    slope: float
    bytes_each: float


@dataclass(frozen=True)
class Fleet:
    """What is simulated. rate: images/s of a node. Lives are means in hours, exponential.

    back_after: seconds until a lost node is there again. restart: seconds from the death of the
    driver until it gives out parts again. start: of a worker. poisoned: share of images that end
    their worker.
    """

    name: str
    images: int = 1_000_000_000
    nodes: int = 100
    rate: float = 2_000.0
    node_life: float = math.inf
    driver_life: float = math.inf
    back_after: float = 600.0
    restart: float = 300.0
    start: float = 60.0
    poisoned: float = 0.0


@dataclass
class Outcome:
    """What came of it. lost: seconds of nodes that did work which was done again, or waited."""

    seconds: float = 0.0
    lost: float = 0.0
    committing: float = 0.0
    nodes_lost: int = 0
    drivers_lost: int = 0
    fragments: int = 0
    done: set[int] = field(default_factory=set)


class SimulatedRun:
    """One run. Parts are done when a commit names them; who dies before takes what it did along."""

    def __init__(self, fleet: Fleet, costs: CommitCosts, seed: int = 0) -> None:
        self._fleet, self._costs, self._chance = fleet, costs, random.Random(seed)
        self._parts = math.ceil(fleet.images / PART)
        self._usual = PART / fleet.rate
        self._todo = deque(range(self._parts))
        self._events: list[tuple[float, int, str, int, int]] = []
        self._running: dict[int, tuple[int, float]] = {}  # node -> its part, when it began
        self._staged: list[int] = []
        self._turns = dict.fromkeys(range(fleet.nodes), 0)  # what ends in an earlier turn is void
        self._now = self._committed_at = 0.0
        self._number = 0
        self.outcome = Outcome()

    def run(self) -> Outcome:
        """Go through all events until every part is committed."""
        for node in self._turns:
            self._give(node)
            self._later(self._life(self._fleet.node_life), "death", node)
        self._later(self._life(self._fleet.driver_life), "driver", -1)
        acts = {
            "part": self._end_part, "death": self._lose_node, "back": self._give,
            "driver": self._lose_driver,
        }  # fmt: skip
        while len(self.outcome.done) < self._parts:
            self._now, _, kind, node, turn = heapq.heappop(self._events)
            if kind != "part" or turn == self._turns[node]:
                acts[kind](node)
        self.outcome.seconds = max(self._now, self._committed_at)
        return self.outcome

    def _later(self, seconds: float, kind: str, node: int) -> None:
        if math.isfinite(seconds):
            self._number += 1
            turn = self._turns.get(node, 0)
            heapq.heappush(self._events, (self._now + seconds, self._number, kind, node, turn))

    def _life(self, hours: float) -> float:
        return self._chance.expovariate(1 / (hours * HOUR)) if math.isfinite(hours) else math.inf

    def _give(self, node: int) -> None:
        """Give a node its next part."""
        if node in self._running or not self._todo:
            return
        self._running[node] = self._todo.popleft(), self._now
        extra = 0.0
        if self._chance.random() < self._fleet.poisoned * PART:
            # two deaths in its middle, then halves until one image is left
            extra = 2 * self._usual + (2 + math.log2(PART)) * self._fleet.start
            self.outcome.lost += extra
        self._later(self._usual * self._chance.uniform(0.9, 1.1) + extra, "part", node)

    def _end_part(self, node: int) -> None:
        self._staged.append(self._running.pop(node)[0])
        self._give(node)
        if len(self._staged) >= AT_ONCE or not (self._running or self._todo):
            self._commit()

    def _commit(self) -> None:
        """The driver commits, one time after the other; the workers go on meanwhile."""
        took = self._costs.base + self._costs.slope * self.outcome.fragments
        self._committed_at = max(self._committed_at, self._now) + took
        self.outcome.committing += took
        self.outcome.fragments += len(self._staged)
        self.outcome.done.update(self._staged)
        self._staged.clear()

    def _lose_node(self, node: int) -> None:
        self.outcome.nodes_lost += 1
        self._turns[node] += 1
        self.outcome.lost += self._fleet.back_after
        if node in self._running:
            part, began = self._running.pop(node)
            self.outcome.lost += self._now - began
            self._todo.appendleft(part)
            self._give_idle(but=node)
        self._later(self._fleet.back_after + self._fleet.start, "back", node)
        self._later(self._fleet.back_after + self._life(self._fleet.node_life), "death", node)

    def _give_idle(self, but: int) -> None:
        """Near the end a part that came back goes to a node that has none."""
        idle = (node for node in self._turns if node not in self._running and node != but)
        for node in idle:
            self._give(node)

    def _lose_driver(self, _: int) -> None:
        """The workers end with it; what was staged and not committed is done again."""
        fleet, out = self._fleet, self.outcome
        out.drivers_lost += 1
        out.lost += sum(self._now - began for _, began in self._running.values())
        out.lost += len(self._staged) * self._usual + fleet.nodes * fleet.restart
        self._todo.extendleft([part for part, _ in self._running.values()] + self._staged)
        self._running.clear()
        self._staged.clear()
        for node in self._turns:
            self._turns[node] += 1
            self._later(fleet.restart, "back", node)
        self._later(fleet.restart + self._life(fleet.driver_life), "driver", -1)

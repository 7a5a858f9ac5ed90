"""How many workers a run has, where they run, and how many images they are given at a time."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from retrieval.cluster import Duty, Processes, Workers
from retrieval.cluster.processes import shares_of_cores
from retrieval.cluster.ray_workers import Places, RayWorkers, joined_ray
from retrieval.encoder import Encoder
from retrieval.retriever.cluster_asked import PROCESSES, RAY, ClusterAsked
from retrieval.threads import default_workers
from retrieval.words import Engine

MOST_IN_PART, MOST_IN_PART_OF_GPU, LEAST_IN_PART = 4_096, 65_536, 64  # images
PARTS_A_WORKER = 12  # so that none waits long for the last one
CORES_A_WORKER = 4  # more threads in one encoder gain less than another encoder does
MOST_DECODERS = 32  # that one GPU can use
ON_GPU: Engine = "torch-cuda-bf16"


@dataclass(frozen=True)
class Crew:
    """The workers of a run. count: how many at a time. engine: theirs. workers: makes them."""

    count: int
    engine: Engine
    workers: Callable[[Duty], Workers]

    def part_size(self, tasks: int, batch: int) -> int:
        """Return how many images a part has, of so many: whole batches of a size."""
        most = MOST_IN_PART_OF_GPU if self.engine == ON_GPU else MOST_IN_PART
        size = max(LEAST_IN_PART, -(-tasks // (PARTS_A_WORKER * self.count)))
        return min(most, -(-size // batch) * batch)


@contextlib.contextmanager
def open_crew(
    asked: ClusterAsked, encoder: Encoder, engine: Engine | None, stored: Engine | None
) -> Iterator[Crew]:
    """Give who is to work, and leave their cluster at the end.

    encoder: that of this process. engine: the requested one. stored: what the rows were made with
    that are there already; None where there are none. Raises ProcessError.
    """
    if asked.kind == PROCESSES:
        yield _processes(asked, encoder.engine)
        return
    with joined_ray(None if asked.kind == RAY else asked.kind) as nodes:
        gpus = int(sum(node.get("GPU", 0) for node in nodes))
        wanted = engine or stored or ON_GPU
        theirs = ON_GPU if gpus and wanted == ON_GPU else encoder.engine
        places, count = ray_places([int(node.get("CPU", 0)) for node in nodes], gpus, theirs)
        yield Crew(asked.workers or count, theirs, lambda duty: RayWorkers(duty, places))


def _processes(asked: ClusterAsked, engine: Engine) -> Crew:
    devices = _gpus() if engine == ON_GPU else []
    count = asked.workers or len(devices) or _worth_starting(default_workers())
    named = [devices[place % len(devices)] for place in range(count)] if devices else []
    return Crew(count, engine, lambda duty: Processes(duty, shares_of_cores(count), named))


def _worth_starting(cores: int) -> int:
    """How many encoders keep all cores busy."""
    return max(min(cores, 2), cores // CORES_A_WORKER)


def _gpus() -> list[str]:
    """Names of the GPUs as CUDA_VISIBLE_DEVICES has them."""
    if named := os.environ.get("CUDA_VISIBLE_DEVICES"):
        return named.split(",")
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]


def ray_places(cores: Sequence[int], gpus: int, engine: Engine) -> tuple[Places, int]:
    """Return what a worker needs of a Ray cluster, and how many workers there are places for.

    cores: of each node. A worker with a GPU decodes nothing: it has helpers for that, as many as
    there are cores for each GPU.
    """
    if engine == ON_GPU:
        helpers = (sum(cores) - gpus) // gpus
        return Places(1, 1, max(1, min(MOST_DECODERS, helpers))), gpus
    able = [n for n in cores if n]
    each = min([CORES_A_WORKER, *(max(1, n // 2) for n in able)])
    return Places(each), max(1, sum(n // each for n in able))

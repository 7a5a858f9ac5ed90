"""Who else is to work on a run of index."""

from __future__ import annotations

import re
from dataclasses import dataclass

from retrieval.arguments import whole
from retrieval.errors import ArgumentError

PROCESSES, RAY = "processes", "ray"
MOST_WORKERS_ASKED = 1 << 12
_ADDRESS = re.compile(rf"{RAY}://[^\s/?#]*[^\s/?#:](:\d{{1,5}})?/?")


@dataclass(frozen=True)
class ClusterAsked:
    """Who is to work.

    kind: "processes" of this machine, "ray" for the Ray cluster that runs on it or a new one there,
    or the address of a cluster, ray://HOST:PORT. workers: how many; None works it out.
    """

    kind: str
    workers: int | None = None

    @classmethod
    def of(cls, kind: str | None, workers: int | None) -> ClusterAsked | None:
        """Check arguments; None where nobody else is to work. Raises ArgumentError."""
        if kind is None:
            if workers is not None:
                raise ArgumentError("cluster_workers belongs to cluster. Give both, or neither.")
            return None
        if kind not in (PROCESSES, RAY) and not _ADDRESS.fullmatch(str(kind)):
            raise ArgumentError(f"cluster is {kind!r}. Give processes, ray or ray://HOST:PORT.")
        if workers is not None:
            workers = whole("cluster_workers", workers, most=MOST_WORKERS_ASKED)
        return cls(kind, workers)

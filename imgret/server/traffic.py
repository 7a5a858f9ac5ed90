"""One line in the log and the figures of each request, without anything of its pictures."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from imgret.server.log import LineLog
from imgret.server.options import LogFormat

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
SIZES_OF_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
MOST_OF_A_PATH, MOST_OF_A_METHOD = 300, 20  # characters in the log
UNKNOWN_ROUTE = "unknown"


class Traffic:
    """What the service has done since it was started."""

    def __init__(self, log_format: LogFormat = "text") -> None:
        self.log_format = log_format
        self.registry = registry = CollectorRegistry()
        self._requests = Counter(
            "imgret_requests", "Requests answered.", ["method", "route", "status"],
            registry=registry,
        )  # fmt: skip
        self._seconds = Histogram(
            "imgret_request_seconds", "Time of a request.", ["route"], buckets=SECONDS,
            registry=registry,
        )  # fmt: skip
        self.running = Gauge(
            "imgret_requests_running", "Requests that are being answered.", registry=registry
        )
        self.refused = Counter(
            "imgret_requests_refused", "Requests told to come again.", registry=registry
        )
        self.queue = Gauge(
            "imgret_queue", "Pieces of work that wait, by what for.", ["queue"], registry=registry
        )
        self.batches = Histogram(
            "imgret_batch_size", "Pieces of work done together.", ["queue"],
            buckets=SIZES_OF_BATCHES, registry=registry,
        )  # fmt: skip
        self.cache = Counter(
            "imgret_cache", "Thumbnails asked of the cache.", ["outcome"], registry=registry
        )
        self.log = LineLog(
            Counter("imgret_log_lines_dropped", "Lines that nobody has read.", registry=registry)
        )

    def text(self) -> bytes:
        """Return the figures as Prometheus reads them."""
        return generate_latest(self.registry)

    def tell(self, method: str, path: str, route: str, status: int, seconds: float) -> None:
        """Count a request and log it. route: its pattern, which has few values."""
        method, path = method[:MOST_OF_A_METHOD], path[:MOST_OF_A_PATH]
        known = method if method in ("GET", "POST", "PATCH", "DELETE", "HEAD") else "other"
        self._requests.labels(known, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)
        now = datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="milliseconds")
        if self.log_format == "json":
            line = {
                "time": now, "method": method, "path": path, "status": status,
                "milliseconds": round(1000 * seconds, 1),
            }  # fmt: skip
            self.log.tell(json.dumps(line))
        else:
            self.log.tell(f"{now} {method} {path} {status} {1000 * seconds:.1f} ms")

"""The real Milvus server on loopback, of the package `milvus`, as a process of its own."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

STARTS_WITHIN = 180.0  # seconds, on a busy machine
ITS_OWN = 2380  # the port of its etcd, which cannot be another


class MilvusProcess:
    """A server whose data lie in a folder. port: where it listens, also after it was killed."""

    def __init__(self, folder: Path) -> None:
        from milvus import MilvusServerConfig, _initialize_data_files

        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        config = MilvusServerConfig(data_dir=str(folder))
        names = [name for name in config.configurable_items if name.endswith("_port")]
        ports = dict(zip(names, _free_ports(len(names)), strict=True))
        config.update(**ports)
        config.resolve()
        self.port = ports["proxy_port"]
        (self._health,) = _free_ports(1)
        _initialize_data_files(str(folder))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, if it does not run, and wait until it answers."""
        if self._process is not None:
            return
        program = self.folder / "bin" / "milvus"
        found = {**os.environ, "DEPLOY_MODE": "STANDALONE", "METRICS_PORT": str(self._health)}
        found["MILVUS_RUN_DIR"] = str(self.folder / "run")
        found["LD_LIBRARY_PATH"] = f"{program.parent}:{os.environ.get('LD_LIBRARY_PATH', '')}"
        with (self.folder / "logs" / "output.log").open("ab") as log:
            self._process = subprocess.Popen(
                [program, "run", "standalone"], cwd=self.folder, env=found, stdout=log, stderr=log
            )
        until = time.monotonic() + STARTS_WITHIN
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"Milvus did not start; see {self.folder / 'logs'}")
            time.sleep(0.2)

    @property
    def cpu(self) -> float:
        """Seconds of CPU that it has taken."""
        if self._process is None:
            return 0.0
        text = Path(f"/proc/{self._process.pid}/stat").read_text()
        user, system = text.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    @staticmethod
    def runs_elsewhere() -> bool:
        """Tell whether this machine has another one, beside which none starts."""
        with socket.socket() as asking:
            return asking.connect_ex(("127.0.0.1", ITS_OWN)) == 0

    def kill(self) -> None:
        """End it at once, as a power cut does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self._health}/healthz", timeout=5
            ) as answer:
                return b"OK" in answer.read()
        except (OSError, urllib.error.URLError):
            return False


def _free_ports(n: int) -> list[int]:
    """Ports that nobody uses now, none of those that are given to who asks for any."""
    free: list[int] = []
    for port in range(20_000 + os.getpid() % 5_000, 32_000):
        with socket.socket() as bound, contextlib.suppress(OSError):
            bound.bind(("127.0.0.1", port))
            free.append(port)
        if len(free) == n:
            break
    return free

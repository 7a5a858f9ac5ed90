"""A run of index on a Ray cluster: a head and three nodes, of which some die. Minutes long."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from retrieval.cluster import ray_workers
from retrieval.cluster.ray_workers import Places, joined_ray
from retrieval.errors import BackboneError, ProcessError
from retrieval.retriever import Retriever, crew
from retrieval.retriever.crew import ON_GPU, ray_places
from tests.retrieval.stored import faults, rows, save_small
from tests.retrieval.test_cluster import check_answers, stored
from tests.samples import command_environment
from tests.watchdog import until

pytestmark = [  # Ray forks this process to start its own
    pytest.mark.filterwarnings("ignore:lance is not fork-safe"),
    pytest.mark.filterwarnings("ignore:Ray Client connection timed out"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
PICTURES, LONG = 640, 600
NODE = {"num_cpus": 1, "object_store_memory": 80_000_000, "node_ip_address": "127.0.0.1"}
PATIENT = {  # a machine that is shared may be slow
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_raylet_start_wait_time_s": "300",
    "RAY_prestart_worker_first_driver": "0",
    "RAY_enable_metrics_collection": "0",
    "RAY_health_check_initial_delay_ms": "60000",
    "RAY_health_check_timeout_ms": "30000",
}
DRIVER = """
import sys
from retrieval.retriever import Retriever, crew, driver
crew.MOST_IN_PART, driver.SECONDS_A_COMMIT = 16, 0.0
Retriever(sys.argv[1]).index(sys.argv[2], cluster=sys.argv[3], batch_size=8)
"""


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head without cores and three nodes with one each, on this machine's loopback."""
    pytest.importorskip("ray")
    for name, value in PATIENT.items():
        monkeypatch.setenv(name, value)
    import ray
    from ray._private import ray_constants
    from ray.cluster_utils import Cluster

    address = ray.util.get_node_ip_address()  # as a server finds it, which has no such patch
    monkeypatch.setattr(ray_constants, "ENABLE_RAY_CLUSTER", False)
    head = NODE | {"num_cpus": 0, "include_dashboard": False, "ray_client_server_port": 24571}
    made = Cluster(initialize_head=True, head_node_args=head)
    made.nodes = [made.add_node(**NODE) for _ in range(3)]
    made.serves_clients = address == NODE["node_ip_address"]
    yield made
    made.shutdown()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_small(tmp_path / "p", *(f"{'ab'[n % 2]}/{n:03}.png" for n in range(PICTURES)))


@contextmanager
def started(gallery: Path, folder: Path, cache: Path, address: str, kind: str) -> Iterator[Any]:
    """A driver as a process, which is ended in any case; what it says is in driver.txt."""
    with (folder.parent / "driver.txt").open("a") as said:
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", DRIVER, str(gallery), str(folder), kind],
            env=command_environment(cache) | {"RAY_ADDRESS": address},
            stderr=said,
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ray", "ray://127.0.0.1:24571"])
def test_a_lost_node_and_a_killed_driver_lose_and_double_nothing(
    cluster: Any, folder: Path, cache: Path, kind: str
) -> None:
    if kind != "ray" and not cluster.serves_clients:
        pytest.skip("Ray's server for clients leaves the loopback, except below `unshare -n`")
    one, several = folder.parent / "one.imgret", folder.parent / "several.imgret"
    Retriever(one).index(folder, batch_size=8)

    def there(most: int) -> bool:
        return (several / "images.lance").is_dir() and len(rows(several)) >= most

    said = folder.parent / "driver.txt"
    with started(several, folder, cache, cluster.address, kind) as driver:
        until(lambda: there(16) or driver.poll() is not None, LONG)
        assert driver.poll() is None, said.read_text()
        cluster.remove_node(cluster.nodes.pop(0), allow_graceful=False)
        driver.send_signal(signal.SIGSTOP)  # else it may be done before there is another node
        cluster.nodes.append(cluster.add_node(**NODE))
        driver.send_signal(signal.SIGCONT)
        after_loss = len(rows(several))
        until(lambda: there(after_loss + 64) or driver.poll() is not None, LONG)
        assert driver.poll() is None, said.read_text()
    before = len(rows(several))
    assert 0 < before < PICTURES
    with started(several, folder, cache, cluster.address, kind) as driver:
        assert driver.wait(LONG) == 0, said.read_text()
    assert stored(several) == stored(one)
    check_answers(several, one, folder)
    assert faults(several) == []


@pytest.mark.slow
def test_helpers_decode_for_a_worker_on_a_cluster_of_this_machine(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for a GPU, but without one."""
    pytest.importorskip("ray")
    for name, value in PATIENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(crew, "ray_places", lambda *_: (Places(1, 0, 1), 1))
    one, several = folder.parent / "one.imgret", folder.parent / "several.imgret"
    (folder / "a" / "broken.png").write_bytes(b"no picture")
    Retriever(one).index(folder, batch_size=8)
    report = Retriever(several).index(folder, batch_size=8, cluster="ray")
    assert (report.added, report.failed) == (PICTURES, 1)
    assert stored(several) == stored(one)
    assert faults(several) == []


@pytest.mark.slow
def test_a_cluster_that_is_not_there_is_told(folder: Path) -> None:
    pytest.importorskip("ray")
    with pytest.raises(ProcessError, match=r"Ray cannot be reached at ray://127\.0\.0\.1:1 "):
        Retriever(folder.parent / "g.imgret").index(folder, cluster="ray://127.0.0.1:1")
    from ray._private.client_mode_hook import client_mode_should_convert

    assert not client_mode_should_convert()


@pytest.mark.parametrize(("refusals", "joins"), [(2, True), (3, False)])
def test_a_head_that_fails_to_start_a_server_is_asked_again(
    refusals: int, joins: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray raises this beside other work, which cannot be had at will."""
    ray = pytest.importorskip("ray")
    answers = iter([*refusals * [ConnectionAbortedError("Initialization failure")], None])

    def init(**_: object) -> None:
        if (error := next(answers)) is not None:
            raise error

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "nodes", list)
    monkeypatch.setattr(ray_workers, "SECONDS_TO_JOIN_AGAIN", (0.0, 0.0))
    refused = contextlib.nullcontext() if joins else pytest.raises(ProcessError, match="Initiali")
    with refused, joined_ray("ray://head:10001") as nodes:
        assert nodes == []


def test_a_cluster_that_is_gone_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray keeps a note of where its head was, also after that was killed."""
    ray = pytest.importorskip("ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    asked: list[object] = []
    monkeypatch.setattr(ray, "init", lambda **how: asked.append(how["address"]))
    monkeypatch.setattr(ray, "nodes", list)
    with socket.create_server(("127.0.0.1", 0)) as head:
        noted = f"127.0.0.1:{head.getsockname()[1]}"
        monkeypatch.setattr("ray._private.utils.read_ray_address", lambda: noted)
        with joined_ray(None):
            assert asked == ["auto"]
    with joined_ray(None):
        assert asked == ["auto", "local"]


def test_a_gpu_gets_the_cores_that_decode_for_it() -> None:
    assert ray_places([33, 33], 2, ON_GPU) == (Places(1, 1, 32), 2)
    assert ray_places([8, 8], 8, ON_GPU) == (Places(1, 1, 1), 8)
    assert ray_places([0, 1, 1, 1], 0, "openvino-bf16") == (Places(1), 3)
    assert ray_places([64, 64], 0, "openvino-bf16") == (Places(4), 32)
    assert ray_places([2], 0, "openvino-fp32") == (Places(1), 2)
    assert ray_places([], 0, "openvino-fp32") == (Places(4), 1)


@pytest.mark.slow
def test_where_a_cluster_has_gpus_they_encode_or_the_run_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray believes that there is one, and is joined by the program before."""
    ray, torch = pytest.importorskip("ray"), pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("needs a machine without a GPU")
    for name, value in PATIENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("ray._private.ray_constants.ENABLE_RAY_CLUSTER", False)
    ray.init(
        address="local", _node_ip_address="127.0.0.1", num_cpus=2, num_gpus=1,
        include_dashboard=False, log_to_driver=False,
    )  # fmt: skip
    try:
        with pytest.raises(BackboneError, match="no CUDA device"):
            Retriever(folder.parent / "g.imgret").index(folder, cluster="ray")
        assert ray.is_initialized()
    finally:
        ray.shutdown()
    assert rows(folder.parent / "g.imgret") == {}

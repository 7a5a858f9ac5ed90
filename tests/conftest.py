"""What several tests need: a network small enough for a test, pictures, the command as a process.

Real images and weights lie in ../shared, or where IMGRET_TEST_DATA points; tests that need them
are skipped, saying so, where they are absent.
"""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tarfile
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import hypothesis
import pytest

from benchmarks.milvus_server import MilvusProcess
from tests.samples import command_environment, command_line, save_pictures, save_weights

ROOT = Path(__file__).parent.parent
SHARED = Path(os.environ.get("IMGRET_TEST_DATA", ROOT.parent / "shared"))

WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
if WORKERS > 1:  # each its share, before torch counts the cores
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // WORKERS)))

hypothesis.settings.register_profile("imgret", deadline=None)  # no test asserts a time
hypothesis.settings.load_profile("imgret")

LONGEST = (  # take half a minute each; begun last, one would run alone at the end
    "test_commands.py", "test_readme.py", "test_crashes.py", "test_strangers.py", "test_names.py",
    "test_api.py", "test_streams.py", "test_classify_commands.py", "test_backbones_command.py",
    "test_plan.py", "test_mini.py", "test_lazy_figures.py", "test_interrupted.py",
    "test_bit_rot.py", "test_imports.py", "test_cluster.py",
)  # fmt: skip


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache of exported encoders for all tests, apart from the user's."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(cache: Path) -> Iterator[None]:
    """Before any other fixture, since those of a session export encoders too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMGRET_CACHE", str(cache))
        patch.delenv("IMGRET_GALLERY", raising=False)
        yield


@pytest.fixture(scope="session", autouse=True)
def _interruptible() -> Iterator[None]:
    """Processes of a test heed Ctrl-C, also where the tests were started in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as timm writes it: a small real architecture with random weights, 64 px."""
    return save_weights(tmp_path_factory.mktemp("weights") / "small", seed=0)


@pytest.fixture(scope="session")
def other_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same architecture with other weights."""
    return save_weights(tmp_path_factory.mktemp("weights") / "other", seed=1)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of 24 pictures in 3 classes: pictures/<class>/<n>.jpg."""
    return save_pictures(tmp_path / "pictures")


@pytest.fixture
def imgret(tmp_path: Path, cache: Path) -> Command:
    """The command as users run it: a process of its own, in tmp_path."""

    def run(*arguments: object, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command_line(*arguments),
            input=stdin,
            cwd=tmp_path,
            env=command_environment(cache),
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


@pytest.fixture
def inline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Command:
    """The command's main() in this process, in tmp_path: spares each call seconds of imports."""
    from imgret.cli import main

    def run(*arguments: object, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        argv = ["imgret", *map(str, arguments)]
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", argv)
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO((stdin or "").encode())))
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        monkeypatch.setenv("COLUMNS", "200")
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended, warnings.catch_warnings():
            main()
        out, err = capfd.readouterr()
        return subprocess.CompletedProcess(argv, int(str(ended.value.code)), out, err)

    return run


@pytest.fixture(scope="session")
def milvus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusProcess]:
    """The real Milvus server, of the package `milvus`; CONTRIBUTING.md says how to get it."""
    for name in ("milvus", "pymilvus"):
        if find_spec(name) is None:
            pytest.skip(f"needs a Milvus server, and {name} is not installed")
    if MilvusProcess.runs_elsewhere():
        pytest.skip("needs a Milvus server, and one is running on this machine already")
    server = MilvusProcess(tmp_path_factory.mktemp("milvus"))
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and weights."""
    if not (SHARED / "data").is_dir():
        pytest.skip(f"needs real images and weights, and {SHARED} has none")
    return SHARED


@pytest.fixture(scope="session")
def mobilenetv2(shared: Path) -> Path:
    """MobileNetV2 with its ImageNet weights."""
    return shared / "weights" / "mobilenetv2_100.in1k"


@pytest.fixture(scope="session")
def cars(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs of cars: cars/{train,test}/<class>/<id>.jpg."""
    folder = tmp_path_factory.mktemp("data")
    with tarfile.open(shared / "data" / "cars.tar") as archive:
        archive.extractall(folder, filter="data")
    return folder / "cars"


@pytest.fixture
def one_thread() -> Iterator[None]:
    """One thread of torch's while a test runs."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)

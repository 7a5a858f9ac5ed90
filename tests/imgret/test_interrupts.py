"""Ctrl-C, given to real processes while one picture is slow to decode."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from retrieval.gallery import Gallery
from tests.conftest import Command
from tests.samples import command_environment, command_line, picture

SLOW_SIDE = 11_000  # pixels of a side, of four channels of 16 bits
LEFT_OF_SLOW = 2.5  # seconds of computing; to decode it to its end takes more
INTERRUPTED = 130

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")


@pytest.fixture(scope="session")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PNG of 1 MB that takes some seconds to decode."""
    from tests.retrieval.test_costs import blank_png

    path = tmp_path_factory.mktemp("slow") / "zz-slow.png"
    path.write_bytes(blank_png(SLOW_SIDE, SLOW_SIDE, 16, 6))
    return path


@pytest.fixture
def folder(tmp_path: Path, slow: Path) -> Path:
    """40 pictures, more than the encoder takes at a time, and behind them the slow one."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for n in range(40):
        picture(n).save(folder / f"{n:02}.jpg")
    (folder / slow.name).symlink_to(slow)
    return folder


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path, cache: Path) -> Iterator[Start]:
    """Start the command as a process that hears Ctrl-C."""
    started: list[subprocess.Popen[str]] = []

    def run(*arguments: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command_line(*arguments), cwd=tmp_path, env=command_environment(cache), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def cpu_of(task: Path) -> float:
    """Seconds that a process or one thread has computed, from its folder in /proc."""
    try:
        fields = (task / "stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cpu_of_decoders(process: subprocess.Popen[str]) -> float:
    """Seconds that one thread of a process has computed at most, other than its first one."""
    tasks = Path(f"/proc/{process.pid}/task").iterdir()
    return max([0.0, *(cpu_of(task) for task in tasks if task.name != str(process.pid))])


def interrupted(process: subprocess.Popen[str]) -> str:
    """What a process says after Ctrl-C, which ends it before the slow picture is decoded."""
    ended_before, computed = cpu_of_ended(), cpu_of(Path(f"/proc/{process.pid}"))
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=300)
    assert cpu_of_ended() - ended_before - computed < LEFT_OF_SLOW
    return said


def cpu_of_ended() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def wait_until_slow(process: subprocess.Popen[str], seconds: float = 1.0) -> None:
    """Until a thread has been decoding for so long that it must be the slow picture."""
    until = time.monotonic() + 120
    while cpu_of_decoders(process) < seconds:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.02)


needs_proc = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")


@pytest.mark.long
@needs_proc
def test_the_first_ends_an_index_run_and_stores_what_is_encoded(
    folder: Path, start: Start, imgret: Command, tmp_path: Path
) -> None:
    imgret("index", folder / "00.jpg", "--gallery", "warm.imgret")  # exports the encoder
    process = start("index", folder, "--gallery", "g.imgret", "--batch-size", 8)
    wait_until_slow(process)
    said = interrupted(process)
    assert process.returncode == INTERRUPTED
    assert "What was stored stays" in said
    assert Gallery(tmp_path / "g.imgret").open_table().count() >= 40


@pytest.mark.long
@needs_proc
@pytest.mark.parametrize("command", ["query", "evaluate"])
def test_the_first_ends_other_commands_that_decode(
    command: str, folder: Path, slow: Path, start: Start, imgret: Command
) -> None:
    (folder / slow.name).unlink()
    imgret("index", folder, "--gallery", "g.imgret")
    queries = folder.parent / "queries" / "pictures"
    queries.mkdir(parents=True)
    picture(1).save(queries / "a.jpg")
    (queries / slow.name).symlink_to(slow)
    given = sorted(queries.iterdir()) if command == "query" else ["--queries", queries.parent]
    process = start(command, *given, "--gallery", "g.imgret")
    wait_until_slow(process)
    interrupted(process)
    assert process.returncode == INTERRUPTED


def test_a_second_ends_a_command_at_once_whatever_it_does(tmp_path: Path) -> None:
    script = (
        "import time, signal\n"
        "from imgret.interrupts import second_interrupt_ends_at_once\n"
        "with second_interrupt_ends_at_once():\n"
        "    signal.signal(signal.SIGINT, lambda *_: None)\n"  # nobody obeys the first
        "    print('ready', flush=True)\n"
        "    sum(x * x for x in range(10**12))\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(5) == INTERRUPTED


def test_the_first_ends_a_command_without_pythons_own_end(tmp_path: Path) -> None:
    # which unwinds threads that were left behind in C++, and aborts there
    script = (
        "import atexit, os, signal, sys, threading\n"
        "atexit.register(print, 'Python has ended')\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "sys.argv = ['imgret', 'query', '-']\n"
        "from imgret.cli import main\n"
        "threading.Timer(2.0, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "main()\n"
    )
    command = [sys.executable, "-c", script]
    with subprocess.Popen(
        command, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.wait(30) == INTERRUPTED  # nothing comes to its standard input
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read() == b""
        assert b"What was stored stays" in process.stderr.read()


def test_the_way_signals_were_heard_is_restored() -> None:
    from imgret.interrupts import second_interrupt_ends_at_once

    before = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(before)
    with second_interrupt_ends_at_once():
        pass
    after = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(after)
    assert after == before


def test_an_interrupt_waits_for_what_belongs_together() -> None:
    # in a process of its own: an interrupt of this one may be heeded by whatever runs the tests
    code = (
        "import signal\n"
        "from retrieval.interrupts import interrupts_wait\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "try:\n"
        "    with interrupts_wait():\n"
        "        signal.raise_signal(signal.SIGINT)\n"
        "        print('whole')\n"
        "except KeyboardInterrupt:\n"
        "    print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["whole", "True"], done.stderr

"""Galleries as they lie on the disk, and processes that are killed while they write to one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retrieval.files import leftovers
from retrieval.gallery.versions import versions_of
from retrieval.retriever import Retriever
from tests.samples import command_environment, picture

State = dict[str, tuple[Any, ...]]
COLUMNS = ["id", "path", "root", "size", "mtime_ns", "sha256", "label", "error", "embedding"]


def save_small(folder: Path, *names: str, first: int = 0) -> Path:
    """A small picture for each name such as "a/00.png"; no two look alike."""
    for n, name in enumerate(names, first):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        picture(n, 32, 24).save(file)
        age(file)
    return folder


def age(file: Path) -> None:
    """Let a file be written to long ago, so that its time stamp is trusted."""
    os.utime(file, (1e9 + 0.5, 1e9 + 0.5))


def rows(gallery: Path) -> dict[str, dict[str, Any]]:
    """The stored rows by path."""
    table = Retriever(gallery).gallery.open_table()
    return {row["path"]: row for row in table.columns(COLUMNS).to_pylist()}


def state(gallery: Path) -> State:
    """What is stored, without what differs from run to run: by path, all but the id."""
    return {
        path: (
            *(row[name] for name in COLUMNS[2:-1]),
            tuple(np.round(np.array(row["embedding"] or [], float), 2)),
        )
        for path, row in rows(gallery).items()
    }


def faults(gallery: Path) -> list[str]:
    """What is not as a finished command leaves it."""
    retriever = Retriever(gallery)
    found = list(retriever.verify().problems)
    stored = rows(gallery)
    if len({row["id"] for row in stored.values()}) != len(stored):
        found.append("two rows have the same id")
    if retriever.gallery.open_table().count() != len(stored):
        found.append("two rows have the same path")
    state = retriever.gallery.settings().index
    needed = retriever.gallery.index_files_needed(state) if state else []
    indexes = set(gallery.glob("index-*"))
    if not needed or indexes != set(needed):
        found.append(f"the indexes are {sorted(file.name for file in indexes)}")
    if len(versions_of(gallery / "images.lance")) != 1:
        found.append("old versions are kept")
    named = {file.name for file in retriever.gallery.open_table().files()}
    data = {file.name for file in (gallery / "images.lance" / "data").iterdir()}
    if not data <= named:
        found.append(f"data files that no version names: {data - named}")
    left = [*leftovers(gallery), *retriever.info().leftovers]
    return [*found, *(f"left over: {path}" for path in left)]


# Reads a line of Python, runs it in a fork and writes how that ended: spares each the imports.
# Nothing of Lance, OpenVINO or OpenMP runs before the fork, so that a child is as a new process.
ZYGOTE = """
import json, os, signal, sys
import numpy, faiss, lance, pyarrow
import retrieval.retriever.retriever
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        code = 70
        try:
            exec(compile(json.loads(line), "given", "exec"), {})
            code = 0
        except KeyboardInterrupt:
            code = 130
        except BaseException as error:
            print(type(error).__name__, error, file=sys.stderr, flush=True)
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""

# What the code of a zygote's child may use.
PRELUDE = """
import importlib, os, signal
from retrieval.retriever import Retriever, writer
writer.ROWS_PER_COMMIT = 4

def at(point, act, nth=1):
    # act() before or after the nth call, as in "before retrieval.files:sync"
    when, _, name = point.partition(" ")
    module, _, attributes = name.partition(":")
    owner = importlib.import_module(module)
    *owners, last = attributes.split(".")
    for attribute in owners:
        owner = getattr(owner, attribute)
    real, calls = getattr(owner, last), []
    def called(*args, **named):
        calls.append(1)
        if when == "before" and len(calls) == nth:
            act()
        result = real(*args, **named)
        if when == "after" and len(calls) == nth:
            act()
        return result
    setattr(owner, last, called)

def die():
    os.kill(os.getpid(), signal.SIGKILL)
"""


@dataclass
class Zygote:
    """Runs Python in processes of their own."""

    process: subprocess.Popen[str]

    def run(self, code: str) -> int:
        """The exit code of a process that ran this after PRELUDE; negative for a signal."""
        if self.process.stdin is None or self.process.stdout is None:
            raise ValueError("it has no pipes")
        self.process.stdin.write(json.dumps(PRELUDE + code) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def killed(self, code: str, point: str, nth: int = 1) -> bool:
        """Whether the code was killed at a point; else it ended well without coming there."""
        ended = self.run(f"at({point!r}, die, {nth})\n{code}")
        if ended not in (0, -signal.SIGKILL):
            raise ValueError(f"it ended with {ended}")
        return ended != 0


@contextmanager
def zygote(cache: Path) -> Iterator[Zygote]:
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", ZYGOTE],
        env=command_environment(cache) | {"OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Zygote(process)
    finally:
        if process.stdin is not None:
            process.stdin.close()
        process.wait(timeout=300)
        if process.stdout is not None:
            process.stdout.close()


@contextmanager
def small_disk(place: Path, size: int) -> Iterator[Path]:
    """A file system in memory of so many bytes at a place; who may not mount one skips the test."""
    place.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={-(-size // 4096) * 4096}", "tmpfs", str(place)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)

"""Blocks of pages, run as a reader would run them."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT
from tests.pages import Block
from tests.samples import command_environment

RUN = ("bash", "console", "python")
NUMBER = re.compile(r"\d+")
SHELL = ["bash", "-euo", "pipefail", "-c"]


def follow(found: list[Block], folder: Path, cache: Path) -> None:
    """Run the blocks in an empty folder; what a page shows of a command is what it says.

    Digits aside, since scores differ between engines in the last one.
    """
    environment = command_environment(cache) | _command_of_this_checkout(folder.parent / "bin")
    folder.mkdir()
    for block in found:
        runs = [sys.executable, "-c"] if block.language == "python" else SHELL
        for command, shown in _commands(block):
            done = subprocess.run(
                [*runs, command], cwd=folder, env=environment, capture_output=True, text=True,
                timeout=600,
            )  # fmt: skip
            assert done.returncode == 0, f"{command}\n{done.stdout[-500:]}{done.stderr}"
            said = [NUMBER.sub("0", line) for line in done.stdout.splitlines()]
            assert [line for line in shown if NUMBER.sub("0", line) not in said] == [], command


def _commands(block: Block) -> list[tuple[str, list[str]]]:
    """The commands of a block, each with the lines that a console shows after it."""
    if block.language == "python":
        return [(block.text, [])]
    if block.language == "bash":
        return [(line, []) for line in block.text.replace("\\\n", " ").splitlines()]
    found: list[tuple[str, list[str]]] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        else:
            found[-1][1].append(line)
    return found


def _command_of_this_checkout(folder: Path) -> dict[str, str]:
    folder.mkdir()
    command = folder / "imgret"
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m imgret "$@"\n')
    command.chmod(0o755)
    return {"PATH": os.pathsep.join([str(folder), os.environ["PATH"]]), "PYTHONPATH": str(ROOT)}

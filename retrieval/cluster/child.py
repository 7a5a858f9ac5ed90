"""A fresh interpreter beside this one, with a connection to it.

Unlike multiprocessing's it does not import the script that the user runs, and it is not forked:
Lance, OpenVINO and FAISS have threads, which a fork leaves behind with their locks held. What
passes through the connection is private to both.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path


def start_child(
    place: str, environment: Mapping[str, str] | None = None
) -> tuple[subprocess.Popen[bytes], Connection]:
    """Start a process that calls a function with the number of its end of the connection.

    place: "module:function". environment: variables beside those of this process. The connection
    tells EOF as soon as the process has ended, and the process is told so when this one has.
    """
    module, _, function = place.partition(":")
    code = f"import sys; from {module} import {function}; {function}(int(sys.argv[1]))"
    path = os.pathsep.join(filter(None, (entry or working_folder() for entry in sys.path)))
    ours, theirs = socket.socketpair()
    try:
        with theirs:
            process = subprocess.Popen(  # noqa: S603  our own interpreter, not the folder it is in
                [sys.executable, "-P", "-W", "ignore", "-c", code, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": path, **(environment or {})},
            )
    except BaseException:
        ours.close()
        raise
    return process, Connection(ours.detach())


def working_folder() -> str:
    """Return the working directory, "" where it is gone."""
    try:
        return str(Path.cwd())
    except OSError:
        return ""

"""Whether anybody listens at a host and a port, asked before a library that would wait for long."""

from __future__ import annotations

import socket

from retrieval.text import one_sentence

CONNECTS_WITHIN = 3.0  # seconds


def why_unreachable(host: str, port: int) -> str:
    """Say why nobody listens there; "" where somebody does."""
    try:
        socket.create_connection((host, port), CONNECTS_WITHIN).close()
    except OSError as error:
        return one_sentence(error)
    return ""

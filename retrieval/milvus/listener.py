"""What listens at a host and a port, where pymilvus says only that it is not what it expects."""

from __future__ import annotations

import socket

from retrieval.reached import CONNECTS_WITHIN

GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
SETTINGS = 4  # the kind of frame that HTTP/2 begins with (RFC 9113, section 3.4)
PROTOCOLS = {b"HTTP/": "HTTP", b"\x15\x03": "TLS"}  # by how their servers refuse the greeting


def first_answer(host: str, port: int) -> bytes | None:
    """Greet as a client of HTTP/2 and return how the answer begins; None where none comes.

    b"" where the connection ends instead.
    """
    try:
        with socket.create_connection((host, port), CONNECTS_WITHIN) as asking:
            asking.sendall(GREETING)
            return asking.recv(64)
    except TimeoutError:
        return None
    except OSError:
        return b""


def other_protocol(answer: bytes) -> str:
    """Name the protocol of a server by how it answers; "" for that of gRPC.

    >>> other_protocol(b"HTTP/1.1 400 Bad Request"), other_protocol(b"220 mail ready")
    ('HTTP', 'another protocol')
    >>> other_protocol(bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
    ''
    """
    if answer[:1] == b"\0" and answer[3:4] == bytes([SETTINGS]):
        return ""
    known = (name for begin, name in PROTOCOLS.items() if answer.startswith(begin))
    return next(known, "another protocol")

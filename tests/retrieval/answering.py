"""A server of gRPC on loopback that lets a client of Milvus connect, and then answers as told."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any


@contextlib.contextmanager
def answering(answer: Any) -> Iterator[int]:
    """Give its port. answer: takes gRPC's context of each call but the first, Connect."""
    import grpc  # type: ignore[import-untyped]

    class Handler(grpc.GenericRpcHandler):  # type: ignore[misc]
        def service(self, details: Any) -> Any:
            connects = details.method.endswith("/Connect")
            return grpc.unary_unary_rpc_method_handler(
                lambda _, context: b"" if connects else answer(context)
            )

    server = grpc.server(ThreadPoolExecutor(4), handlers=[Handler()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield int(port)
    finally:
        server.stop(None)

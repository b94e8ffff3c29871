"""
A tiny gRPC server on bytes: it counts, echoes, refuses and streams, for the tests of the proxy.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import grpc

SERVICE = "dapr.proto.runtime.v1.Dapr"


class CountingServer:
    """
    ``SaveState`` keeps what it got; ``GetState`` tells; ``DeleteState`` refuses; ``SubscribeEcho`` is a stream.
    """

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.metadata: list[tuple[str, str]] = []
        self.arrived = threading.Semaphore(0)
        self._lock = threading.Lock()
        self._server = grpc.server(ThreadPoolExecutor(16))
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE, self._handlers()),)
        )
        self.port = self._server.add_insecure_port("127.0.0.1:0")

    def _handlers(self) -> dict[str, Any]:
        return {
            "SaveState": grpc.unary_unary_rpc_method_handler(self._save),
            "GetState": grpc.unary_unary_rpc_method_handler(
                lambda request, context: b"/".join(self.received)
            ),
            "DeleteState": grpc.unary_unary_rpc_method_handler(self._refuse),
            "SubscribeEcho": grpc.stream_stream_rpc_method_handler(self._echo),
        }

    def _save(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        with self._lock:
            self.received.append(request)
            count = len(self.received)
        self.metadata = [(key, value) for key, value in context.invocation_metadata()]
        self.arrived.release()
        return b"%d" % count

    def _refuse(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        context.set_trailing_metadata((("x-reason", "stale"), ("detail-bin", b"\x00\xff")))
        context.abort(grpc.StatusCode.ABORTED, "etag mismatch")
        raise AssertionError("abort raises")

    def _echo(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        for request in requests:
            if request == b"break":
                context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "enough")
            yield request * 2

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(None).wait()

"""
The wire of the fault proxy: generic gRPC handlers that pass bytes and do what the proxy decides.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import grpc
import grpc.aio
from typing_extensions import override

if TYPE_CHECKING:
    from toolkit.testing.proxy import FaultProxy

# Services whose methods are unary but for these; methods of any other service are passed as streams, which on the wire
# a unary call is too, only slower.
STREAMS: Final = {
    "dapr.proto.runtime.v1.Dapr": ("Stream", "Subscribe", "Encrypt", "Decrypt", "Converse", "SubscribeActor"),
    "TaskHubSidecarService": ("GetWorkItems", "Stream"),
}

OPTIONS: Final = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_retries", 0),
    ("grpc.use_local_subchannel_pool", 1),
)

Metadata: TypeAlias = "Sequence[tuple[str, str | bytes]]"
Context: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"


def is_unary(path: str) -> bool:
    """
    Whether the method at *path* (``/service/Method``) is known to take one message and give one.
    """
    _, service, method = path.split("/")
    prefixes = STREAMS.get(service)
    return prefixes is not None and not method.startswith(prefixes)


class Wire(grpc.GenericRpcHandler):
    """
    One server, one channel upstream, and the late duplicates between them.
    """

    def __init__(self, upstream: str, proxy: FaultProxy) -> None:
        self._proxy = proxy
        self._channel = grpc.aio.insecure_channel(upstream, options=OPTIONS)
        self._server = grpc.aio.server(options=(*OPTIONS, ("grpc.so_reuseport", 0)))
        self._server.add_generic_rpc_handlers((self,))
        self._calls: dict[str, Callable[..., Any]] = {}
        self._waiting: set[asyncio.Event] = set()
        self._late: set[asyncio.Task[None]] = set()

    async def start(self, port: int) -> int:
        bound = self._server.add_insecure_port(f"127.0.0.1:{port}")
        await self._server.start()
        return bound

    async def stop(self) -> None:
        for task in self._late:
            task.cancel()
        await self._server.stop(None)
        await self._channel.close()

    async def flush(self) -> None:
        """
        Send all late duplicates now and wait for their answers.
        """
        self._release()
        await asyncio.gather(*self._late)

    @override
    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        path: str = handler_call_details.method
        if is_unary(path):
            method = path.rsplit("/", 1)[1]

            # grpc.aio looks at the function itself, so these must be coroutine and generator functions.
            async def unary(request: bytes, context: Context) -> bytes:
                return await self._unary(path, method, request, context)

            return grpc.unary_unary_rpc_method_handler(unary)

        async def stream(requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
            async for reply in self._stream(path, requests, context):
                yield reply

        return grpc.stream_stream_rpc_method_handler(stream)

    async def _unary(self, path: str, method: str, request: bytes, context: Context) -> bytes:
        fault = self._proxy.decide(method)
        if fault == "drop_request":
            await context.abort(grpc.StatusCode.UNAVAILABLE, "fault proxy: the request was dropped")
        elif fault == "hang":
            await asyncio.Event().wait()  # until the client gives up, or the proxy stops
        elif fault == "delay":
            await asyncio.sleep(self._proxy.hold())
        metadata = _passed(context.invocation_metadata())
        try:
            reply = await self._call(path, request, metadata, context.time_remaining())
            if fault == "duplicate":
                reply = await self._call(path, request, metadata, context.time_remaining())
        except grpc.aio.AioRpcError as error:
            if fault == "drop_reply":
                await context.abort(grpc.StatusCode.UNAVAILABLE, "fault proxy: the reply was dropped")
            await context.abort(error.code(), error.details() or "", tuple(error.trailing_metadata() or ()))
        if fault == "drop_reply":
            await context.abort(grpc.StatusCode.UNAVAILABLE, "fault proxy: the reply was dropped")
        if self._waiting and self._proxy.is_write(method):
            self._release()
        if fault == "late_duplicate":
            self._send_later(path, request, metadata)
        return reply

    def _call(self, path: str, request: bytes, metadata: Metadata, timeout: float | None) -> Awaitable[bytes]:
        if path not in self._calls:
            self._calls[path] = self._channel.unary_unary(path)
        answer: Awaitable[bytes] = self._calls[path](request, metadata=metadata, timeout=timeout)
        return answer

    # Late duplicates -------------------------------------------------------------------------------------------------

    def _release(self) -> None:
        for event in self._waiting:
            event.set()
        self._waiting.clear()

    def _send_later(self, path: str, request: bytes, metadata: Metadata) -> None:
        async def send() -> None:
            try:
                await asyncio.wait_for(event.wait(), self._proxy.late_after)
            except TimeoutError:
                self._waiting.discard(event)
            try:
                await self._call(path, request, metadata, 10.0)
            except grpc.aio.AioRpcError:
                return  # refused: nobody is there to be told

        event = asyncio.Event()
        self._waiting.add(event)
        task = asyncio.create_task(send())
        self._late.add(task)
        task.add_done_callback(self._late.discard)

    # Streams ---------------------------------------------------------------------------------------------------------

    async def _stream(
        self, path: str, requests: AsyncIterator[bytes], context: Context
    ) -> AsyncIterator[bytes]:
        channel: Any = self._channel  # its types know only messages with serializers
        call = channel.stream_stream(path)(
            requests, metadata=_passed(context.invocation_metadata()), timeout=context.time_remaining()
        )
        try:
            await context.send_initial_metadata(tuple(await call.initial_metadata()))
            async for reply in call:
                yield reply
            code: grpc.StatusCode = await call.code()
            details: str = await call.details() or ""
            trailing: Any = await call.trailing_metadata()
        except grpc.aio.AioRpcError as error:
            code, details, trailing = error.code(), error.details() or "", error.trailing_metadata()
        finally:
            call.cancel()
        if code is not grpc.StatusCode.OK:
            await context.abort(code, details, tuple(trailing or ()))


def _passed(metadata: Any) -> Metadata:
    return tuple(
        (key, value) for key, value in metadata or () if key != "user-agent" and not key.startswith("grpc-")
    )

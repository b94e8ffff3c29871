"""
A state store behind a sidecar: one port per colour, and threads for event loops other than asyncio.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Final, TypeVar

import anyio
import anyio.lowlevel
import anyio.to_thread
import grpc

from toolkit._interrupts import let_go
from toolkit.core.model import OK, UNSENT, Reply, Row, Write
from toolkit.dapr.address import Address, Token
from toolkit.dapr.channel import Requests, aio_channel, reply_of, scope_cancelled, sync_channel
from toolkit.dapr.helpers import Helpers
from toolkit.dapr.startup import Startup
from toolkit.ports import Component

R = TypeVar("R")

_POLL: Final = 0.1
_CALL: Final = 2.0
_THREADS: Final = 64


class GrpcPort:
    """
    The sync colour, on a channel of its own.
    """

    def __init__(self, store: str, address: Address, token: Token) -> None:
        self.store, self.address, self.token = store, address, token
        self._requests = Requests(store)
        self._closed = threading.Event()
        self._helpers = Helpers(f"occ-{store}-call", _THREADS)
        self._channel: grpc.Channel | None = None
        self._stub: Any = None

    def connect(self, timeout: float) -> Component:
        from dapr.proto import api_service_v1, api_v1

        self._channel = sync_channel(self.address)
        self._stub = api_service_v1.DaprStub(self._channel)
        startup = Startup(self.store, self.address, timeout)
        try:
            while True:
                component = startup.judge(
                    self._call(self._stub.GetMetadata, api_v1.GetMetadataRequest(), _CALL)
                )
                if component is not None:
                    return component
                if self._closed.wait(_POLL):
                    raise RuntimeError(f"store {self.store!r} was closed while it waited for the sidecar")
        except BaseException:
            self.close()
            raise

    def _call(self, method: Callable[..., Any], request: Any, timeout: float) -> Any:
        try:
            return method(request, timeout=timeout, metadata=self.token.metadata())
        except grpc.RpcError as error:
            return reply_of(error)
        except ValueError as error:  # the channel was closed under a call, or there is no token
            return Reply(UNSENT, str(error))
        except BaseException as error:
            let_go(error)
            raise

    def get(self, key: str, *, strong: bool, timeout: float) -> Row | Reply:
        answer = self._call(self._stub.GetState, self._requests.get(key, strong=strong), timeout)
        return answer if isinstance(answer, Reply) else Row(answer.data, answer.etag)

    def get_all(self, keys: Sequence[str], *, strong: bool, timeout: float) -> tuple[Row | Reply, ...]:
        if len(keys) == 1:
            return (self.get(keys[0], strong=strong, timeout=timeout),)
        calls = [(self._stub.GetState, self._requests.get(key, strong=strong)) for key in keys]
        return tuple([_row(answer) for answer in self._together(calls, timeout)])

    def get_bulk(self, keys: Sequence[str], *, timeout: float) -> tuple[Row | Reply, ...]:
        answer = self._call(self._stub.GetBulkState, self._requests.bulk(tuple(keys)), timeout)
        return _bulk(keys, answer)

    def put(self, write: Write, *, timeout: float) -> Reply:
        return _reply(self._call(*self._writing(write), timeout))

    def put_all(self, writes: Sequence[Write], *, timeout: float) -> tuple[Reply, ...]:
        if len(writes) == 1:
            return (self.put(writes[0], timeout=timeout),)
        calls = [self._writing(write) for write in writes]
        return tuple([_reply(answer) for answer in self._together(calls, timeout)])

    def _writing(self, write: Write) -> tuple[Any, Any]:
        """
        The method of a write, and its message.
        """
        if write.data is None:
            return self._stub.DeleteState, self._requests.delete(write)
        return self._stub.SaveState, self._requests.save(write)

    def _together(self, calls: Sequence[tuple[Any, Any]], timeout: float) -> list[Any]:
        """
        Several calls at once, in this thread and where no signal strikes: an interrupt between the start of a future of grpc
        and that of the thread which brings its answer leaves the channel without one.
        """
        jobs: SimpleQueue[tuple[int, tuple[Any, Any]]] = SimpleQueue()
        answers: SimpleQueue[tuple[int, Any]] = SimpleQueue()

        def work() -> None:
            with suppress(Empty):
                while True:
                    place, call = jobs.get_nowait()
                    try:
                        answers.put((place, self._call(*call, timeout)))
                    except BaseException as error:  # raised where it is waited for
                        answers.put((place, error))
                        if not isinstance(error, Exception):
                            raise

        def beside() -> None:
            with suppress(BaseException):  # whoever waits for the answer has it by then
                work()

        for job in enumerate(calls):
            jobs.put(job)
        for _ in calls[1 : _THREADS + 1]:
            self._helpers.help(beside)
        work()
        found = dict([answers.get() for _ in calls])
        for answer in found.values():
            if isinstance(answer, BaseException):
                raise answer
        return [found[place] for place in range(len(calls))]

    def multi(self, writes: Sequence[Write], *, timeout: float) -> Reply:
        answer = self._call(self._stub.ExecuteStateTransaction, self._requests.multi(tuple(writes)), timeout)
        return answer if isinstance(answer, Reply) else OK

    def close(self) -> None:
        self._closed.set()
        self._helpers.close()
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()


def _row(answer: Any) -> Row | Reply:
    return answer if isinstance(answer, Reply) else Row(answer.data, answer.etag)


def _reply(answer: Any) -> Reply:
    return answer if isinstance(answer, Reply) else OK


def _bulk(keys: Sequence[str], answer: Any) -> tuple[Row | Reply, ...]:
    if isinstance(answer, Reply):
        return tuple([answer for _ in keys])
    found: dict[str, Row | Reply] = {
        item.key: Reply("INTERNAL", item.error) if item.error else Row(item.data, item.etag)
        for item in answer.items
    }
    return tuple([found.get(key, Row(b"", "")) for key in keys])


class AioPort:
    """
    The async colour on grpc.aio, for one asyncio loop.
    """

    def __init__(self, store: str, address: Address, token: Token) -> None:
        self.store, self.address, self.token = store, address, token
        self._requests = Requests(store)
        self._channel: grpc.aio.Channel | None = None
        self._stub: Any = None
        self._whole = False
        self._reads: set[asyncio.Task[Any]] = set()

    def finish_reads(self) -> None:
        """
        From now on let a read go on to its end whose caller is cancelled; ``close`` waits for those.
        """
        self._whole = True

    async def connect(self, timeout: float) -> Component:
        from dapr.proto import api_service_v1, api_v1

        self._channel = aio_channel(self.address)
        self._stub = api_service_v1.DaprStub(self._channel)
        startup = Startup(self.store, self.address, timeout)
        try:
            while True:
                answer = await self._call(self._stub.GetMetadata, api_v1.GetMetadataRequest(), _CALL)
                component = startup.judge(answer)
                if component is not None:
                    return component
                await anyio.sleep(_POLL)
        except BaseException:
            await self.close()
            raise

    async def _call(self, method: Callable[..., Any], request: Any, timeout: float) -> Any:
        try:
            return await method(request, timeout=timeout, metadata=self.token.metadata())
        except asyncio.CancelledError:
            await scope_cancelled()
            raise
        except grpc.RpcError as error:
            return reply_of(error)
        except (grpc.aio.UsageError, ValueError) as error:  # closed under a call, or there is no token
            return Reply(UNSENT, str(error))

    async def _read(self, method: Callable[..., Any], request: Any, timeout: float) -> Any:
        if not self._whole:
            return await self._call(method, request, timeout)
        read = asyncio.create_task(self._call(method, request, timeout))
        self._reads.add(read)
        read.add_done_callback(self._reads.discard)
        return await asyncio.shield(read)

    async def get(self, key: str, *, strong: bool, timeout: float) -> Row | Reply:
        return _row(await self._read(self._stub.GetState, self._requests.get(key, strong=strong), timeout))

    async def get_all(self, keys: Sequence[str], *, strong: bool, timeout: float) -> tuple[Row | Reply, ...]:
        if len(keys) == 1:
            return (await self.get(keys[0], strong=strong, timeout=timeout),)
        return await _gather([self.get(key, strong=strong, timeout=timeout) for key in keys])

    async def get_bulk(self, keys: Sequence[str], *, timeout: float) -> tuple[Row | Reply, ...]:
        return _bulk(
            keys, await self._read(self._stub.GetBulkState, self._requests.bulk(tuple(keys)), timeout)
        )

    async def put(self, write: Write, *, timeout: float) -> Reply:
        if write.data is None:
            return _reply(await self._call(self._stub.DeleteState, self._requests.delete(write), timeout))
        return _reply(await self._call(self._stub.SaveState, self._requests.save(write), timeout))

    async def put_all(self, writes: Sequence[Write], *, timeout: float) -> tuple[Reply, ...]:
        if len(writes) == 1:
            return (await self.put(writes[0], timeout=timeout),)
        return await _gather([self.put(write, timeout=timeout) for write in writes])

    async def multi(self, writes: Sequence[Write], *, timeout: float) -> Reply:
        request = self._requests.multi(tuple(writes))
        return _reply(await self._call(self._stub.ExecuteStateTransaction, request, timeout))

    async def close(self) -> None:
        if self._reads:
            await asyncio.wait(self._reads)
        if self._channel is not None:
            channel, self._channel = self._channel, None
            await channel.close()


async def _gather(calls: Sequence[Coroutine[Any, Any, R]]) -> tuple[R, ...]:
    try:
        return tuple(await asyncio.gather(*calls))
    except asyncio.CancelledError:
        await scope_cancelled()
        raise


class ThreadPort:
    """
    Any sync port for any event loop, one worker thread a call: grpc.aio runs on asyncio alone.
    """

    def __init__(self, port: Any) -> None:
        self.port = port
        self._limiter: anyio.CapacityLimiter | None = None

    async def _run(self, call: Callable[[], R]) -> R:
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(_THREADS)
        return await anyio.to_thread.run_sync(call, limiter=self._limiter)

    async def _read(self, call: Callable[[], R]) -> R:
        """
        A thread is waited for even by a caller who was cancelled: what it read is nothing to build a write on then.
        """
        answer = await self._run(call)
        await anyio.lowlevel.checkpoint_if_cancelled()
        return answer

    async def connect(self, timeout: float) -> Component:
        try:
            component: Component = await anyio.to_thread.run_sync(
                self.port.connect, timeout, abandon_on_cancel=True
            )
        except anyio.get_cancelled_exc_class():
            # Ends the waiting in the thread, which nobody waits for.
            self.port.close()
            raise
        return component

    async def get(self, key: str, *, strong: bool, timeout: float) -> Row | Reply:
        row: Row | Reply = await self._read(lambda: self.port.get(key, strong=strong, timeout=timeout))
        return row

    async def get_all(self, keys: Sequence[str], *, strong: bool, timeout: float) -> tuple[Row | Reply, ...]:
        rows: tuple[Row | Reply, ...] = await self._read(
            lambda: self.port.get_all(keys, strong=strong, timeout=timeout)
        )
        return rows

    async def get_bulk(self, keys: Sequence[str], *, timeout: float) -> tuple[Row | Reply, ...]:
        rows: tuple[Row | Reply, ...] = await self._read(lambda: self.port.get_bulk(keys, timeout=timeout))
        return rows

    async def put(self, write: Write, *, timeout: float) -> Reply:
        reply: Reply = await self._run(lambda: self.port.put(write, timeout=timeout))
        return reply

    async def put_all(self, writes: Sequence[Write], *, timeout: float) -> tuple[Reply, ...]:
        replies: tuple[Reply, ...] = await self._run(lambda: self.port.put_all(writes, timeout=timeout))
        return replies

    async def multi(self, writes: Sequence[Write], *, timeout: float) -> Reply:
        reply: Reply = await self._run(lambda: self.port.multi(writes, timeout=timeout))
        return reply

    async def close(self) -> None:
        await self._run(self.port.close)

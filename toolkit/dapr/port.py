"""
A state store behind a sidecar: one port per colour, and threads for event loops other than asyncio.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import anyio
import anyio.to_thread
import grpc

from toolkit.core.model import OK, UNSENT, Reply, Row, Write
from toolkit.dapr.address import Address, Token
from toolkit.dapr.channel import Requests, aio_channel, component_of, reply_of, sync_channel
from toolkit.errors import SidecarUnavailableError, StoreError, UnknownStoreError
from toolkit.ports import Component

R = TypeVar("R")

_POLL: Final = 0.1
_CALL: Final = 2.0
# A component that is still being initialised shows up in the metadata a moment after the API answers.
_SETTLING: Final = 1.0
_THREADS: Final = 64


class Startup:
    """
    The waiting for a late sidecar, without the waiting: what to think of each answer to a metadata call.
    """

    def __init__(self, store: str, address: Address, timeout: float) -> None:
        self.store, self.address, self.timeout = store, address, timeout
        self.started = time.monotonic()
        self.answered: float | None = None
        self.last = "no answer yet"

    @property
    def over(self) -> bool:
        return time.monotonic() - self.started >= self.timeout

    def judge(self, answer: Any) -> Component | None:
        """
        The component, or ``None`` to ask again.

        Raises:
            SidecarUnavailableError: The time is up; says the last reason.
            UnknownStoreError: The sidecar is up and has no such store.
            StoreError: The sidecar refuses the token.
        """
        if isinstance(answer, Reply):
            return self._failed(answer)
        component, names = component_of(self.store, answer)
        if component is not None:
            return component
        self.answered = self.answered or time.monotonic()
        if time.monotonic() - self.answered < min(_SETTLING, self.timeout):
            return None
        loaded = ", ".join(names) if names else "none"
        raise UnknownStoreError(
            f"the sidecar at {self.address} has no state store {self.store!r}; loaded for this app: {loaded}. "
            f"A component with `scopes` for other app ids is not among them; check its name, its scopes and --app-id",
            available=names,
        )

    def _failed(self, answer: Reply) -> Component | None:
        if answer.code in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
            raise StoreError(
                f"the sidecar at {self.address} refuses the Dapr API token ({answer.code}): check api_token="
            )
        if answer.code in ("UNIMPLEMENTED", "NOT_FOUND"):
            return Component(self.store, "", "")
        self.last = f"{answer.code}: {answer.text[:160]}"
        if self.over:
            raise SidecarUnavailableError(
                f"no Dapr sidecar answered at {self.address} within {self.timeout:g} s ({self.last}); "
                f"start it (`occ run -- CMD`, `dapr run`), or set DAPR_GRPC_ENDPOINT or address="
            )
        return None


class GrpcPort:
    """
    The sync colour, on a channel of its own.
    """

    def __init__(self, store: str, address: Address, token: Token) -> None:
        self.store, self.address, self.token = store, address, token
        self._requests = Requests(store)
        self._closed = threading.Event()
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

    def get(self, key: str, *, strong: bool, timeout: float) -> Row | Reply:
        answer = self._call(self._stub.GetState, self._requests.get(key, strong=strong), timeout)
        return answer if isinstance(answer, Reply) else Row(answer.data, answer.etag)

    def get_all(self, keys: Sequence[str], *, strong: bool, timeout: float) -> tuple[Row | Reply, ...]:
        if len(keys) == 1:
            return (self.get(keys[0], strong=strong, timeout=timeout),)
        metadata = self.token.metadata()
        calls = [
            self._stub.GetState.future(
                self._requests.get(key, strong=strong), timeout=timeout, metadata=metadata
            )
            for key in keys
        ]
        return tuple([_row(_result(call)) for call in calls])

    def get_bulk(self, keys: Sequence[str], *, timeout: float) -> tuple[Row | Reply, ...]:
        answer = self._call(self._stub.GetBulkState, self._requests.bulk(tuple(keys)), timeout)
        return _bulk(keys, answer)

    def put(self, write: Write, *, timeout: float) -> Reply:
        if write.data is None:
            answer = self._call(self._stub.DeleteState, self._requests.delete(write), timeout)
        else:
            answer = self._call(self._stub.SaveState, self._requests.save(write), timeout)
        return answer if isinstance(answer, Reply) else OK

    def put_all(self, writes: Sequence[Write], *, timeout: float) -> tuple[Reply, ...]:
        if len(writes) == 1:
            return (self.put(writes[0], timeout=timeout),)
        metadata = self.token.metadata()
        calls = [self._future(write, timeout, metadata) for write in writes]
        return tuple([_reply(_result(call)) for call in calls])

    def _future(self, write: Write, timeout: float, metadata: Any) -> Any:
        if write.data is None:
            return self._stub.DeleteState.future(
                self._requests.delete(write), timeout=timeout, metadata=metadata
            )
        return self._stub.SaveState.future(self._requests.save(write), timeout=timeout, metadata=metadata)

    def multi(self, writes: Sequence[Write], *, timeout: float) -> Reply:
        answer = self._call(self._stub.ExecuteStateTransaction, self._requests.multi(tuple(writes)), timeout)
        return answer if isinstance(answer, Reply) else OK

    def close(self) -> None:
        self._closed.set()
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()


def _result(call: Any) -> Any:
    try:
        return call.result()
    except grpc.RpcError as error:
        return reply_of(error)


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
        except grpc.RpcError as error:
            return reply_of(error)
        except (grpc.aio.UsageError, ValueError) as error:  # closed under a call, or there is no token
            return Reply(UNSENT, str(error))

    async def get(self, key: str, *, strong: bool, timeout: float) -> Row | Reply:
        return _row(await self._call(self._stub.GetState, self._requests.get(key, strong=strong), timeout))

    async def get_all(self, keys: Sequence[str], *, strong: bool, timeout: float) -> tuple[Row | Reply, ...]:
        if len(keys) == 1:
            return (await self.get(keys[0], strong=strong, timeout=timeout),)
        return tuple(await asyncio.gather(*[self.get(key, strong=strong, timeout=timeout) for key in keys]))

    async def get_bulk(self, keys: Sequence[str], *, timeout: float) -> tuple[Row | Reply, ...]:
        return _bulk(
            keys, await self._call(self._stub.GetBulkState, self._requests.bulk(tuple(keys)), timeout)
        )

    async def put(self, write: Write, *, timeout: float) -> Reply:
        if write.data is None:
            return _reply(await self._call(self._stub.DeleteState, self._requests.delete(write), timeout))
        return _reply(await self._call(self._stub.SaveState, self._requests.save(write), timeout))

    async def put_all(self, writes: Sequence[Write], *, timeout: float) -> tuple[Reply, ...]:
        if len(writes) == 1:
            return (await self.put(writes[0], timeout=timeout),)
        return tuple(await asyncio.gather(*[self.put(write, timeout=timeout) for write in writes]))

    async def multi(self, writes: Sequence[Write], *, timeout: float) -> Reply:
        request = self._requests.multi(tuple(writes))
        return _reply(await self._call(self._stub.ExecuteStateTransaction, request, timeout))

    async def close(self) -> None:
        if self._channel is not None:
            channel, self._channel = self._channel, None
            await channel.close()


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
        row: Row | Reply = await self._run(lambda: self.port.get(key, strong=strong, timeout=timeout))
        return row

    async def get_all(self, keys: Sequence[str], *, strong: bool, timeout: float) -> tuple[Row | Reply, ...]:
        rows: tuple[Row | Reply, ...] = await self._run(
            lambda: self.port.get_all(keys, strong=strong, timeout=timeout)
        )
        return rows

    async def get_bulk(self, keys: Sequence[str], *, timeout: float) -> tuple[Row | Reply, ...]:
        rows: tuple[Row | Reply, ...] = await self._run(lambda: self.port.get_bulk(keys, timeout=timeout))
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

"""
The hosts of a played run: each has a store and an actor client of its own, whose every message waits for the scheduler.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from dapr.actor import Actor

from toolkit import AsyncStateStore
from toolkit.core.model import Reply, Row, Write
from toolkit.core.steps import Instant
from toolkit.ports import AsyncStatePort, Component
from workflows.actors.mock import MemoryActorClient, MockHost

A = TypeVar("A", bound=Actor)
T = TypeVar("T")


class HostDiedError(BaseException):
    """
    The process of this activation was killed: no ``Exception``, since no code of the actor goes on from here.
    """


@dataclass
class Message:
    """
    A request or an answer that waits to be delivered.
    """

    host: int
    what: str
    gone: asyncio.Future[None]


@dataclass
class Wire:
    """
    The messages under way, of all hosts.
    """

    waiting: list[Message] = field(default_factory=list[Message])
    dead: set[int] = field(default_factory=set[int])

    async def pass_on(self, host: int, what: str) -> None:
        """
        Wait until the scheduler delivers this message.
        """
        if host in self.dead:
            raise HostDiedError
        message = Message(host, what, asyncio.get_running_loop().create_future())
        self.waiting.append(message)
        await message.gone

    async def exchange(self, host: int, what: str, do: Callable[[], Awaitable[T]]) -> T:
        """
        A request, what it does at the other end, and the answer.
        """
        await self.pass_on(host, what)
        answer = await do()
        await self.pass_on(host, f"answer to {what}")
        return answer

    def kill(self, host: int, *, delivered: bool) -> None:
        """
        The host hears nothing from now on; requests it has sent may still arrive.
        """
        self.dead.add(host)
        for message in [one for one in self.waiting if one.host == host]:
            self.waiting.remove(message)
            if delivered and not message.what.startswith("answer"):
                message.gone.set_result(None)
            else:
                message.gone.set_exception(HostDiedError())
                message.gone.exception()  # looked at: its task may be gone already


class PlayedPort:
    """
    The port of one host.
    """

    def __init__(self, port: AsyncStatePort, wire: Wire, host: int) -> None:
        self.port, self.wire, self.host = port, wire, host

    async def connect(self, timeout: float) -> Component:
        return await self.port.connect(timeout)

    async def get(self, key: str, *, strong: bool, timeout: float) -> Row | Reply:
        return await self._exchange("get", lambda: self.port.get(key, strong=strong, timeout=timeout))

    async def get_all(self, keys: Sequence[str], *, strong: bool, timeout: float) -> tuple[Row | Reply, ...]:
        return await self._exchange("get", lambda: self.port.get_all(keys, strong=strong, timeout=timeout))

    async def get_bulk(self, keys: Sequence[str], *, timeout: float) -> tuple[Row | Reply, ...]:
        return await self._exchange("get", lambda: self.port.get_bulk(keys, timeout=timeout))

    async def put(self, write: Write, *, timeout: float) -> Reply:
        return await self._exchange("put", lambda: self.port.put(write, timeout=timeout))

    async def put_all(self, writes: Sequence[Write], *, timeout: float) -> tuple[Reply, ...]:
        return await self._exchange("put", lambda: self.port.put_all(writes, timeout=timeout))

    async def multi(self, writes: Sequence[Write], *, timeout: float) -> Reply:
        return await self._exchange("multi", lambda: self.port.multi(writes, timeout=timeout))

    async def close(self) -> None:
        await self.port.close()

    async def _exchange(self, what: str, do: Callable[[], Awaitable[T]]) -> T:
        return await self.wire.exchange(self.host, what, do)


class PlayedClient(MemoryActorClient):
    """
    The actor client of one host: state and reminders are everybody's, timers its own.
    """

    def __init__(self, shared: MemoryActorClient, wire: Wire, host: int) -> None:
        super().__init__(shared.state, shared.reminders)
        self._wire, self._host = wire, host

    async def save_state_transactionally(self, actor_type: str, actor_id: str, data: bytes) -> None:
        save = super().save_state_transactionally
        await self._wire.exchange(self._host, "save", lambda: save(actor_type, actor_id, data))

    async def get_state(self, actor_type: str, actor_id: str, name: str) -> bytes:
        get = super().get_state
        return await self._wire.exchange(self._host, "load", lambda: get(actor_type, actor_id, name))


class PlayedHost(Generic[A]):
    """
    A process with one activation.

    Attributes:
        busy: A turn is under way: the sidecar starts no other.
        task: The last turn.
    """

    def __init__(self, number: int, wire: Wire, shared: MemoryActorClient) -> None:
        self.number, self.wire = number, wire
        self.client = PlayedClient(shared, wire, number)
        self.mock: MockHost[A] | None = None
        self.busy = False
        self.life: asyncio.Task[None] | None = None
        self.task: asyncio.Task[None] | None = None
        self._leave = asyncio.Event()

    async def open(
        self,
        kind: type[A],
        actor_id: str,
        port: Any,
        clock: Callable[[], Instant],
        chance: Callable[[], float],
    ) -> None:
        """
        Start the process.
        """
        to_async = getattr(port, "to_async", None)
        inner: AsyncStatePort = to_async() if to_async is not None else port
        store = AsyncStateStore("played", port=PlayedPort(inner, self.wire, self.number))
        opened = asyncio.Event()
        self.life = asyncio.create_task(self._live(store, opened))
        await opened.wait()
        for world in (store._world, store._combiner.world):  # noqa: SLF001  of one project
            world.use(clock, chance)
        self.mock = MockHost(kind, actor_id, store, self.client)

    async def _live(self, store: AsyncStateStore, opened: asyncio.Event) -> None:
        # The writes of a killed host end with it.
        with suppress(BaseExceptionGroup):
            async with store:
                opened.set()
                await self._leave.wait()

    async def close(self) -> None:
        """
        End the process.
        """
        self._leave.set()
        if self.life is not None:
            await self.life

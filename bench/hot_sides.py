"""
The ways to add one to a value that ``bench_hot`` compares, and the window of time in which tasks do it.

A way is ``await one(key, end)``: it tries until the addition is stored, or until ``end``, and says which of the two.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from toolkit import AsyncStateStore, RetryPolicy

One = Callable[[str, float], Awaitable[bool]]


@dataclass(slots=True)
class Window:
    """
    What happened in one window of one side.
    """

    rate: float
    cpu: float
    times: list[float] = field(repr=False)
    began: float = 0.0
    ends: list[float] = field(default_factory=list, repr=False)

    @property
    def median(self) -> float:
        return statistics.median(self.times) if self.times else float("nan")

    @property
    def p99(self) -> float:
        return sorted(self.times)[int(len(self.times) * 0.99)] if self.times else float("nan")


async def window(one: One, key_of: Callable[[int], str], tasks: int, seconds: float) -> Window:
    """
    So many tasks, each adding again and again; what is not stored when the time is up does not count.
    """
    began, cpu = time.perf_counter(), time.process_time()
    end, times, ends = began + seconds, list[float](), list[float]()

    async def task(key: str) -> None:
        while (start := time.perf_counter()) < end:
            if await one(key, end):
                ends.append(done := time.perf_counter())
                times.append(done - start)

    await asyncio.gather(*[task(key_of(number)) for number in range(tasks)])
    spent = time.process_time() - cpu
    rate = len(times) / (time.perf_counter() - began)
    return Window(rate, spent / max(len(times), 1), times, began, ends)


def lost(error: BaseException | None) -> bool:
    """
    Whether a call failed because somebody else was faster; the SDK wraps what says so.
    """
    seen = error
    while seen is not None:
        code = getattr(seen, "code", None)
        if callable(code) and getattr(code(), "name", "") == "ABORTED":
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def bump(value: dict[str, Any]) -> dict[str, Any]:
    value["n"] += 1
    return value


class Ways:
    """
    All ways over one sidecar and store.

    Attributes:
        runs: How often the toolkit ran the change.
    """

    def __init__(self, store: str, states: AsyncStateStore, stub: Any, client: Any) -> None:
        self.store, self.states, self.stub, self.client = store, states, stub, client
        self.locks: dict[str, asyncio.Lock] = {}
        self.runs = 0

    def all(self) -> Mapping[str, One]:
        return {
            "stub loop": self.by_stub,
            "DaprClient loop": self.by_client,
            "tenacity": self.by_tenacity,
            "per-key lock": self.by_lock,
            "toolkit": self.by_toolkit,
        }

    async def once(self, key: str) -> None:
        """
        One read and one conditional write on the raw stub.
        """
        from dapr.proto import api_v1, common_v1

        request = api_v1.GetStateRequest(store_name=self.store, key=key, consistency=2)
        seen = await self.stub.GetState(request, timeout=10)
        value = json.dumps(bump(json.loads(seen.data))).encode()
        item = common_v1.StateItem(key=key, value=value, etag=common_v1.Etag(value=seen.etag))
        await self.stub.SaveState(api_v1.SaveStateRequest(store_name=self.store, states=[item]), timeout=10)

    async def by_stub(self, key: str, end: float) -> bool:
        return await until(lambda: self.once(key), end)

    async def by_client(self, key: str, end: float) -> bool:
        async def once() -> None:
            state = await self.client.get_state(self.store, key)
            await self.client.save_state(
                self.store, key, json.dumps(bump(json.loads(state.data))), etag=state.etag
            )

        return await until(once, end)

    async def by_tenacity(self, key: str, end: float) -> bool:
        from tenacity import AsyncRetrying, RetryError, retry_if_exception, wait_random_exponential

        waits = wait_random_exponential(multiplier=0.005, max=0.5)
        late = lambda _: time.perf_counter() >= end  # noqa: E731
        try:
            await AsyncRetrying(retry=retry_if_exception(lost), wait=waits, stop=late)(self.once, key)
        except RetryError:
            return False
        return True

    async def by_lock(self, key: str, end: float) -> bool:
        async with self.locks.setdefault(key, asyncio.Lock()):
            return await until(lambda: self.once(key), end)

    async def by_toolkit(self, key: str, _end: float) -> bool:
        await self.states.update(key, self.counted)
        return True

    def counted(self, value: Any) -> Any:
        self.runs += 1
        return bump(value)


async def until(
    once: Callable[[], Awaitable[None]], end: float, again: Callable[[BaseException], bool] = lost
) -> bool:
    """
    The plain loop: again as long as others are faster.
    """
    while time.perf_counter() < end:
        try:
            await once()
        except Exception as error:
            if not again(error):
                raise
            continue
        return True
    return False


@asynccontextmanager
async def ways(store: str, address: str) -> AsyncIterator[Ways]:
    """
    Connect every side.
    """
    from dapr.aio.clients import DaprClient
    from dapr.proto import api_service_v1, api_v1

    from toolkit.dapr.address import address_of
    from toolkit.dapr.channel import aio_channel

    async with AsyncExitStack() as stack:
        states = AsyncStateStore(store, address=address, retry=RetryPolicy(deadline=60.0))
        await stack.enter_async_context(states)
        channel = await stack.enter_async_context(aio_channel(address_of(address)))
        client = await stack.enter_async_context(DaprClient(address))
        stub = api_service_v1.DaprStub(channel)
        # On a busy machine a new connection takes its time; that is not what is measured.
        await stub.GetMetadata(api_v1.GetMetadataRequest(), wait_for_ready=True, timeout=60)
        await client.wait(60)
        yield Ways(store, states, stub, client)

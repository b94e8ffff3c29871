"""
What an update that waits for its key weighs, beyond the task of its caller.

Thousands of tasks wait in line behind a read that does not come back; the same number waits for one event instead. The
difference, by ``tracemalloc``, is what the toolkit keeps for a pending update.
"""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import Awaitable, Callable
from typing import Any

from bench.hot_report import Bench
from bench.hot_sides import bump
from toolkit import AsyncStateStore
from toolkit.core.model import Reply, Row
from toolkit.testing.memory import AsyncMemoryStore, MemoryStore

COUNT = 5000
MOST = 600.0


class Held(AsyncMemoryStore):
    """
    A fake store whose reads wait until they are let go.
    """

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self.go = asyncio.Event()
        self.go.set()

    async def get(self, key: str, *, strong: bool, timeout: float) -> Row | Reply:
        await self.go.wait()
        return self.store.get(key)


async def weigh(one: Callable[[], Awaitable[Any]], let_go: Callable[[], None]) -> float:
    """
    Bytes for each of many tasks that wait.
    """

    async def task() -> None:
        await one()

    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    tasks = [asyncio.ensure_future(task()) for _ in range(COUNT)]
    for _ in range(5):
        await asyncio.sleep(0)
    gc.collect()
    after = tracemalloc.get_traced_memory()[0]
    let_go()
    await asyncio.gather(*tasks)
    return (after - before) / COUNT


async def pending() -> tuple[float, float]:
    """
    Bytes of a task with a pending update, and of one that waits for an event.
    """
    async with AsyncStateStore("s", port=(port := Held(MemoryStore()))) as states:
        await states.set("k", {"n": 0})

        def update() -> Awaitable[Any]:
            return states.update("k", bump)

        mine = plain = 0.0
        for _ in range(2):  # the first time around fills caches
            port.go.clear()
            mine = await weigh(update, port.go.set)
            event = asyncio.Event()
            plain = await weigh(event.wait, event.set)
    return mine, plain


def memory_rows(bench: Bench) -> None:
    with bench.part(f"{COUNT} pending updates, by weight"):
        tracemalloc.start()
        try:
            mine, plain = asyncio.run(pending())
        finally:
            tracemalloc.stop()
        bench.add("a task that waits for an event", plain, "bytes")
        bench.add("a pending update, beyond its task", mine - plain, "bytes", most=MOST)

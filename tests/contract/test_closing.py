"""
Closing a store: no new calls, an answer for each that is under way, in every colour.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import pytest

from tests.contract.common import inc
from toolkit import AsyncDapr, AsyncStateStore, StateStore
from toolkit.testing import MemoryStore

LOOPS = ("asyncio", "trio")


class Gate:
    """
    A store whose reads of ``a`` wait until the gate is opened.
    """

    def __init__(self) -> None:
        self.store = MemoryStore("postgresql/v2")
        self.reached, self.opened = threading.Event(), threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    def get(self, key: str, **options: Any) -> Any:
        if key == "a":
            self.reached.set()
            assert self.opened.wait(30)
        return self.store.get(key, **options)

    def get_all(self, keys: Any, **options: Any) -> Any:
        return tuple(self.get(key, **options) for key in keys)


class AsyncGate:
    """
    The same for an event loop.
    """

    def __init__(self) -> None:
        self.store = MemoryStore("postgresql/v2").to_async()
        self.reached, self.opened = anyio.Event(), anyio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    async def get(self, key: str, **options: Any) -> Any:
        if key == "a":
            self.reached.set()
            await self.opened.wait()
        return await self.store.get(key, **options)

    async def get_all(self, keys: Any, **options: Any) -> Any:
        return tuple([await self.get(key, **options) for key in keys])


def both(tx: Any) -> str:
    tx.get("a")
    tx.put("a", {"n": 1})
    tx.put("b", {"n": (tx.get("b") or {"n": 0})["n"] + 1})
    return "committed"


async def both_async(tx: Any) -> str:
    await tx.get("a")
    tx.put("a", {"n": 1})
    tx.put("b", {"n": (await tx.get("b") or {"n": 0})["n"] + 1})
    return "committed"


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        (lambda store: store.transact(both), "committed"),
        (lambda store: store.get("a", "none"), "none"),
        (lambda store: store.update("a", inc, default={"n": 0}), {"n": 1}),
    ],
    ids=["transact", "get", "update"],
)
def test_a_call_under_way(call: Any, answer: Any) -> None:
    """It ends as if nobody had closed the store; a call that begins later is refused."""
    port = Gate()
    store = StateStore("x", port=port).__enter__()
    with ThreadPoolExecutor(2) as pool:
        pending = pool.submit(call, store)
        assert port.reached.wait(30)
        closing = pool.submit(store.close)
        while store.is_open:
            pass
        with pytest.raises(RuntimeError, match="not open"):
            store.get("c")
        port.opened.set()
        assert (pending.result(30), closing.result(30)) == (answer, None)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("how", ["close", "exit"])
def test_calls_under_way_in_tasks(loop: str, how: str) -> None:
    """The same for tasks, whether by ``close`` or by the end of the block."""
    answers: list[Any] = []

    async def main() -> None:
        port = AsyncGate()

        async def call(work: Any) -> None:
            answers.append(await work)

        async def open_up() -> None:
            while store.is_open:
                await anyio.lowlevel.checkpoint()
            with pytest.raises(RuntimeError, match="async with AsyncStateStore"):
                await store.get("c")
            port.opened.set()

        async with anyio.create_task_group() as group:
            async with AsyncStateStore("x", port=port) as store:
                group.start_soon(call, store.transact(both_async))
                group.start_soon(call, store.get("a", "none"))
                group.start_soon(call, store.update("c", inc, default={"n": 0}))
                await port.reached.wait()
                group.start_soon(open_up)
                if how == "close":
                    await store.close()
                    assert len(answers) == 3
            assert len(answers) == 3

    anyio.run(main, backend=loop)
    assert {"n": 1} in answers
    assert "committed" in answers


@pytest.mark.parametrize("loop", LOOPS)
def test_a_call_that_takes_too_long(loop: str) -> None:
    """``close`` waits for it no longer than it was told to."""

    async def main() -> None:
        port = AsyncGate()
        async with anyio.create_task_group() as group, AsyncStateStore("x", port=port) as store:
            group.start_soon(store.get, "a")
            await port.reached.wait()
            await store.close(0)
            port.opened.set()

    anyio.run(main, backend=loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_sidecar_object_is_closed(loop: str) -> None:
    """Its stores take no more calls; closing twice, or leaving the block afterwards, is fine."""

    async def main() -> None:
        memory = MemoryStore()
        async with AsyncDapr(state_store="x", port=memory) as dapr:
            store = dapr.states
            assert await store.get("k") is None
            await store.close()  # others may be using it: it is the sidecar object's to close
            assert await store.get("k") is None
            await dapr.close()
            await dapr.close()
            assert not dapr.is_open
            with pytest.raises(RuntimeError, match="closed"):
                await store.get("k")

    anyio.run(main, backend=loop)

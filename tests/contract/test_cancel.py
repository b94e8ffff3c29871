"""
Cancelled at every suspension point, on asyncio and on trio: nothing is half done, nothing is swallowed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import pytest

from tests.contract.common import inc
from toolkit import AsyncStateStore, Outcome
from toolkit.combine import AsyncCombiner
from toolkit.core.model import Reply, Row, Write
from toolkit.log import capture
from toolkit.testing.cancel import Cut, cancel_everywhere
from toolkit.testing.memory import AsyncMemoryStore, MemoryStore

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
async def store() -> AsyncIterator[AsyncStateStore]:
    async with AsyncStateStore("x", port=MemoryStore(profile="redis")) as store:
        yield store


START = {"n": 1}
CALLS: dict[str, Callable[[AsyncStateStore], Any]] = {
    "get": lambda store: store.get("k"),
    "read": lambda store: store.read("k"),
    "get_many": lambda store: store.get_many(["k", "none"]),
    "update": lambda store: store.update("k", inc),
    "update with an id": lambda store: store.update("k", inc, op_id="m-1"),
    "set": lambda store: store.set("k", {"n": 2}),
    "create": lambda store: store.create("new", {"n": 2}),
    "delete": lambda store: store.delete("k"),
    "outcome": lambda store: store.outcome("m-1", key="k"),
}
AFTER = {"delete": None, "update": {"n": 2}, "update with an id": {"n": 2}, "set": {"n": 2}}


async def everywhere(store: AsyncStateStore, name: str) -> list[Cut]:
    """Cut a call at each suspension; after each cut the store is whole and works on."""
    cuts: list[Cut] = []

    async def fresh() -> Any:
        return await CALLS[name](store)

    await store.set("k", START)
    async for cut in cancel_everywhere(fresh):
        cuts.append(cut)
        async with anyio.create_task_group() as group:
            group.cancel_scope.deadline = anyio.current_time() + 5
            while store._combiner.queues:
                await anyio.lowlevel.checkpoint()
        assert store._combiner.queues == {}
        assert await store.get("k") in (START, AFTER.get(name, START))
        assert await store.get("new") in (None, {"n": 2})
        for key in ("k", "new"):
            await store.delete(key)
        await store.set("k", START)
        await store.update("k", lambda value: value)
        # A new life for the key takes the ids of the last one along: forget them.
        store._port.store.world.rows.clear()  # type: ignore[attr-defined]
        await store.set("k", START)
    return cuts


@pytest.mark.parametrize("name", CALLS)
async def test_every_cut_of_every_call(store: AsyncStateStore, name: str) -> None:
    """Each cut comes out as a cancellation, each call has some, and the last run is whole."""
    *cuts, whole = await everywhere(store, name)
    assert [cut.at for cut in cuts] == list(range(1, len(cuts) + 1))
    assert {cut.cancelled for cut in cuts} <= {True}
    assert len(cuts) >= 1
    assert (whole.at, whole.cancelled, whole.error) == (None, False, None)


async def test_a_swallowed_cancellation_would_be_caught(
    store: AsyncStateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The planted bug: a call that answers although it was cancelled."""
    honest = AsyncCombiner.submit

    async def swallowing(self: AsyncCombiner, job: Any) -> Any:
        try:
            return await honest(self, job)
        except anyio.get_cancelled_exc_class():
            return None

    monkeypatch.setattr(AsyncCombiner, "submit", swallowing)
    cuts = await everywhere(store, "update")
    assert any(cut.at is not None and not cut.cancelled for cut in cuts)


class Stuck(AsyncMemoryStore):
    """
    A store whose writes arrive and which then answers nothing, until told.
    """

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self.arrived, self.answer = anyio.Event(), anyio.Event()
        self.applies = True

    async def get(self, key: str, *, strong: bool, timeout: float) -> Row | Reply:
        if self.arrived.is_set():
            await self.answer.wait()
        return await super().get(key, strong=strong, timeout=timeout)

    async def put(self, write: Write, *, timeout: float) -> Reply:
        reply = self.store.put(write) if self.applies else Reply("UNAVAILABLE", "lost")
        self.arrived.set()
        await self.answer.wait()
        return reply


@pytest.mark.parametrize("applied", [True, False])
async def test_a_cancelled_write_leaves_a_receipt(applied: bool) -> None:
    """
    Its answer does not come within the grace: the receipt is logged, the cancellation goes on, and what became of the
    write can be asked. It is not tried again for a caller that is gone.
    """
    memory = MemoryStore()
    async with AsyncStateStore("x", port=memory) as other:
        await other.set("k", START)
        port = Stuck(memory)
        port.applies = applied
        with capture() as events:
            async with AsyncStateStore("x", port=port) as store:
                with anyio.CancelScope() as scope:
                    async with anyio.create_task_group() as group:
                        group.start_soon(store.update, "k", inc)
                        await port.arrived.wait()
                        scope.cancel()
                assert scope.cancelled_caught
                (unknown,) = [event for event in events if event.name == "occ.outcome_unknown"]
                port.applies = True
                port.answer.set()
        told = await other.resolve(unknown.fields["receipt"])
        stored = await other.get("k")
    # A write that was lost is seen through by sending the same bytes again, whoever waits for it.
    assert (told, stored) == (Outcome.COMMITTED, {"n": 2})


async def test_a_withdrawn_call_is_not_tried_again() -> None:
    """Cancelled while its batch is losing, a call makes no further attempt; its neighbour goes on."""
    memory = MemoryStore()
    async with AsyncStateStore("x", port=memory) as rival:
        await rival.set("k", {"n": 0, "by": []})

        def adds(name: str) -> Callable[[Any], Any]:
            return lambda value: {"n": value["n"] + 1, "by": [*value["by"], name]}

        port = Losing(memory, rival)
        async with AsyncStateStore("x", port=port) as store, anyio.create_task_group() as group:
            gone = anyio.CancelScope()
            port.on_loss = gone.cancel

            async def leaves() -> None:
                with gone:
                    await store.update("k", adds("gone"))

            group.start_soon(leaves)
            group.start_soon(store.update, "k", adds("stays"))
        assert await rival.get("k") == {"n": 2, "by": ["rival", "stays"]}


class Losing(AsyncMemoryStore):
    """
    A store on which somebody else is faster once.
    """

    def __init__(self, store: MemoryStore, rival: AsyncStateStore) -> None:
        super().__init__(store)
        self.rival, self.lost = rival, False
        self.on_loss: Callable[[], object] = lambda: None

    async def put(self, write: Write, *, timeout: float) -> Reply:
        if not self.lost:
            self.lost = True
            await self.rival.update("k", lambda value: {"n": value["n"] + 1, "by": [*value["by"], "rival"]})
            self.on_loss()
            await anyio.lowlevel.checkpoint()
        return await super().put(write, timeout=timeout)


class Mute(AsyncMemoryStore):
    """
    A store whose first write takes effect and is never answered.
    """

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self.arrived = anyio.Event()

    async def put(self, write: Write, *, timeout: float) -> Reply:
        reply = self.store.put(write)
        self.arrived.set()
        await anyio.sleep_forever()
        return reply


async def test_a_cut_write_is_found_out_for_a_cancelled_caller() -> None:
    """The answer is cut by the cancellation; the next look tells, within the grace, and nothing stays unknown."""
    memory = MemoryStore()
    async with AsyncStateStore("x", port=memory) as other:
        await other.set("k", START)
        port = Mute(memory)
        with capture() as events:
            async with AsyncStateStore("x", port=port) as store, anyio.create_task_group() as group:
                group.start_soon(store.update, "k", inc)
                await port.arrived.wait()
                group.cancel_scope.cancel()
        assert [event.name for event in events] == ["occ.committed"]
        assert await other.get("k") == {"n": 2}

"""
A lone update cancelled at every suspension point, through a real daprd: what was cut is found out, and nothing is half done.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import pytest
from anyio.lowlevel import checkpoint

from tests.contract.common import inc
from toolkit import AsyncStateStore, AsyncTransaction, Outcome, RetryPolicy
from toolkit.sidecar import component
from toolkit.testing.cancel import cancel_everywhere

PATIENT = RetryPolicy(deadline=30.0)
# Cut on their way, so many leave a sidecar on SQLite spoiled.
CUT_READS = 600
BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


@BACKENDS
def test_every_cut_of_an_update_is_found_out(live_store: Any, backend: str) -> None:
    """
    The cut request may or may not have reached the store. The outcome of its id says which, and the value agrees.
    """
    key, numbers, stored, op_id = uuid4().hex, itertools.count(), 0, ""

    async def main() -> None:
        nonlocal stored
        async with AsyncStateStore(live_store.name, address=live_store.address, retry=PATIENT) as store:
            await store.set(key, {"n": 0})

            async def call() -> Any:
                nonlocal op_id
                op_id = f"m-{next(numbers)}"
                return await store.update(key, inc, op_id=op_id)

            async with aclosing(cancel_everywhere(call, errors=False)) as runs:
                async for cut in runs:
                    outcome = await store.outcome(op_id, key=key)
                    assert outcome in (Outcome.COMMITTED, Outcome.NOT_COMMITTED), cut
                    stored += outcome is Outcome.COMMITTED
                    assert await store.get(key) == {"n": stored}, cut
                    # The answer of a write that was sent from a thread is waited for, and may be told.
                    told = backend == "trio" and cut.result == {"n": stored}
                    assert cut.cancelled or cut.at is None or told, cut
            assert cut.at is None
            assert outcome is Outcome.COMMITTED
            assert store._combiner.queues == {}

    anyio.run(main, backend=backend)
    cuts = next(numbers) - 1
    assert 0 < stored <= cuts, "no cut came before the write"


@BACKENDS
def test_every_cut_of_a_transaction_is_whole(live_store: Any, backend: str) -> None:
    """
    Both keys have moved or none has, as the outcome of the id says.
    """
    keys, numbers, moved, op_id = [uuid4().hex, uuid4().hex], itertools.count(), 0, ""

    async def move(tx: AsyncTransaction) -> None:
        for key, step in zip(keys, (-1, 1), strict=True):
            value = await tx.get(key)
            tx.put(key, {"n": value["n"] + step})

    async def main() -> None:
        nonlocal moved
        async with AsyncStateStore(live_store.name, address=live_store.address, retry=PATIENT) as store:
            for key in keys:
                await store.set(key, {"n": 0})

            async def call() -> Any:
                nonlocal op_id
                op_id = f"{keys[0]}-{next(numbers)}"
                return await store.transact(move, op_id=op_id)

            async with aclosing(cancel_everywhere(call, errors=False)) as runs:
                async for cut in runs:
                    outcome = await store.outcome(op_id)
                    assert outcome in (Outcome.COMMITTED, Outcome.NOT_COMMITTED), cut
                    moved += outcome is Outcome.COMMITTED
                    assert await store.get_many(keys) == {keys[0]: {"n": -moved}, keys[1]: {"n": moved}}, cut
            assert cut.at is None
            assert outcome is Outcome.COMMITTED

    anyio.run(main, backend=backend)
    assert 0 < moved < next(numbers), "no cut came before the commit"


def test_a_scope_around_a_call_catches_its_cancellation(live_named: Any) -> None:
    """
    grpc.aio raises a CancelledError that no scope of anyio knows for its own; one of the task itself comes out as ever.
    """
    live, key = live_named("in-memory"), uuid4().hex

    async def main() -> None:
        async with AsyncStateStore(live.name, address=live.address, retry=PATIENT) as store:
            calls: list[Callable[[], Coroutine[Any, Any, Any]]] = [
                lambda: store.get(key),
                lambda: store.get_many([key, f"{key}-2"]),
                lambda: store.update(key, inc, default={"n": 0}),
            ]
            for call in calls:
                cuts = [cut async for cut in cancel_everywhere(call, errors=False)]
                assert cuts[0].cancelled
                task = asyncio.create_task(call())
                await checkpoint()  # it begins, and waits for the sidecar
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task

    anyio.run(main)


def test_cancelled_reads_leave_sqlite_as_it_was(daprd: Any, tmp_path: Path) -> None:
    """
    A read that is cut on its way leaves daprd on an old snapshot of the file: stale reads, and no write gets in any more.
    """
    settings = {"connectionString": str(tmp_path / "state.db")}
    address = daprd(components=[component("statestore", "state.sqlite", metadata=settings)]).grpc_endpoint

    async def main() -> None:
        async with AsyncStateStore("statestore", address=address, retry=PATIENT) as store:
            await store.set("k", {"n": 0})
            for call in (
                lambda: store.get("k"),
                lambda: store.get_many(["k", "l"]),
                lambda: store.update("k", inc),
            ):
                for _ in range(CUT_READS):
                    async with aclosing(cancel_everywhere(call, errors=False)) as runs:
                        assert (await anext(runs)).cancelled
            for number in range(20):
                await store.set("k", {"n": number})
                async with anyio.create_task_group() as group:
                    for _ in range(4):
                        group.start_soon(reads, store, number)

    async def reads(store: AsyncStateStore, number: int) -> None:
        assert await store.get("k") == {"n": number}

    anyio.run(main)

"""
Shared reads through a real daprd, with and without faults: every caller gets its own key, as strongly as alone.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import anyio
import pytest

from toolkit import AsyncStateStore, RetryPolicy, StateStore
from toolkit._coalesce import pays
from toolkit.testing.proxy import FaultProxy

CALLERS = 48
PATIENT = RetryPolicy(deadline=60.0)


def test_tasks_read_what_was_just_written(live_store: Any) -> None:
    """
    Each of many tasks writes its key and reads it back while the others do the same: no read is older than its write.
    """
    unique = uuid4().hex

    async def main() -> list[list[int]]:
        seen: list[list[int]] = [[] for _ in range(CALLERS)]

        async def work(states: AsyncStateStore, number: int) -> None:
            key = f"{unique}-{number}"
            for turn in range(3):
                await states.set(key, {"who": number, "turn": turn})
                value = await states.get(key)
                assert value["who"] == number
                seen[number].append(value["turn"])
                assert await states.get(f"{key}-missing") is None

        async with AsyncStateStore(live_store.name, address=live_store.address, retry=PATIENT) as states:
            async with anyio.create_task_group() as group:
                for number in range(CALLERS):
                    group.start_soon(work, states, number)
            return seen

    assert anyio.run(main) == [[0, 1, 2]] * CALLERS


@pytest.mark.parametrize("name", ["postgresql-v2", "sqlite"])
def test_lost_answers_of_bulk_reads_harm_nobody(live_named: Any, name: str) -> None:
    """Threads count on keys of their own while reads, plain and bulk, and writes lose their answers: nothing is lost."""
    store, unique, together = live_named(name), uuid4().hex, threading.Barrier(CALLERS)
    lossy = ("GetState", "GetBulkState", "SaveState")
    with (
        FaultProxy(
            store.address, seed=7, rates={"drop_reply": 0.1, "drop_request": 0.1}, methods=lossy
        ) as proxy,
        StateStore(store.name, address=f"127.0.0.1:{proxy.port}", retry=PATIENT) as states,
        ThreadPoolExecutor(CALLERS) as pool,
    ):
        proxy.next("GetBulkState", "drop_reply", "drop_request")
        site = states._site
        assert site is not None
        assert pays(site.profile)

        def count(number: int) -> Any:
            for _ in range(4):
                together.wait(60)
                states.update(f"{unique}-{number}", lambda value: {"n": value["n"] + 1}, default={"n": 0})
            return states.get(f"{unique}-{number}")

        assert list(pool.map(count, range(CALLERS))) == [{"n": 4}] * CALLERS
        assert proxy.faults["GetBulkState", "drop_reply"] > 0, dict(proxy.calls)

"""
In which order the callers of one batch are woken on asyncio.
"""

from __future__ import annotations

import asyncio
from typing import Any

from toolkit import AsyncStateStore
from toolkit.combine import MANY
from toolkit.core.model import Reply, Row
from toolkit.testing.memory import AsyncMemoryStore, MemoryStore


class Told(AsyncMemoryStore):
    """A store that tells when it is read."""

    def __init__(self, told: list[str]) -> None:
        super().__init__(MemoryStore())
        self.told = told

    async def get(self, key: str, *, strong: bool = True, timeout: float = 1.0) -> Row | Reply:
        self.told.append("read")
        for _ in range(4):  # a real read takes longer than waking the callers
            await asyncio.sleep(0)
        return await super().get(key, strong=strong, timeout=timeout)


def inc(value: dict[str, Any]) -> dict[str, Any]:
    return {"n": value["n"] + 1}


def rounds(callers: int, times: int) -> list[str]:
    """What happened while so many tasks called so many times each: reads and returns."""
    told: list[str] = []

    async def main() -> int:
        async with AsyncStateStore("s", port=Told(told)) as store:
            await store.set("k", {"n": 0})
            told.clear()

            async def caller() -> None:
                for _ in range(times):
                    await store.update("k", inc)
                    told.append("back")

            async with asyncio.TaskGroup() as group:
                for _ in range(callers):
                    group.create_task(caller())
            value = await store.get("k")
            return int(value["n"])

    assert asyncio.run(main()) == callers * times
    return told[:-1]


def test_the_next_read_starts_before_all_have_woken() -> None:
    """
    Of many callers the first is back ahead of the others, so that its next call is read while they wake up.
    """
    told = rounds(2 * MANY, 2)
    assert told[:3] == ["read", "back", "read"]
    assert (told.count("read"), told.count("back")) == (2, 4 * MANY)


def test_callers_that_do_not_call_again_all_wake() -> None:
    """
    Nobody waits for a call that does not come.
    """
    assert rounds(2 * MANY, 1) == ["read"] + ["back"] * 2 * MANY


def test_few_callers_wake_together() -> None:
    """
    Below that number nothing is put off: whoever wakes first leads, and reads at once.
    """
    told = rounds(MANY - 1, 2)
    assert told == ["read", "back", "read"] + ["back"] * (2 * (MANY - 1) - 1)

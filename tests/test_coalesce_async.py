"""
Concurrent reads of tasks share bulk calls, and one task's trouble is not the others'; see ``test_coalesce``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
import pytest
from anyio import wait_all_tasks_blocked

from tests.test_coalesce import BACKENDS, PATIENCE, Port, row
from toolkit._coalesce import FREE, AsyncCoalescer
from toolkit._loops import event_maker
from toolkit.core.model import Reply, Row


class AsyncHeld(Port):
    """For an event loop."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.bulk_gate = anyio.Event(), anyio.Event()

    async def get(self, key: str, *, strong: bool, timeout: float) -> Row | Reply:
        self.seen(key, strong, timeout)
        await self.gate.wait()
        return row(key)

    async def get_bulk(self, keys: Sequence[str], *, timeout: float) -> tuple[Row | Reply, ...]:
        self.bulk_seen(keys, timeout)
        await self.bulk_gate.wait()
        return self.bulk_over(keys)


class Tasks:
    """Tasks that read through one coalescer."""

    def __init__(self, group: Any) -> None:
        self.group, self.port = group, AsyncHeld()
        self.reads = AsyncCoalescer(self.port, event_maker())
        self.found: dict[str, Row | Reply] = {}
        self.scopes: dict[str, anyio.CancelScope] = {}

    async def ask(self, *keys: str, timeout: float = PATIENCE) -> None:
        for key in keys:
            self.scopes[key] = anyio.CancelScope()
            self.group.start_soon(self._one, key, timeout)
            await wait_all_tasks_blocked()  # trio starts tasks in no order

    async def _one(self, key: str, timeout: float) -> None:
        with self.scopes[key]:
            self.found[key] = await self.reads.get(key, strong=True, timeout=timeout)


FIRST = tuple(f"first-{number}" for number in range(FREE))
KEYS = tuple(f"k{number}" for number in range(6))


@BACKENDS
def test_tasks_share_calls(backend: str) -> None:
    """The same on an event loop: one bulk read for all that gathered."""

    async def main() -> Port:
        async with anyio.create_task_group() as group:
            tasks = Tasks(group)
            await tasks.ask(*FIRST, *KEYS)
            tasks.port.gate.set()
            tasks.port.bulk_gate.set()
        assert tasks.found == {key: row(key) for key in FIRST + KEYS}
        return tasks.port

    port = anyio.run(main, backend=backend)
    assert port.bulks == [KEYS]
    assert port.gets == list(FIRST)


@BACKENDS
@pytest.mark.parametrize("who", ["k0", "k3"])
@pytest.mark.parametrize("when", ["waiting", "reading"])
def test_a_cancelled_caller_takes_nobody_along(backend: str, who: str, when: str) -> None:
    """Neither one that waits nor the leader of a bulk read under way: the others are read again or read on."""

    async def main() -> Tasks:
        async with anyio.create_task_group() as group:
            tasks = Tasks(group)
            await tasks.ask(*FIRST, *KEYS)
            if when == "reading":
                tasks.port.gate.set()
                await wait_all_tasks_blocked()
                assert tasks.port.bulks == [KEYS]
            tasks.scopes[who].cancel()
            await wait_all_tasks_blocked()
            tasks.port.gate.set()
            tasks.port.bulk_gate.set()
        return tasks

    tasks = anyio.run(main, backend=backend)
    assert tasks.found == {key: row(key) for key in FIRST + KEYS if key != who}
    gathering = tasks.reads.gathering
    assert (len(gathering.flying), gathering.bulks, len(gathering.waiting)) == (0, 0, 0)


@BACKENDS
def test_a_deadline_holds_in_the_line(backend: str) -> None:
    """A task whose time is up in the line gets an answer, and none of the others waits for it."""

    async def main() -> tuple[Tasks, Row | Reply]:
        async with anyio.create_task_group() as group:
            tasks = Tasks(group)
            await tasks.ask(*FIRST)
            with anyio.fail_after(PATIENCE):
                hasty = await tasks.reads.get("hasty", strong=True, timeout=0.01)
            await tasks.ask(*KEYS)
            tasks.port.gate.set()
            tasks.port.bulk_gate.set()
        return tasks, hasty

    tasks, hasty = anyio.run(main, backend=backend)
    assert hasty == Reply("DEADLINE_EXCEEDED", "the time was up while the read waited for others")
    assert tasks.found == {key: row(key) for key in FIRST + KEYS}
    assert tasks.port.bulks == [KEYS]

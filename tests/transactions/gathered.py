"""
Stores whose first commit is held up, so that the calls behind it gather: how they are merged is no matter of luck.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import anyio
import anyio.lowlevel

from toolkit import AsyncStateStore, StateStore
from toolkit.core.events import Event
from toolkit.core.model import Reply, Write
from toolkit.errors import (
    StateError,
)
from toolkit.testing.memory import AsyncMemoryStore, MemoryStore

Told = Any


async def touch(tx: Any, keys: str) -> None:
    for key in keys:
        tx.put(key, {"n": 0})


async def move(tx: Any, source: str, target: str) -> str:
    found = await tx.get_many([source, target])
    tx.put(source, {"n": found[source]["n"] - 1})
    tx.put(target, {"n": found[target]["n"] + 1})
    return f"{source}{target}"


class Held(AsyncMemoryStore):
    """A store whose first transactional write waits until it is let go; later ones can be answered by hand."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self.arrived, self.go = anyio.Event(), anyio.Event()
        self.answers: list[Callable[[Callable[[], Reply]], Reply]] = []
        self.commits = 0

    async def _first(self, writes: Sequence[Write]) -> bool:
        if not writes or writes[0].key.startswith("_occ-probe"):
            return False
        if not self.arrived.is_set():
            self.arrived.set()
            await self.go.wait()
            return False
        return True

    async def multi(self, writes: Sequence[Write], *, timeout: float) -> Reply:
        later = await self._first(writes)
        self.commits += not writes[0].key.startswith("_occ-probe")
        if later and self.answers:
            return self.answers.pop(0)(lambda: self.store.multi(writes))
        return self.store.multi(writes)

    async def put_all(self, writes: Sequence[Write], *, timeout: float) -> tuple[Reply, ...]:
        await self._first(writes)
        return await super().put_all(writes, timeout=timeout)


class Play:
    """What a scenario has at hand: the store, its port, and a way to gather calls behind a commit that is held up."""

    def __init__(self, store: AsyncStateStore, port: Held) -> None:
        self.store, self.port = store, port
        self.told: dict[str, Told] = {}
        self.left: dict[str, anyio.Event] = {}

    async def call(self, name: str, body: Any, *args: Any, **options: Any) -> None:
        """One caller; what it is told is kept under its name."""
        try:
            self.told[name] = await self.store.transact(body, *args, **options)
        except (StateError, ValueError, TypeError) as error:
            self.told[name] = error
        self.left.setdefault(name, anyio.Event()).set()

    async def behind(self, *calls: tuple[Any, ...], **options: Any) -> None:
        """Let these calls come while the keys a, b and c are being written, then let all go."""
        async with anyio.create_task_group() as group:
            group.start_soon(self.call, "first", touch, "abc")
            await self.port.arrived.wait()
            for name, body, *args in calls:
                more = args.pop() if args and isinstance(args[-1], dict) else {}
                group.start_soon(lambda n=name, b=body, a=args, m=more: self.call(n, b, *a, **options, **m))  # type: ignore[misc]
                await anyio.wait_all_tasks_blocked()
            self.port.go.set()


def elsewhere(port: MemoryStore) -> None:
    """Another process adds 100 to a."""

    def add_hundred() -> None:
        with StateStore("s", port=port) as other:
            other.update("a", lambda value: {"n": value["n"] + 100})

    thread = threading.Thread(target=add_hundred)
    thread.start()
    thread.join(30)


def combined(events: list[Event]) -> list[int]:
    """How many transactions each commit has carried."""
    return [event.fields["combined"] for event in events if event.name == "occ.committed"]

"""
One test for both colours: bodies are ``async def`` over a ``tx`` and a store whose methods are awaited.

In the sync colour the awaited calls never suspend, so a body runs to its end within one ``send``.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

import anyio

from toolkit import AsyncStateStore, StateStore
from toolkit.testing.memory import MemoryStore

COLOURS: Final = ("sync", "asyncio", "trio")
# The three ways to commit: a truthful transaction, one that applies halves, none that counts.
PROFILES: Final = ("postgresql/v2", "redis", "in-memory")

Scenario = Callable[["Any"], Coroutine[Any, Any, None]]


def finish(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that never suspends."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    coroutine.close()
    raise AssertionError("a sync call suspended")


class Awaited:
    """A sync transaction whose reads are awaited."""

    def __init__(self, tx: Any) -> None:
        self.tx = tx

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.tx, name)
        if name not in ("get", "get_many", "peek"):
            return found

        async def awaited(*args: Any, **kwargs: Any) -> Any:
            return found(*args, **kwargs)

        return awaited


class Bridge:
    """A sync store whose methods are awaited, and whose bodies are ``async def``."""

    def __init__(self, store: StateStore) -> None:
        self.store = store

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.store, name)

        async def awaited(*args: Any, **kwargs: Any) -> Any:
            return found(*args, **kwargs)

        return awaited

    async def transact(self, body: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any) -> Any:
        @functools.wraps(body)
        def plain(tx: Any, *inner: Any, **named: Any) -> Any:
            return finish(body(Awaited(tx), *inner, **named))  # type: ignore[arg-type]

        # Its signature is the body's: what transact refuses there it must refuse here.
        del plain.__wrapped__  # type: ignore[attr-defined]
        return self.store.transact(plain, *args, **kwargs)


def run(colour: str, port: MemoryStore, scenario: Scenario, **options: Any) -> None:
    """Play a scenario on a store of one colour."""
    if colour == "sync":
        with StateStore("s", port=port, **options) as store:
            finish(scenario(Bridge(store)))
        return

    async def main() -> None:
        async with AsyncStateStore("s", port=port, **options) as store:
            await scenario(store)

    anyio.run(main, backend=colour)

"""
Merged transactions whose commit is of unknown outcome for a while: every caller hears what is true for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import anyio
import anyio.lowlevel
import pytest

from tests.transactions.gathered import Held, Play, combined, move
from toolkit import AsyncStateStore, Outcome, RetryPolicy, _turns
from toolkit.core.events import Event
from toolkit.core.model import Reply, Write
from toolkit.errors import (
    OutcomeUnknownError,
)
from toolkit.log import capture
from toolkit.testing.memory import MemoryStore

PATHS: Final = ("postgresql/v2", "redis")
BACKENDS: Final = ("asyncio", "trio")

Told = Any


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may stop a body for longer than a turn lasts: here turns end when bodies do."""
    monkeypatch.setattr(_turns, "TURN_TIME", 60.0)


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def events() -> Iterator[list[Event]]:
    with capture() as events:
        yield events


def lost(do: Callable[[], Reply]) -> Reply:
    do()
    return Reply("UNAVAILABLE", "connection reset")


def test_a_lost_answer_is_found_out_for_all(backend: str, events: list[Event]):
    """The commit of a batch took effect and its answer was lost: every member hears of its own result."""

    async def main() -> dict[str, Any]:
        port = Held(MemoryStore(PATHS[0]))
        port.answers = [lost]
        async with AsyncStateStore("s", port=port) as store:
            play = Play(store, port)
            await play.behind(("one", move, "a", "b", {"op_id": "o"}), ("two", move, "b", "c"))
            assert play.told == {"first": None, "one": "ab", "two": "bc"}
            return dict(await store.snapshot("abc"))

    assert anyio.run(main, backend=backend) == {"a": {"n": -1}, "b": {"n": 0}, "c": {"n": 1}}
    assert combined(events) == [1, 2]


def test_the_batch_ends_with_the_latest_deadline(backend: str):
    """A caller whose own deadline is earlier leaves with a receipt while the commit is under way; it resolves."""

    async def main() -> None:
        port = Held(MemoryStore(PATHS[0]))
        stuck, answer = anyio.Event(), anyio.Event()
        multi = port.multi

        async def slow(writes: Sequence[Write], *, timeout: float) -> Reply:
            reply = await multi(writes, timeout=timeout)
            if port.commits == 2:
                stuck.set()
                await answer.wait()
            return reply

        port.multi = slow  # type: ignore[method-assign]
        async with AsyncStateStore("s", port=port) as store:
            play = Play(store, port)

            async def later() -> None:
                await stuck.wait()
                await play.left.setdefault("short", anyio.Event()).wait()
                answer.set()

            async with anyio.create_task_group() as group:
                group.start_soon(later)
                await play.behind(
                    ("long", move, "a", "b", {"retry": RetryPolicy(deadline=60)}),
                    ("short", move, "a", "b", {"retry": RetryPolicy(deadline=1.0)}),
                )
            error = play.told["short"]
            assert isinstance(error, OutcomeUnknownError)
            assert (play.told["long"], (await store.get("a"))["n"]) == ("ab", -2)
            assert await store.resolve(error.receipt) is Outcome.COMMITTED

    anyio.run(main, backend=backend)


def test_rubbish_under_a_key_makes_nobody_run_twice(backend: str):
    """The commit took effect, its answer was lost, and a plain writer has spoiled one of its keys: the others tell."""

    async def main() -> None:
        memory = MemoryStore(PATHS[0])
        port = Held(memory)

        def spoil(do: Callable[[], Reply]) -> Reply:
            do()
            assert memory.put(Write("b", b"{"), timeout=3.0).ok
            return Reply("UNAVAILABLE", "connection reset")

        port.answers = [spoil]
        async with AsyncStateStore("s", port=port) as store:
            play = Play(store, port)
            await play.behind(("one", move, "a", "b"), ("two", move, "a", "c"))
            assert play.told == {"first": None, "one": "ab", "two": "ac"}
            assert await store.get("a") == {"n": -2}

    anyio.run(main, backend=backend)

"""
Transactions of one process that share keys go in one commit: what that changes for nobody, in both colours.

A store whose first commit is held up gathers the others behind it, so that how they are merged is no matter of luck.
"""

from __future__ import annotations

import contextvars
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final

import anyio
import anyio.lowlevel
import pytest

from tests.transactions.gathered import Held, Play, combined, elsewhere, move, touch
from toolkit import ABSENT, AsyncStateStore, Outcome, _turns
from toolkit.core.events import Event
from toolkit.errors import (
    AlreadyExistsError,
    RecordedError,
)
from toolkit.log import capture
from toolkit.testing.memory import MemoryStore

PATHS: Final = ("postgresql/v2", "redis")
BACKENDS: Final = ("asyncio", "trio")

Told = Any


async def add(tx: Any, key: str, number: int = 1) -> int:
    value = await tx.get(key)
    tx.put(key, {"n": value["n"] + number})
    return int(value["n"])


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may stop a body for longer than a turn lasts: here turns end when bodies do."""
    monkeypatch.setattr(_turns, "TURN_TIME", 60.0)


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=PATHS)
def path(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def events() -> Iterator[list[Event]]:
    with capture() as events:
        yield events


@pytest.fixture
def play(backend: str, path: str) -> Callable[..., dict[str, Any]]:
    """Play a scenario and give what the keys a, b and c hold at the end."""

    def played(scenario: Callable[[Play], Any], **options: Any) -> dict[str, Any]:
        async def main() -> dict[str, Any]:
            port = Held(MemoryStore(path))
            async with AsyncStateStore("s", port=port, **options) as store:
                await scenario(Play(store, port))
                return dict(await store.snapshot("abcd"))

        return anyio.run(main, backend=backend)

    return played


def test_bodies_see_those_before_them(play: Callable[..., Any], events: list[Event]):
    """Three transfers around a ring and two additions: one commit, in order of arrival, and one line for it."""

    async def scenario(play: Play) -> None:
        await play.behind(
            ("one", add, "a", 10), ("ab", move, "a", "b"), ("bc", move, "b", "c"), ("ca", move, "c", "a"), ("two", add, "a")
        )  # fmt: skip
        assert play.told == {"first": None, "one": 0, "ab": "ab", "bc": "bc", "ca": "ca", "two": 10}

    assert play(scenario) == {"a": {"n": 11}, "b": {"n": 0}, "c": {"n": 0}}
    assert combined(events) == [1, 5]
    (_, line) = [event.fields for event in events if event.name == "occ.committed"]
    assert line["keys"] == ["a", "b", "c"]
    assert [event for event in events if event.name == "occ.conflict"] == []


def test_keys_that_are_not_shared_stay_apart(play: Callable[..., Any], events: list[Event]):
    """Two groups that share no key are two commits."""

    async def scenario(play: Play) -> None:
        await play.behind(("a1", add, "a"), ("b1", add, "b"), ("a2", add, "a"), ("b2", add, "b"))

    assert play(scenario)["b"] == {"n": 2}
    assert sorted(combined(events)) == [1, 2, 2]


def test_a_body_that_raises_fails_alone(play: Callable[..., Any], events: list[Event]):
    """Its writes are in nobody's way, its caller gets its error, the others what they asked for."""

    async def fail(tx: Any, key: str) -> None:
        value = await tx.get(key)
        tx.put(key, {"n": 1000})
        raise ValueError(f"saw {value['n']}")

    async def scenario(play: Play) -> None:
        await play.behind(("one", add, "a"), ("bad", fail, "a"), ("two", add, "a"))
        assert str(play.told.pop("bad")) == "saw 1"
        assert play.told == {"first": None, "one": 0, "two": 1}

    assert play(scenario)["a"] == {"n": 2}
    assert combined(events) == [1, 2]


def test_bodies_that_only_read(play: Callable[..., Any], events: list[Event]):
    """One whose keys others write answers with the commit; another's keys nobody has to guard."""

    async def look(tx: Any, *keys: str) -> list[int]:
        return [(await tx.get(key))["n"] for key in keys]

    async def scenario(play: Play) -> None:
        await play.behind(
            ("one", add, "a"), ("covered", look, "a"), ("two", add, "a"), ("more", look, "a", "b")
        )
        # It runs by itself: before the others' commit or after it.
        assert play.told.pop("more") in ([0, 0], [2, 0])
        assert play.told == {"first": None, "one": 0, "covered": [1], "two": 1}

    assert play(scenario)["a"] == {"n": 2}
    assert max(combined(events)) == 2


def test_operation_ids(play: Callable[..., Any], events: list[Event], path: str):
    """Each has its own record; a repeat, in the same batch or later, gets the first result; an error can be recorded."""

    async def refuse(tx: Any, key: str) -> None:
        await tx.get(key)
        tx.put(key, {"n": 1000})
        raise ValueError("no")

    async def scenario(play: Play) -> None:
        bad = {"op_id": "r", "record_errors": (ValueError,)}
        await play.behind(
            ("o1", add, "a", {"op_id": "o"}), ("p", add, "a", {"op_id": "p"}), ("o2", add, "a", {"op_id": "o"}),
            ("r", refuse, "a", bad), ("plain", add, "a"),
        )  # fmt: skip
        assert isinstance(play.told.pop("r"), RecordedError)
        assert play.told["o1"] == play.told["o2"] == await play.store.transact(add, "a", op_id="o")
        assert [await play.store.outcome(op_id) for op_id in "opr"] == [Outcome.COMMITTED] * 3
        with pytest.raises(RecordedError, match="no"):
            await play.store.transact(refuse, "a", **bad)

    assert play(scenario)["a"] == {"n": 3}
    if path == PATHS[0]:
        assert combined(events)[:2] == [1, 4]


def test_a_lost_batch_is_run_again_whole(play: Callable[..., Any], events: list[Event]):
    """Somebody else writes between its reads and its commit: all bodies run again on that."""
    runs: Counter[str] = Counter()

    async def count(tx: Any, name: str, port: Held) -> int:
        value = (await tx.get("a"))["n"]
        runs[name] += 1
        if name == "one" and runs[name] == 1:
            elsewhere(port.store)
        tx.put("a", {"n": value + 1})
        tx.put("b", {"n": value})
        return int(value)

    async def scenario(play: Play) -> None:
        await play.behind(("one", count, "one", play.port), ("two", count, "two", play.port))
        assert play.told == {"first": None, "one": 100, "two": 101}

    assert play(scenario)["a"] == {"n": 102}
    # On intents one's own finishing of the commit before may move the row once more.
    assert runs["one"] == runs["two"] >= 2
    conflicts = [event.fields for event in events if event.name == "occ.conflict"]
    assert {(conflict["combined"], conflict["key"]) for conflict in conflicts} == {(2, "a")}


def test_a_body_that_waits_is_taken_out(play: Callable[..., Any], events: list[Event]):
    """It would hold up the others; what it did leaves no trace, and it commits by itself."""

    async def wait(tx: Any) -> None:
        value = await tx.get("a")
        tx.put("a", {"n": value["n"] + 10})
        await anyio.lowlevel.checkpoint()

    async def scenario(play: Play) -> None:
        await play.behind(("one", add, "a"), ("slow", wait), ("two", add, "a"))
        assert play.told == {"first": None, "one": 0, "slow": None, "two": 1}

    assert play(scenario)["a"] == {"n": 12}
    assert combined(events) == [1, 2, 1]


def test_two_creators(play: Callable[..., Any]):
    """Of two in one batch the first wins; the other is told that the key exists."""

    async def create(tx: Any, name: str) -> None:
        await tx.get("a")
        tx.create("d", {"by": name})

    async def scenario(play: Play) -> None:
        await play.behind(("one", create, "one"), ("two", create, "two"))
        assert isinstance(play.told["two"], AlreadyExistsError)

    assert play(scenario)["d"] == {"by": "one"}


def test_deletes_expiries_and_savepoints(play: Callable[..., Any]):
    """A key removed by one is absent for the next; a savepoint that raised has left nothing; on_commit runs once."""
    after: list[str] = []

    async def remove(tx: Any) -> None:
        tx.on_commit(lambda: after.append("removed"))
        await tx.get("a")
        tx.delete("a")

    async def inner(tx: Any) -> None:
        tx.put("b", {"n": 1000})
        raise KeyError("inner")

    async def again(tx: Any) -> Any:
        value = await tx.get("a", ABSENT)
        from toolkit import transactional

        with pytest.raises(KeyError):
            await transactional(inner)(tx)
        tx.put("a", {"n": 7}, ttl=60)
        return value is ABSENT

    async def scenario(play: Play) -> None:
        await play.behind(("remove", remove), ("again", again), ("add", add, "a"))
        assert play.told == {"first": None, "remove": None, "again": True, "add": 7}

    assert play(scenario) == {"a": {"n": 8}, "b": {"n": 0}, "c": {"n": 0}}
    assert after == ["removed"]


def test_a_caller_that_is_cancelled_in_line_leaves(play: Callable[..., Any], events: list[Event]):
    """It takes no part; the others go on."""

    async def scenario(play: Play) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(play.call, "first", touch, "abc")
            await play.port.arrived.wait()
            scope = anyio.CancelScope()

            async def cut() -> None:
                with scope:
                    await play.call("cut", add, "a", 100)

            group.start_soon(play.call, "one", add, "a")
            await anyio.wait_all_tasks_blocked()
            group.start_soon(cut)
            await anyio.wait_all_tasks_blocked()
            group.start_soon(play.call, "two", add, "a")
            await anyio.wait_all_tasks_blocked()
            scope.cancel()
            await anyio.wait_all_tasks_blocked()
            play.port.go.set()
        assert play.told == {"first": None, "one": 0, "two": 1}

    assert play(scenario)["a"] == {"n": 2}
    assert combined(events) == [1, 2]


def test_bodies_run_in_their_callers_context(backend: str):
    """What is bound around a call is what its body sees, whoever else is in the batch."""
    who: contextvars.ContextVar[str] = contextvars.ContextVar("who")

    async def sign(tx: Any) -> str:
        value = await tx.get("a")
        tx.put("a", {"n": value["n"] + 1})
        return who.get()

    async def main() -> None:
        port = Held(MemoryStore(PATHS[0]))
        async with AsyncStateStore("s", port=port) as store:
            play = Play(store, port)

            async def call(name: str) -> None:
                who.set(name)
                await play.call(name, sign)

            async with anyio.create_task_group() as group:
                group.start_soon(play.call, "first", touch, "abc")
                await port.arrived.wait()
                for name in ("x", "y"):
                    group.start_soon(call, name)
                await anyio.wait_all_tasks_blocked()
                port.go.set()
            assert play.told == {"first": None, "x": "x", "y": "y"}

    anyio.run(main, backend=backend)

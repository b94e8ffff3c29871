"""
The faults of the store in memory are those of the proxy, by the same names, in both colours.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import pytest

from toolkit import AsyncStateStore, RetryPolicy, StateStore
from toolkit.core.model import Write
from toolkit.testing import Faults, MemoryStore
from toolkit.testing._faults import FAULTS
from toolkit.testing.memory import AsyncMemoryStore


def put(store: MemoryStore, value: bytes, **condition: Any) -> str:
    return store.put(Write("k", value, **condition), timeout=0.01).code


def fresh() -> MemoryStore:
    store = MemoryStore("in-memory")
    assert put(store, b"0") == "OK"
    return store


@pytest.mark.parametrize(
    ("fault", "code", "stored"),
    [
        ("drop_request", "UNAVAILABLE", b"0"),
        ("drop_reply", "UNAVAILABLE", b"1"),
        ("duplicate", "ABORTED", b"1"),
        ("late_duplicate", "OK", b"1"),
        ("delay", "OK", b"1"),
        ("hang", "DEADLINE_EXCEEDED", b"0"),
        (None, "OK", b"1"),
    ],
)
def test_each_fault_answers_and_applies_as_it_says(fault: Any, code: str, stored: bytes) -> None:
    """What the sender of one conditional write hears and what the store holds; it fired once, and only once."""
    store = fresh()
    store.next(fault)
    told = put(store, b"1", etag=store.world.get("k").etag)
    assert (told, store.world.get("k").data) == (code, stored)
    assert store.fired == ({fault: 1} if fault else {})
    assert put(store, b"2") == "OK"


def test_a_late_duplicate_arrives_after_the_next_write() -> None:
    """The second copy of a blind write undoes what was written in between; healing lets it arrive without one."""
    store = fresh()
    store.next("late_duplicate")
    put(store, b"old")
    put(store, b"new")
    assert store.world.get("k").data == b"old"
    store.next("late_duplicate", "drop_request")
    put(store, b"older")
    store.world.put(Write("k", b"newer"))
    store.heal()
    assert store.world.get("k").data == b"older"
    assert put(store, b"passes") == "OK"


def test_a_transaction_is_one_message() -> None:
    """It is lost, repeated and late as a whole."""
    store = fresh()
    store.next("drop_reply", "late_duplicate")
    both = [Write("k", b"1"), Write("other", b"1")]
    assert [store.multi(both).code, store.multi(both).code] == ["UNAVAILABLE", "OK"]
    store.world.put(Write("other", b"2"))
    store.heal()
    assert store.world.get("other").data == b"1"


def test_chances_hit_their_share_and_the_seed_replays() -> None:
    """Of 1,000 writes each fault hits about its share; the same seed decides the same."""

    def told(seed: int) -> tuple[list[str], MemoryStore]:
        store = MemoryStore(
            faults=Faults(seed, drop_request=0.1, drop_reply=0.1, duplicate=0.1, late_duplicate=0.1)
        )
        return [put(store, b"%d" % number) for number in range(1000)], store

    codes, store = told(5)
    assert set(store.fired) == {"drop_request", "drop_reply", "duplicate", "late_duplicate"}
    assert all(60 < count < 140 for count in store.fired.values())
    assert codes == told(5)[0] != told(6)[0]


@pytest.mark.parametrize(
    "make",
    [
        lambda: MemoryStore().next("drop"),
        lambda: MemoryStore().next("ok"),
        lambda: Faults(hang=-0.1),
        lambda: Faults(hang=0.6, delay=0.6),
    ],
)
def test_what_is_no_fault_is_refused(make: Callable[[], object]) -> None:
    """A typing mistake in a test must not let the write pass."""
    with pytest.raises(ValueError, match=r"there are drop_request|chances"):
        make()


@pytest.mark.parametrize("fault", [*FAULTS, None])
@pytest.mark.parametrize("colour", ["sync", "asyncio", "trio"])
def test_an_update_counts_once_under_each_fault(
    colour: str, fault: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever befalls its write, and then the resend, in every colour."""
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)  # what hangs is given up at once
    port = MemoryStore(profile="redis")
    port.world.put(Write("k", b'{"n": 0}'))
    retry = RetryPolicy(deadline=20.0)

    def inc(value: Any) -> Any:
        return {"n": value["n"] + 1}

    async def work() -> None:
        async with AsyncStateStore("x", port=port, retry=retry) as store:
            port.next(fault, fault)
            assert await store.update("k", inc) == {"n": 1}

    if colour == "sync":
        with StateStore("x", port=port, retry=retry) as store:
            port.next(fault, fault)
            assert store.update("k", inc) == {"n": 1}
    else:
        anyio.run(work, backend=colour)
    port.heal()
    with StateStore("x", port=port) as store:
        assert store.get("k") == {"n": 1}


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_write_held_back_does_not_hold_up_the_loop(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits in a thread: another task lets it go."""
    store = MemoryStore()

    async def work() -> None:
        let_go = anyio.Event()
        monkeypatch.setattr(time, "sleep", lambda _seconds: anyio.from_thread.run(let_go.wait))

        async def hangs() -> None:
            await AsyncMemoryStore(store).put(Write("k", b"1"), timeout=3600.0)

        store.next("hang")
        async with anyio.create_task_group() as group:
            group.start_soon(hangs)
            await anyio.lowlevel.checkpoint()
            let_go.set()

    anyio.run(work, backend=backend)
    assert store.fired == {"hang": 1}

"""
Transactions of one process on the same keys commit in turn; a caller that leaves mid-commit is told what is known.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import anyio
import pytest

from toolkit import AsyncStateStore, Outcome, StateStore, transactional
from toolkit._gate import Gate
from toolkit.core.model import Reply, Write
from toolkit.log import capture
from toolkit.testing.memory import AsyncMemoryStore, MemoryStore


class Bell:
    """An event that only remembers."""

    def __init__(self) -> None:
        self.rung = False

    def set(self) -> None:
        self.rung = True


def keys(text: str) -> frozenset[str]:
    return frozenset(text)


def test_a_turn_goes_to_who_came_first():
    """Whoever wants a key somebody waits for gets in line behind him, even where the key is free."""
    gate = Gate(Bell)
    first = gate.ask(keys("ab"))
    second = gate.ask(keys("bc"))
    third = gate.ask(keys("c"))
    apart = gate.ask(keys("x"))
    assert [turn.granted for turn in (first, second, third, apart)] == [True, False, False, True]
    gate.leave(first)
    assert [turn.granted for turn in (second, third)] == [True, False]
    assert second.event.rung
    gate.leave(second)
    assert third.granted
    for turn in (third, apart):
        gate.leave(turn)
    assert (gate.held, gate.waiting) == (set(), [])


def test_who_leaves_the_line_holds_nobody_up():
    """A wait that ended with its deadline frees those behind it."""
    gate = Gate(Bell)
    first, second, third = gate.ask(keys("a")), gate.ask(keys("ab")), gate.ask(keys("b"))
    gate.leave(second)
    assert third.granted
    gate.leave(first)
    gate.leave(third)
    assert (gate.held, gate.waiting) == (set(), [])


@transactional
def move(tx: Any, source: str, target: str) -> None:
    a, b = tx.get(source), tx.get(target)
    tx.put(source, {"n": a["n"] - 1})
    tx.put(target, {"n": b["n"] + 1})


def test_threads_on_two_keys_lose_nothing_to_each_other():
    """Sixteen threads over the same two keys: every transfer commits, and none of them loses a conflict."""
    with StateStore("bank", port=MemoryStore()) as store, capture() as events:
        store.set("a", {"n": 100})
        store.set("b", {"n": 0})
        threads = [threading.Thread(target=move, args=(store, "a", "b")) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert dict(store.snapshot(["a", "b"])) == {"a": {"n": 84}, "b": {"n": 16}}
    assert [event for event in events if event.name == "occ.conflict"] == []


class Stuck(AsyncMemoryStore):
    """A store whose transactions take effect at once and answer when they are told to."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self.arrived, self.answer = anyio.Event(), anyio.Event()

    async def multi(self, writes: Sequence[Write], *, timeout: float) -> Reply:
        reply = self.store.multi(writes)
        if writes[0].key.startswith("_occ-probe"):
            return reply
        self.arrived.set()
        await self.answer.wait()
        return reply


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_cancelled_commit_leaves_a_receipt(backend: str):
    """Cancelled while the commit is under way: when the grace is over the log has the receipt, and it resolves."""

    @transactional
    async def both(tx: Any) -> None:
        tx.put("a", {"n": 1})
        tx.put("b", {"n": 1})

    memory = MemoryStore()

    async def main() -> list[Any]:
        port = Stuck(memory)
        with capture() as events:
            async with AsyncStateStore("x", port=port) as store:
                with anyio.CancelScope() as scope:
                    async with anyio.create_task_group() as group:
                        group.start_soon(both, store)
                        await port.arrived.wait()
                        scope.cancel()
                assert scope.cancelled_caught
                told = [event for event in events if event.name == "occ.outcome_unknown"]
                port.answer.set()
        return told

    (told,) = anyio.run(main, backend=backend)
    assert told.fields["reason"] == "cancelled"
    with StateStore("x", port=memory) as store:
        assert store.resolve(told.fields["receipt"]) is Outcome.COMMITTED

"""
Transactions of one process on the same keys commit in turn; a caller that leaves mid-commit is told what is known.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import anyio
import pytest

from toolkit import AsyncStateStore, Outcome, StateStore, transactional
from toolkit._batch import Batch, Place, Seat
from toolkit._merge import Line
from toolkit.core.model import Reply, Write
from toolkit.core.transaction import Options, TxRun
from toolkit.log import capture
from toolkit.testing.memory import AsyncMemoryStore, MemoryStore


class Bell:
    """An event that only remembers."""

    def __init__(self) -> None:
        self.rung = False

    def set(self) -> None:
        self.rung = True


class Waiting:
    """A line of which the tests know who leads."""

    def __init__(self, store: StateStore, path: str = "native") -> None:
        self.site = store._live()
        self.site.path = path  # type: ignore[assignment]
        self.led: list[Batch] = []
        self.line = Line(self.site, Bell, self.led.append)

    def seat(self, text: str, op_id: str | None = None) -> Seat:
        """Somebody who asks for these keys."""
        seat = Seat(TxRun(self.site, Options("t", op_id=op_id), 0.0, 10.0, 0.0))
        self.line.ask(seat, frozenset(text))
        return seat


@pytest.fixture
def waiting() -> Iterator[Waiting]:
    with StateStore("x", port=MemoryStore()) as store:
        yield Waiting(store)


def places(*seats: Seat) -> list[str]:
    return [seat.place.value for seat in seats]


def test_a_turn_goes_to_who_came_first(waiting: Waiting):
    """Whoever wants a key somebody waits for gets in line behind him, even where the key is free."""
    first, second, third = waiting.seat("ab"), waiting.seat("bc"), waiting.seat("c")
    apart = waiting.seat("x")
    assert places(first, second, third, apart) == ["held", "waiting", "waiting", "held"]
    waiting.line.leave(first)
    (batch,) = waiting.led
    assert batch.seats == [second, third]


def test_those_connected_by_keys_go_together(waiting: Waiting):
    """Also through others; whoever shares no key stays out of the batch and gets its keys to itself."""
    holder = waiting.seat("abcxy")
    one, two, three, apart = waiting.seat("ab"), waiting.seat("cd"), waiting.seat("bc"), waiting.seat("x")
    waiting.line.leave(holder)
    (batch,) = waiting.led
    assert batch.seats == [one, two, three]
    assert batch.keys == set("abcd")
    assert (apart.place, apart.event.rung) == (Place.HELD, True)


def test_a_batch_has_sixteen_keys_at_most(waiting: Waiting):
    """What is over waits for the next one, and nobody who came later takes a key from under it."""
    pairs = ["bc", "de", "fg", "hi", "jk", "lm", "no", "pq", "rs"]
    holder = waiting.seat("a")
    chain = [waiting.seat(f"a{pair}") for pair in pairs]
    waiting.line.leave(holder)
    (batch,) = waiting.led
    assert batch.seats == chain[:7]
    assert len(batch.keys) == 15
    assert {seat.place for seat in chain[7:]} == {Place.WAITING}


@pytest.mark.parametrize(("path", "together"), [("native", 3), ("intents", 2)])
def test_operation_ids_in_one_batch(waiting: Waiting, path: Any, together: int):
    """One id is in a batch once; on intents, where one record decides, a batch has one id at most."""
    waiting.site.path = path
    holder = waiting.seat("a")
    seats = [waiting.seat("a", op_id) for op_id in ("o", "o", "p", None)]
    waiting.line.leave(holder)
    (batch,) = waiting.led
    assert batch.seats == [seats[0], *([seats[2]] if path == "native" else []), seats[3]]
    assert len(batch.seats) == together


def test_who_leaves_the_line_holds_nobody_up(waiting: Waiting):
    """A wait that ended with its deadline frees those behind it."""
    first, second, third = waiting.seat("a"), waiting.seat("ab"), waiting.seat("b")
    waiting.line.leave(second)
    assert third.place is Place.HELD
    waiting.line.leave(first)
    waiting.line.leave(third)
    assert (waiting.line.held, waiting.line.waiting, +waiting.line.wanted) == (set(), [], Counter())


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

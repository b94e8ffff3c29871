"""
Merged transactions of threads: the turn is handed on like a baton, each body runs in its caller's own thread.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import pytest

from tests.transactions.gathered import combined, elsewhere
from toolkit import RetryPolicy, StateStore, _turns
from toolkit._batch import TURN_TIME
from toolkit.core.events import Event
from toolkit.core.model import Reply, Write
from toolkit.errors import (
    AttemptsExhaustedError,
    StoreUnavailableError,
)
from toolkit.log import capture
from toolkit.testing.memory import MemoryStore

PATHS: Final = ("postgresql/v2",)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may stop a body for longer than a turn lasts: here turns end when bodies do."""
    monkeypatch.setattr(_turns, "TURN_TIME", 60.0)


@pytest.fixture
def events() -> Iterator[list[Event]]:
    with capture() as events:
        yield events


class Gated(MemoryStore):
    """The same for threads: the first transaction waits until it is let go."""

    def __init__(self, profile: str) -> None:
        super().__init__(profile)
        self.arrived, self.go = threading.Event(), threading.Event()

    def multi(self, writes: Sequence[Write], *, timeout: float = 3.0) -> Reply:
        if not writes[0].key.startswith("_occ-probe") and not self.arrived.is_set():
            self.arrived.set()
            assert self.go.wait(30)
        return super().multi(writes)


def crowd(bodies: list[Callable[[Any], Any]]) -> tuple[list[Any], dict[str, Any]]:
    """Threads with a body each, gathered behind a commit under way; what they got, and the end."""
    port = Gated(PATHS[0])
    with StateStore("s", port=port) as store, ThreadPoolExecutor(len(bodies) + 1) as pool:
        first = pool.submit(store.transact, lambda tx: [tx.put(key, {"n": 0}) for key in "ab"] and None)
        assert port.arrived.wait(30)
        calls = []
        for number, body in enumerate(bodies, 1):
            calls.append(pool.submit(store.transact, body))
            while len(store._line.waiting) < number:
                threading.Event().wait(0.001)
        port.go.set()
        first.result(30)
        told = [call.exception(30) or call.result(30) for call in calls]
        return told, dict(store.snapshot("ab"))


def test_threads_hand_on_the_turn(events: list[Event]):
    """Each body runs in its own thread, in order, on what those before it have made."""

    def body(tx: Any) -> tuple[int, int]:
        value = tx.get("a")["n"]
        tx.put("a", {"n": value + 1})
        return value, threading.get_ident()

    told, end = crowd([body] * 8)
    assert [value for value, _ in told] == list(range(8))
    assert len({thread for _, thread in told}) == 8
    assert end == {"a": {"n": 8}, "b": {"n": 0}}
    assert max(combined(events)) > 1
    assert sum(combined(events)) == 9


def test_a_thread_that_takes_its_time_is_taken_out(monkeypatch: pytest.MonkeyPatch):
    """The others do not wait for it; it commits by itself, on what they have written."""
    monkeypatch.setattr(_turns, "TURN_TIME", TURN_TIME)
    others = threading.Event()
    runs: list[int] = []

    def quick(tx: Any) -> None:
        tx.put("a", {"n": tx.get("a")["n"] + 1})
        tx.on_commit(others.set)

    def slow(tx: Any) -> int:
        value = int(tx.get("a")["n"])
        runs.append(value)
        assert others.wait(30)
        tx.put("a", {"n": value + 10})
        return value

    told, end = crowd([slow, quick])
    assert told == [1, None]
    assert (runs[0], runs[-1]) == (0, 1)
    assert end["a"] == {"n": 11}


def test_a_thread_that_raises_fails_alone():
    """As in the other colour."""

    def good(tx: Any) -> None:
        tx.put("a", {"n": tx.get("a")["n"] + 1})

    def bad(tx: Any) -> None:
        tx.put("a", {"n": 1000})
        raise ValueError(tx.get("b")["n"])

    told, end = crowd([good, bad, good])
    assert (told[0], str(told[1]), told[2]) == (None, "0", None)
    assert end["a"] == {"n": 2}


def test_attempts_are_counted_for_each():
    """A member that may try once only leaves when its batch was lost; the other tries again."""
    port = Gated(PATHS[0])
    ran: Counter[str] = Counter()

    def body(tx: Any, name: str) -> None:
        value = tx.get("a")["n"]
        ran[name] += 1
        if ran.total() == 1:
            elsewhere(port)
        tx.put("a", {"n": value + 1})
        tx.put("b", {"n": value})

    with StateStore("s", port=port) as store, ThreadPoolExecutor(3) as pool:
        first = pool.submit(store.transact, lambda tx: [tx.put(key, {"n": 0}) for key in "ab"] and None)
        assert port.arrived.wait(30)
        policies = {"once": RetryPolicy(attempts=1), "twice": RetryPolicy()}
        calls = {}
        for number, (name, policy) in enumerate(policies.items(), 1):
            calls[name] = pool.submit(store.transact, body, name, retry=policy)
            while len(store._line.waiting) < number:
                threading.Event().wait(0.001)
        port.go.set()
        first.result(30)
        assert isinstance(calls["once"].exception(30), AttemptsExhaustedError | StoreUnavailableError)
        assert calls["twice"].exception(30) is None
        assert store.get("a") == {"n": 101}


def test_no_thread_can_be_had(monkeypatch: pytest.MonkeyPatch):
    """Where no thread can be started any more the callers are told; nobody waits for ever, and the line is free again."""

    def add(tx: Any) -> None:
        tx.put("a", {"n": tx.get("a")["n"] + 1})

    def refuse(*_: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(StateStore, "_lead", refuse)
    told, end = crowd([add, add])
    assert [str(error) for error in told] == ["can't start new thread"] * 2
    assert end["a"] == {"n": 0}

"""
A transaction that others wait for is interrupted at the entry of every function: they get its keys at once.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue
from threading import get_ident
from typing import Any, cast

import pytest

from tests.strikes import EVENTS, as_long_as, elsewhere, everywhere
from toolkit import StateStore, Transaction
from toolkit.core.model import Reply, Write
from toolkit.testing.memory import MemoryStore

# Seconds; the deadline of a call is 10, and the lease of a commit that is left lying 3.
PATIENCE = 5.0
# A strike inside of a destructor goes nowhere, and is told to nobody but Python.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


class Joined(MemoryStore):
    """
    A store in which the first commit ends when another transaction stands in line, or the first one is gone.

    It waits in one call of a function written in C, so that the places to strike at are the same each time.
    """

    def __init__(self, followers: int) -> None:
        super().__init__(profile="in-memory")
        self.followers = followers
        self.leading, self.reached, self.joined = False, SimpleQueue[None](), SimpleQueue[None]()
        self.leader, self.store = 0, cast("Any", None)

    def watch(self) -> None:
        as_long_as(lambda: self.leading and len(self.store._line.waiting) < self.followers)
        self.joined.put(None)

    def multi(self, writes: Sequence[Write], *, timeout: float = 1.0) -> Reply:
        if self.leading and get_ident() == self.leader:
            self.leader = 0  # once; another thread may come to have this number
            self.reached.put(None)
            self.joined.get(timeout=PATIENCE)
        # A real store is not struck in the middle.
        replies = SimpleQueue[Reply]()
        elsewhere(lambda: replies.put(super(Joined, self).multi(writes, timeout=timeout)))
        return replies.get(timeout=PATIENCE)


def sign(tx: Transaction, name: str) -> None:
    for key in ("a", "b"):
        tx.put(key, {"seen": [*tx.get(key)["seen"], name]})


def check(store: StateStore, done: list[str]) -> None:
    """All that was acknowledged is there, on both keys or on none, nothing twice, and nobody is left in line."""
    store._background.drain(PATIENCE)
    seen = store.get("a")["seen"]
    assert seen == store.get("b")["seen"]
    assert len(seen) == len(set(seen))
    assert set(done) <= set(seen)
    line = store._line
    assert (line.held, line.waiting, line.wanted.total(), line.forming) == (set(), [], 0, [])
    assert store._under_way.calls == []


@EVENTS
@pytest.mark.parametrize("followers", [1, 2])
def test_a_commit_interrupted_anywhere_holds_up_nobody_in_line(followers: int, event: str) -> None:
    port, numbers = Joined(followers), itertools.count()
    done: list[str] = []
    with StateStore("x", port=port) as store:
        port.store = store
        for key in ("a", "b"):
            store.set(key, {"seen": []})
        store.transact(sign, "zero")
        others: list[Future[Any]] = []

        def follow(name: str) -> None:
            as_long_as(lambda: port.leading and not store._line.held)
            store.transact(sign, name)
            done.append(name)

        def lead() -> None:
            name = f"first-{next(numbers)}"
            store.transact(sign, name)
            done.append(name)

        def before() -> None:
            port.leading, port.leader, port.joined = True, get_ident(), SimpleQueue()
            others[:] = [elsewhere(partial(follow, f"other-{next(numbers)}")) for _ in range(followers)]
            others.append(elsewhere(port.watch))

        def after(at: int) -> None:
            port.leading = False
            try:
                for other in others:
                    other.result(PATIENCE)
            except TimeoutError as error:
                raise AssertionError(f"it waits after a strike at function {at}") from error

        everywhere(lead, after, event, before=before)
        check(store, done)


@EVENTS
@pytest.mark.parametrize("others", [0, 1])
def test_who_waits_is_interrupted_anywhere(others: int, event: str) -> None:
    """Alone in line, and with another one in a batch: those before, beside and behind him go on."""
    port, numbers = Joined(others + 1), itertools.count()
    done: list[str] = []
    with StateStore("x", port=port) as store:
        port.store = store
        for key in ("a", "b"):
            store.set(key, {"seen": []})
        store.transact(sign, "zero")
        running: list[Future[Any]] = []

        def transact(name: str) -> None:
            store.transact(sign, f"{name}-{next(numbers)}")

        def first() -> None:
            port.leader = get_ident()
            transact("first")

        def beside() -> None:
            as_long_as(lambda: port.leading and not store._line.waiting)
            transact("beside")

        def before() -> None:
            port.leading, port.reached, port.joined = True, SimpleQueue(), SimpleQueue()
            running[:] = [elsewhere(first), elsewhere(port.watch)] + [
                elsewhere(beside) for _ in range(others)
            ]

        def call() -> None:
            port.reached.get(timeout=PATIENCE)
            name = f"mine-{next(numbers)}"
            store.transact(sign, name)
            done.append(name)

        def after(at: int) -> None:
            port.leading = False
            try:
                for other in running:
                    other.result(PATIENCE)
                elsewhere(partial(transact, "behind")).result(PATIENCE)
            except TimeoutError as error:
                raise AssertionError(f"it waits after a strike at function {at}") from error

        everywhere(call, after, event, before=before)
        check(store, done)

"""
A transaction that others wait for is interrupted at the entry of every function: they get its keys at once.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
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


def sign(tx: Transaction, name: str, keys: Sequence[str]) -> None:
    for key in keys:
        tx.put(key, {"seen": [*tx.get(key)["seen"], name]})


class Scene:
    """A store, and those who sign on two keys of it at once; who is called ``beside`` on one of them."""

    def __init__(self, port: Joined, store: StateStore) -> None:
        self.port, self.store = port, store
        self.numbers, self.done = itertools.count(), list[str]()
        self.others: list[Future[Any]] = []
        port.store = store
        for key in ("a", "b"):
            store.set(key, {"seen": []})
        self.sign("zero")  # with which the path of commits is proved, once

    def sign(self, who: str) -> None:
        name = f"{who}-{next(self.numbers)}"
        self.store.transact(sign, name, ("a",) if who == "beside" else ("a", "b"))
        self.done.append(name)

    def begin(self, leader: int, *others: Callable[[], Any]) -> None:
        port = self.port
        port.leading, port.leader, port.reached, port.joined = True, leader, SimpleQueue(), SimpleQueue()
        self.others = [elsewhere(other) for other in (*others, port.watch)]

    def end(self, at: int) -> None:
        self.port.leading = False
        try:
            for other in self.others:
                other.result(PATIENCE)
            elsewhere(partial(self.sign, "behind")).result(PATIENCE)
        except TimeoutError as error:
            raise AssertionError(f"somebody waits after a strike at function {at}") from error

    def check(self) -> None:
        """All that was acknowledged is there, on both keys or on none, nothing twice, and nobody is left in line."""
        self.store._background.drain(PATIENCE)
        seen = self.store.get("a")["seen"]
        assert [name for name in seen if not name.startswith("beside")] == self.store.get("b")["seen"]
        assert len(seen) == len(set(seen))
        assert set(self.done) <= set(seen)
        assert {name for name in seen if not name.startswith("mine")} <= set(self.done)
        line = self.store._line
        assert (line.held, line.waiting, line.wanted.total(), line.forming) == (set(), [], 0, [])
        assert self.store._under_way.calls == []


@EVENTS
@pytest.mark.parametrize("followers", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_a_commit_interrupted_anywhere_holds_up_nobody_in_line(followers: int, event: str) -> None:
    port = Joined(followers)
    with StateStore("x", port=port) as store:
        scene = Scene(port, store)

        def follow() -> None:
            as_long_as(lambda: port.leading and not store._line.held)
            scene.sign("other")

        def before() -> None:
            scene.begin(get_ident(), *[follow] * followers)

        everywhere(lambda: scene.sign("mine"), scene.end, event, before=before)
        scene.check()


@EVENTS
@pytest.mark.parametrize("others", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_who_waits_is_interrupted_anywhere(others: int, event: str) -> None:
    """Alone in line, and with another one in a batch: those before, beside and behind him go on."""
    port = Joined(others + 1)
    with StateStore("x", port=port) as store:
        scene = Scene(port, store)

        def first() -> None:
            port.leader = get_ident()
            scene.sign("first")

        def beside() -> None:
            as_long_as(lambda: port.leading and not store._line.waiting)
            scene.sign("beside")

        def call() -> None:
            port.reached.get(timeout=PATIENCE)
            scene.sign("mine")

        everywhere(call, scene.end, event, before=lambda: scene.begin(0, first, *[beside] * others))
        scene.check()

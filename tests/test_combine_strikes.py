"""
A caller who leads is interrupted at the entry of every function while another waits in his batch, who waits for nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue
from threading import get_ident
from typing import Any, cast

import pytest

from tests.strikes import EVENTS, as_long_as, elsewhere, everywhere
from toolkit import Outcome, OutcomeUnknownError, StateStore
from toolkit.core.model import Reply, Row, Write
from toolkit.testing.memory import MemoryStore

# Seconds; the deadline of a call is 10.
PATIENCE = 5.0
# A strike inside of a destructor goes nowhere, and is told to nobody but Python.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


class Joined(MemoryStore):
    """
    A store in which a call of whoever leads ends when so many stand in line, or the one to be struck is gone.

    It waits in one call of a function written in C, so that the places to strike at are the same each time.
    """

    def __init__(self, held: str = "get", line: int = 2) -> None:
        super().__init__()
        self.held, self.line = held, line
        self.leading, self.reached, self.joined = False, SimpleQueue[None](), SimpleQueue[None]()
        self.leader, self.store = 0, cast("Any", None)

    def in_line(self) -> int:
        queue = self.store._combiner.queues.get("k")
        return 0 if queue is None else len(queue.waiting)

    def watch(self) -> None:
        as_long_as(lambda: self.leading and self.in_line() < self.line)
        self.joined.put(None)

    def hold(self) -> None:
        if self.leading and get_ident() == self.leader:
            self.leader = 0  # once; another thread may come to have this number
            self.reached.put(None)
            self.joined.get(timeout=PATIENCE)

    def get(self, key: str, *, strong: bool = True, timeout: float = 1.0) -> Row | Reply:
        if self.held == "get":
            self.hold()
        return super().get(key, strong=strong, timeout=timeout)

    def put(self, write: Write, *, timeout: float = 1.0) -> Reply:
        if self.held == "put":
            self.hold()
        return super().put(write, timeout=timeout)


def adds(name: str) -> Callable[[Any], Any]:
    return lambda value: {"seen": [*value["seen"], name]}


@EVENTS
def test_a_leader_interrupted_anywhere_holds_up_nobody_in_his_batch(event: str) -> None:
    """All that was acknowledged is there, and nothing twice."""
    port, numbers = Joined(), itertools.count()
    done: list[str] = []
    committed: list[str] = []
    with StateStore("x", port=port) as store:
        port.store = store
        store.set("k", {"seen": []})
        others: list[Future[Any]] = []

        def follow(name: str) -> None:
            as_long_as(lambda: port.leading and not port.in_line())
            try:
                store.update("k", adds(name))
            except OutcomeUnknownError as error:
                # Struck inside of the protocol, which cannot go on with a write that it has sent, or was about to send.
                if store.resolve(error.receipt) is Outcome.COMMITTED:
                    committed.append(name)
            else:
                done.append(name)

        def before() -> None:
            port.leading, port.leader, port.joined = True, get_ident(), SimpleQueue()
            others[:] = [elsewhere(partial(follow, f"second-{next(numbers)}")), elsewhere(port.watch)]

        def lead() -> None:
            name = f"first-{next(numbers)}"
            store.update("k", adds(name))
            done.append(name)

        def after(at: int) -> None:
            port.leading = False
            try:
                for other in others:
                    other.result(PATIENCE)
            except TimeoutError as error:
                raise AssertionError(f"it waits after a strike at function {at}") from error

        everywhere(lead, after, event, before=before)
        store._background.drain(PATIENCE)
        seen = store.get("k")["seen"]
        assert len(seen) == len(set(seen))
        assert set(done) <= set(seen)
        assert [one for one in seen if one.startswith("second") and one not in done] == committed
        assert store._combiner.queues == {}


@EVENTS
@pytest.mark.parametrize("held", ["get", "put"])
def test_who_waits_is_interrupted_anywhere(held: str, event: str) -> None:
    """In the batch of another, and as the one who is to lead the next: those before and behind him go on."""
    port, numbers = Joined(held, line=3 if held == "get" else 2), itertools.count()
    done: list[str] = []
    with StateStore("x", port=port) as store:
        port.store = store
        store.set("k", {"seen": []})
        others: list[Future[Any]] = []

        def update(name: str) -> None:
            name = f"{name}-{next(numbers)}"
            try:
                store.update("k", adds(name))
            except OutcomeUnknownError as error:
                if store.resolve(error.receipt) is not Outcome.COMMITTED:
                    return
            done.append(name)

        def first() -> None:
            port.leader = get_ident()
            update("first")

        def behind() -> None:
            as_long_as(lambda: port.leading and port.in_line() < port.line - 1)
            update("behind")

        def before() -> None:
            port.leading, port.reached, port.joined = True, SimpleQueue(), SimpleQueue()
            others[:] = [elsewhere(first), elsewhere(behind), elsewhere(port.watch)]

        def call() -> None:
            port.reached.get(timeout=PATIENCE)
            update("mine")

        def after(at: int) -> None:
            port.leading = False
            try:
                for other in others:
                    other.result(PATIENCE)
                elsewhere(partial(update, "next")).result(PATIENCE)
            except TimeoutError as error:
                raise AssertionError(f"it waits after a strike at function {at}") from error

        everywhere(call, after, event, before=before, least=10)
        store._background.drain(PATIENCE)
        seen = store.get("k")["seen"]
        assert len(seen) == len(set(seen))
        assert [one for one in seen if not one.startswith("mine")] == [
            one for one in seen if one in done and not one.startswith("mine")
        ]
        assert set(done) <= set(seen)
        assert store._combiner.queues == {}

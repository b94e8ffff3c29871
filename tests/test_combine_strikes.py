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


class Scene:
    """
    A store, and those who use one key of it at once.

    Attributes:
        done: What was acknowledged, or found to be committed by its receipt.
    """

    def __init__(self, port: Joined, store: StateStore) -> None:
        self.port, self.store = port, store
        self.numbers, self.done = itertools.count(), list[str]()
        self.others: list[Future[Any]] = []
        port.store = store
        store.set("k", {"seen": []})

    def update(self, who: str) -> None:
        name = f"{who}-{next(self.numbers)}"
        try:
            self.store.update("k", lambda value: {"seen": [*value["seen"], name]})
        except OutcomeUnknownError as error:
            # Struck inside of the protocol, which cannot go on with a write that it has sent, or was about to send.
            if self.store.resolve(error.receipt) is not Outcome.COMMITTED:
                return
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
            elsewhere(partial(self.update, "next")).result(PATIENCE)
        except TimeoutError as error:
            raise AssertionError(f"somebody waits after a strike at function {at}") from error

    def check(self) -> None:
        """All that was acknowledged is there, nothing twice, and of the others nothing else; nobody is left in line."""
        self.store._background.drain(PATIENCE)
        seen = self.store.get("k")["seen"]
        assert len(seen) == len(set(seen))
        assert set(self.done) <= set(seen)
        assert {name for name in seen if not name.startswith("mine")} <= set(self.done)
        assert self.store._combiner.queues == {}


@EVENTS
def test_a_leader_interrupted_anywhere_holds_up_nobody_in_his_batch(event: str) -> None:
    port = Joined()
    with StateStore("x", port=port) as store:
        scene = Scene(port, store)

        def follow() -> None:
            as_long_as(lambda: port.leading and not port.in_line())
            scene.update("second")

        everywhere(
            lambda: scene.update("mine"), scene.end, event, before=lambda: scene.begin(get_ident(), follow)
        )
        scene.check()


@EVENTS
@pytest.mark.parametrize("held", ["get", "put"])
def test_who_waits_is_interrupted_anywhere(held: str, event: str) -> None:
    """In the batch of another, and as the one who is to lead the next: those before and behind him go on."""
    port = Joined(held, line=3 if held == "get" else 2)
    with StateStore("x", port=port) as store:
        scene = Scene(port, store)

        def first() -> None:
            port.leader = get_ident()
            scene.update("first")

        def behind() -> None:
            as_long_as(lambda: port.leading and port.in_line() < port.line - 1)
            scene.update("behind")

        def call() -> None:
            port.reached.get(timeout=PATIENCE)
            scene.update("mine")

        everywhere(call, scene.end, event, before=lambda: scene.begin(0, first, behind), least=10)
        scene.check()

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

from tests.strikes import EVENTS, elsewhere, everywhere
from toolkit import Outcome, OutcomeUnknownError, StateStore
from toolkit.core.model import Reply, Row
from toolkit.testing.memory import MemoryStore

# Seconds; the deadline of a call is 10.
PATIENCE = 5.0
# A strike inside of a destructor goes nowhere, and is told to nobody but Python.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


class Joined(MemoryStore):
    """
    A store in which the read of whoever leads ends when another caller has joined, or the first one is gone.

    It waits in one call of a function written in C, so that the places to strike at are the same each time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.leading, self.joined = False, SimpleQueue[None]()
        self.leader, self.store = get_ident(), cast("Any", None)

    def in_line(self) -> int:
        queue = self.store._combiner.queues.get("k")
        return 0 if queue is None else len(queue.waiting)

    def watch(self) -> None:
        while self.leading and self.in_line() < 2:
            pass
        self.joined.put(None)

    def get(self, key: str, *, strong: bool = True, timeout: float = 1.0) -> Row | Reply:
        if self.leading and get_ident() == self.leader:
            self.joined.get(timeout=PATIENCE)
        return super().get(key, strong=strong, timeout=timeout)


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
            while port.leading and not port.in_line():
                pass
            try:
                store.update("k", adds(name))
            except OutcomeUnknownError as error:
                # Struck inside of the protocol, which cannot go on with a write that it has sent, or was about to send.
                if store.resolve(error.receipt) is Outcome.COMMITTED:
                    committed.append(name)
            else:
                done.append(name)

        def before() -> None:
            port.leading, port.joined = True, SimpleQueue()
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

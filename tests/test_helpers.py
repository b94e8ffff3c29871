"""
Threads that make calls beside the caller's own.
"""

from __future__ import annotations

import threading
from queue import SimpleQueue
from typing import Any

import pytest

from tests.strikes import EVENTS, everywhere
from toolkit.dapr.address import Token, address_of
from toolkit.dapr.helpers import Helpers
from toolkit.dapr.port import GrpcPort

PATIENCE = 5.0


def names(helpers: Helpers, count: int) -> list[str]:
    """The threads that ran so many works, one after the other."""
    found = SimpleQueue[str]()
    told = []
    for _ in range(count):
        helpers.help(lambda: found.put(threading.current_thread().name))
        told.append(found.get(timeout=PATIENCE))
        while len(helpers._idle) < len(helpers._threads):
            pass
    return told


def test_an_idle_one_is_used_again() -> None:
    helpers = Helpers("calls", 8)
    assert names(helpers, 5) == ["calls"] * 5
    assert len(helpers._threads) == 1


def test_no_more_than_so_many() -> None:
    helpers, gate, done = Helpers("calls", 2), threading.Event(), SimpleQueue[int]()

    def work(number: int) -> None:
        assert gate.wait(PATIENCE)
        done.put(number)

    for number in range(5):
        helpers.help(lambda number=number: work(number))
    assert len(helpers._threads) == 2
    gate.set()
    assert sorted(done.get(timeout=PATIENCE) for _ in range(5)) == [0, 1, 2, 3, 4]


def test_they_end_when_they_are_let_go() -> None:
    helpers = Helpers("calls", 8)
    names(helpers, 1)
    helpers.close()
    for thread in helpers._threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()


@EVENTS
def test_an_interrupt_costs_nobody_a_helper(event: str) -> None:
    helpers, done = Helpers("calls", 64), SimpleQueue[int]()

    def after(at: int) -> None:
        helpers.help(lambda: done.put(at))
        while done.get(timeout=PATIENCE) != at:
            pass

    everywhere(lambda: helpers.help(lambda: done.put(0)), after, event, least=1)


def test_calls_are_made_where_no_thread_can_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_thread: Any) -> None:
        raise RuntimeError("can't start new thread")

    def call(request: int, **_: Any) -> int:
        return request * 10

    monkeypatch.setattr(threading.Thread, "start", start)
    port = GrpcPort("x", address_of("127.0.0.1:1"), Token.of("t"))
    assert port._together([(call, 1), (call, 2), (call, 3)], 1.0) == [10, 20, 30]
    assert port._helpers._threads == []


def test_whatever_a_call_raises_elsewhere_is_raised_here() -> None:
    """A token function that ends its thread, say: nobody waits for an answer that does not come."""
    mine = threading.current_thread()

    def call(request: int, **_: Any) -> int:
        if threading.current_thread() is mine:
            gate.wait(PATIENCE)
            return request
        gate.set()
        raise SystemExit

    gate = threading.Event()
    port = GrpcPort("x", address_of("127.0.0.1:1"), Token.of("t"))
    with pytest.raises(SystemExit):
        port._together([(call, 1), (call, 2)], 1.0)

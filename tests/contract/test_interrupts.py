"""
A call interrupted at the entry of every function that it runs, grpc's own among them: nobody waits for what it left behind.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest

from tests.contract.common import inc
from tests.strikes import EVENTS, Strike, elsewhere, everywhere
from toolkit import Outcome, RetryPolicy, StateError, StateStore, Transaction
from toolkit._interrupts import let_go

PATIENCE = 10.0
# A strike inside of a destructor goes nowhere, and is told to nobody but Python.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(params=["in-memory"])
def store(live_named: Any, request: pytest.FixtureRequest) -> Iterator[StateStore]:
    """Its deadline is shorter than the lease of a commit that nobody goes on with."""
    live = live_named(request.param)
    with StateStore(live.name, address=live.address, retry=RetryPolicy(deadline=2.0)) as store:
        yield store
        store.close(0.1)  # a strike at the last function of a read leaves that read counted for good


def promptly(call: Callable[[], Any], at: int) -> Any:
    """What another thread gets, to which the strike must make no difference."""
    try:
        return elsewhere(call).result(PATIENCE)
    except (TimeoutError, StateError) as error:
        raise AssertionError(f"stuck after a strike at function {at}") from error


@EVENTS
def test_an_update_interrupted_anywhere_holds_up_nobody(store: StateStore, event: str) -> None:
    """Another thread updates the key at once, and each interrupted call has taken effect once or not at all."""
    key, ids, others = uuid4().hex, itertools.count(), itertools.count()
    store.set(key, {"n": 0})

    def after(at: int) -> None:
        next(others)
        promptly(lambda: store.update(key, inc), at)

    # A value has room for 877 ids.
    everywhere(lambda: store.update(key, inc, op_id=f"m-{next(ids)}"), after, event, stride=2)
    store._background.drain(PATIENCE)
    outcomes = [store.outcome(f"m-{number}", key=key) for number in range(next(ids))]
    assert store.get(key) == {"n": next(others) + outcomes.count(Outcome.COMMITTED)}
    assert store._combiner.queues == {}


@EVENTS
@pytest.mark.parametrize("verb", ["get", "get_many"])
def test_a_read_interrupted_anywhere_holds_up_nobody(store: StateStore, verb: str, event: str) -> None:
    """Another thread reads the same at once."""
    keys = [uuid4().hex, uuid4().hex]
    for key in keys:
        store.set(key, {"n": 1})

    def call() -> Any:
        return store.get(keys[0]) if verb == "get" else store.get_many(keys)

    expected = call()

    def after(at: int) -> None:
        assert promptly(call, at) == expected

    everywhere(call, after, event)


@EVENTS
@pytest.mark.parametrize(
    ("store", "within"),
    [("in-memory", ""), ("redis", "grpc")],
    indirect=["store"],
    ids=["in-memory", "redis"],
)
def test_a_transaction_interrupted_anywhere_holds_up_nobody(
    store: StateStore, within: str, event: str
) -> None:
    """
    Another thread moves the same keys at once, and each interrupted move has happened on both or on none.

    On Redis only inside of its calls: a strike in the protocol itself leaves its intents to their lease.
    """
    keys, ids, others = (uuid4().hex, uuid4().hex), itertools.count(), itertools.count()
    for key in keys:
        store.set(key, {"n": 0})

    def move(tx: Transaction) -> None:
        for key, step in zip(keys, (1, -1), strict=True):
            tx.put(key, {"n": tx.get(key)["n"] + step})

    def after(at: int) -> None:
        next(others)
        promptly(lambda: store.transact(move), at)

    everywhere(
        lambda: store.transact(move, op_id=f"{keys[0]}-{next(ids)}"), after, event, stride=3, within=within
    )
    store._background.drain(PATIENCE)
    outcomes = [store.outcome(f"{keys[0]}-{number}") for number in range(next(ids))]
    moved = next(others) + outcomes.count(Outcome.COMMITTED)
    assert store.get_many(keys) == {keys[0]: {"n": moved}, keys[1]: {"n": -moved}}


def test_what_an_interrupt_left_held_is_given_back() -> None:
    """At the door of a condition, and of a context made of a generator; what had been given back is left alone."""
    condition, lock = threading.Condition(threading.Lock()), threading.Lock()

    @contextlib.contextmanager
    def held() -> Iterator[None]:
        with lock:
            yield

    for context, free in ((condition, condition), (held(), lock)):
        with pytest.raises(KeyboardInterrupt) as struck, context:
            sys.setprofile(Strike(1))
        let_go(struck.value)
        assert free.acquire(blocking=False)
        free.release()
        let_go(struck.value)
        assert free.acquire(blocking=False)
        free.release()


def test_what_an_interrupt_has_just_taken_is_given_back() -> None:
    """Struck when the lock of a condition is taken, and its block not yet begun."""
    condition = threading.Condition()

    def enter() -> None:
        sys.setprofile(Strike(1, "test_interrupts", "c_return"))
        with condition:
            pass

    with pytest.raises(KeyboardInterrupt) as struck:
        enter()
    let_go(struck.value)
    assert elsewhere(lambda: condition.acquire(blocking=False)).result(PATIENCE)

"""
Commits that end anywhere, answers that are lost, and whoever comes next: on the fake, on both commit paths.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from threading import Barrier, Thread
from typing import Any

import anyio
import pytest

from tests.transactions.commits import PATHS, QUICK, move
from toolkit import Access, AsyncStateStore, Outcome, RetryPolicy, StateStore
from toolkit.core.intents import intent_of
from toolkit.core.model import Reply, Row, Write
from toolkit.core.records import OP_PREFIX, TX_PREFIX, load, op_key
from toolkit.core.seen import see
from toolkit.errors import (
    OperationVoidedError,
    OutcomeUnknownError,
    StoreUnavailableError,
)
from toolkit.testing.memory import MemoryStore
from toolkit.testing.points import PointError, arm, fail


@pytest.mark.parametrize("profile", PATHS)
@pytest.mark.parametrize(
    "point",
    [
        "transact.ran",
        "commit.prepare",
        "commit.prepared",
        "commit.decide",
        "commit.decided",
        "commit.multi",
        "commit.applied",
        "finish.write",
        "finish.written",
        "finish.decide",
    ],
)
def test_a_program_that_ends_anywhere(profile: str, point: str) -> None:
    """Another one finds all of the transaction or nothing, and goes on within the lease."""
    port = MemoryStore(profile)
    with StateStore("s", port=port, lease=0.2) as store:
        store.transact(move)
        store._background.drain(5)
        with arm({point: fail(PointError("gone"), hit=0)}):
            if point.startswith("finish") or _not_on(point, PATHS[profile]):
                store.transact(move)
            else:
                with pytest.raises(PointError):
                    store.transact(move)
            store._background.drain(5)
    with StateStore("s", port=port, lease=0.2) as store:
        seen = dict(store.snapshot("ab"))
        assert seen["a"] == seen["b"]
        store.transact(move, retry=RetryPolicy(deadline=5.0))
        store.update("a", lambda value: value)
        after = dict(store.snapshot("ab"))
        store._background.drain(5)
    assert after["a"] == after["b"]
    assert after["a"]["n"] in (2, 3)
    assert [key for key in "ab" if _intent(port, key) is not None] == []


def _not_on(point: str, path: str) -> bool:
    return point in (
        {"commit.multi", "commit.applied"}
        if path == "intents"
        else {"commit.prepare", "commit.prepared", "commit.decide", "commit.decided"}
    )


def _intent(port: MemoryStore, key: str) -> Any:
    return intent_of(see(key, port.world.get(key)))


def test_an_unfinished_commit_is_seen_whole() -> None:
    """Decided and not finished: readers see the new values, a repeat of the id the result, and the record names the keys."""
    port = MemoryStore("redis")
    with StateStore("s", port=port) as store:
        with arm({"finish.write": fail(PointError("gone"), hit=0)}):
            store.transact(move, op_id="op")
            store._background.drain(5)
        assert store.get_many(["a", "b"]) == {"a": {"n": 1}, "b": {"n": 1}}
        store.transact(move, op_id="op")
        record = load(op_key("op"), port.world.get(op_key("op")))
        assert (record.keys, record.done) == (("a", "b"), False)
        assert _intent(port, "a") is not None


def test_records_expire_only_when_all_is_finished() -> None:
    """No TTL before every key is finished; then there is one (-1 would have cleared it)."""
    sent: list[Write] = []

    class Watched(MemoryStore):
        def put(self, write: Write, **options: Any) -> Reply:
            if write.key.startswith((TX_PREFIX, OP_PREFIX)):
                sent.append(write)
            return super().put(write, **options)

    with StateStore("s", port=Watched("redis")) as store:
        store.transact(move)
        store._background.drain(5)
    first, last = sent
    assert first.ttl in (None, -1)
    assert last.ttl is not None
    assert last.ttl >= 3600


def test_a_record_without_keys_expires_from_the_start() -> None:
    """A body that only reads under an op id leaves nothing to finish."""
    port = MemoryStore("redis")
    with StateStore("s", port=port) as store:
        store.transact(lambda tx: tx.get("a"), op_id="look")
    assert load(op_key("look"), port.world.get(op_key("look"))).done


def test_lost_answers_are_settled_from_the_record() -> None:
    """Whatever write of a commit loses its answer or is lost itself, the transaction is applied once."""
    for fault in ("drop_reply", "drop_request", "duplicate", "late_duplicate"):
        for place in range(3):
            port = MemoryStore("redis")
            with StateStore("s", port=port) as store:
                port.next(*[None] * place, fault)
                store.transact(move)
                assert dict(store.snapshot("ab")) == {"a": {"n": 1}, "b": {"n": 1}}, (fault, place)


class Deaf(MemoryStore):
    """From a decision on, nothing gets through any more."""

    deaf = False

    def put(self, write: Write, **options: Any) -> Reply:
        if write.key.startswith(TX_PREFIX):
            reply = super().put(write, **options)
            self.deaf = True
            return Reply("UNAVAILABLE", "gone") if reply.ok else reply
        return Reply("UNAVAILABLE", "gone") if self.deaf else super().put(write, **options)

    def get(self, key: str, **options: Any) -> Row | Reply:
        return Reply("UNAVAILABLE", "gone") if self.deaf else super().get(key, **options)


def test_an_unknown_outcome_has_a_receipt() -> None:
    """``OutcomeUnknownError`` carries it, and another process resolves it; so it does for one that is not committed."""
    port = Deaf("redis")
    with StateStore("s", port=port, retry=QUICK) as store, pytest.raises(OutcomeUnknownError) as caught:
        store.transact(move)
    port.deaf = False
    with StateStore("s", port=port) as other:
        assert other.resolve(caught.value.receipt) is Outcome.COMMITTED
        assert dict(other.snapshot("ab")) == {"a": {"n": 1}, "b": {"n": 1}}


def test_an_outage_is_no_conflict() -> None:
    """No answer at all until the deadline is ``StoreUnavailableError``."""
    port = Deaf("redis")
    port.deaf = True
    with StateStore("s", port=port, retry=QUICK) as store, pytest.raises(StoreUnavailableError):
        store.transact(move)


def test_voiding_against_two_live_attempts() -> None:
    """Two programs run one id while a third voids it: one truth, the same for all three."""
    for number in range(40):
        port = MemoryStore(("redis", "postgresql/v2")[number % 2])
        told: list[str] = []
        start = Barrier(3)

        def attempt(port: MemoryStore = port, told: list[str] = told, start: Barrier = start) -> None:
            with StateStore("s", port=port) as store:
                start.wait(10)
                try:
                    store.transact(move, op_id="op")
                    told.append("committed")
                except OperationVoidedError:
                    told.append("voided")

        threads = [Thread(target=attempt) for _ in range(2)]
        for thread in threads:
            thread.start()
        with StateStore("s", port=port) as store:
            start.wait(10)
            outcome = store.void("op")
            for thread in threads:
                thread.join()
            expected = "committed" if outcome is Outcome.COMMITTED else "voided"
            assert set(told) == {expected}
            count = 1 if outcome is Outcome.COMMITTED else 0
            assert [value["n"] for value in store.snapshot("ab").values()] == [1, 1] * count


@pytest.mark.parametrize(
    ("point", "value"), [("commit.prepared", 0), ("commit.decided", 1), ("finish.write", 1)]
)
@pytest.mark.parametrize("reader", ["sync", "async", "snapshot", "read only"])
def test_a_reader_finishes_what_a_dead_process_left(point: str, value: int, reader: str) -> None:
    """Long after the lease, in the background; a handle that may only read leaves everything as it is."""
    port = MemoryStore("redis")
    options: dict[str, Any] = {"port": port, "lease": 0.01, "clock_skew": 0.0}
    with StateStore("s", **options) as store:
        store.set("a", {"n": 0})
        store.set("b", {"n": 0})
        with arm({point: fail(PointError("gone"), hit=0)}):
            with suppress(PointError):
                store.transact(move)
            store._background.drain(5)
    lease = json.loads(port.get("a").data)["_occ"]["tx"]["lease"]
    while time.time() <= lease:
        pass  # a hundredth of a second
    _read_by(reader, options, value)
    for key in "ab":
        row = port.get(key)
        assert (b'"tx"' in row.data) == (reader == "read only")
        if reader != "read only":
            assert json.loads(row.data)["n"] == value


def _read_by(reader: str, options: dict[str, Any], value: int) -> None:
    async def look() -> None:
        async with AsyncStateStore("s", **options) as store:
            for key in "ab":
                assert await store.get(key) == {"n": value}

    if reader == "async":
        anyio.run(look)
        return
    access = Access.READ if reader == "read only" else Access.ALL
    with StateStore("s", access=access, **options) as store:
        if reader == "snapshot":
            assert dict(store.snapshot("ab")) == {"a": {"n": value}, "b": {"n": value}}
        else:
            assert [store.get(key) for key in "ab"] == [{"n": value}] * 2


@pytest.mark.parametrize("path", ["native", "intents"])
def test_an_expired_row_that_lingers(path: str) -> None:
    """Where a row of a plain writer has expired and still refuses a create, a transaction sweeps it and goes on."""
    passed = 0.0
    port = MemoryStore("mysql", clock=lambda: time.time() + passed)
    assert port.put(Write("a", b'{"n":7}', ttl=1), timeout=1).ok
    passed = 2.0
    assert port.get("a", strong=True, timeout=1).missing
    assert not port.put(Write("a", b'{"n":8}', first_write=True), timeout=1).ok
    with StateStore("s", port=port) as store:
        store._live().path = path
        store.transact(move)
        assert dict(store.snapshot("ab")) == {"a": {"n": 1}, "b": {"n": 1}}


def test_a_stuck_lease_of_a_clock_that_is_ahead() -> None:
    """An owner whose clock is an hour ahead is waited for as long as a lease, not until its hour."""
    port = MemoryStore("redis")
    with (
        StateStore("s", port=port, lease=3600.0) as owner,
        arm({"commit.decide": fail(PointError("gone"))}),
        pytest.raises(PointError),
    ):
        owner.transact(move)
    with StateStore("s", port=port, lease=0.2, retry=RetryPolicy(deadline=30.0)) as store:
        store.transact(move)
        assert store.get("a") == {"n": 1}

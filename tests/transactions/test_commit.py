"""
How a transaction commits: the path, its round trips, what is logged, what is left behind and how it ends.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import anyio
import pytest

from toolkit import Access, AsyncStateStore, Outcome, RetryPolicy, StateStore
from toolkit.core.intents import intent_of
from toolkit.core.model import Reply, Row, Write
from toolkit.core.records import OP_PREFIX, TX_PREFIX, load, op_key
from toolkit.core.seen import see
from toolkit.errors import (
    AttemptsExhaustedError,
    OperationVoidedError,
    OutcomeUnknownError,
    StateError,
    StoreUnavailableError,
    TransactionsUnsupportedError,
)
from toolkit.log import log_to
from toolkit.testing.memory import MemoryStore, profile_of
from toolkit.testing.points import PointError, arm, fail, record

PATHS = {"postgresql/v2": "native", "redis": "intents", "in-memory": "native"}
QUICK = RetryPolicy(deadline=1.0)


class Steps(MemoryStore):
    """Counts round trips: calls made together are one."""

    def __init__(self, profile: str) -> None:
        super().__init__(profile)
        self.trips = 0

    def get(self, key: str, **options: Any) -> Row | Reply:
        self.trips += 1
        return super().get(key, **options)

    def put(self, write: Write, **options: Any) -> Reply:
        self.trips += 1
        return super().put(write, **options)

    def multi(self, writes: Any, **options: Any) -> Reply:
        self.trips += 1
        return super().multi(writes, **options)

    def get_all(self, keys: Any, **options: Any) -> Any:
        return self._together(lambda: super(Steps, self).get_all(keys, **options))

    def put_all(self, writes: Any, **options: Any) -> Any:
        return self._together(lambda: super(Steps, self).put_all(writes, **options))

    def _together(self, call: Callable[[], Any]) -> Any:
        before = self.trips
        answer = call()
        self.trips = before + 1
        return answer


def move(tx: Any) -> None:
    found = tx.get_many(["a", "b"])
    for key in "ab":
        tx.put(key, {"n": found.get(key, {"n": 0})["n"] + 1})


def add(tx: Any) -> None:
    tx.put("a", {"n": tx.get("a")["n"] + 1})


def skew(tx: Any, mine: str, other: str) -> None:
    if tx.get(other) is None:
        tx.put(mine, {"n": 1})


@pytest.mark.parametrize("profile", PATHS)
def test_round_trips(profile: str) -> None:
    """2 for one key and for the store's own transaction, 3 with intents: read, prepare, decide."""
    port = Steps(profile)
    with StateStore("s", port=port) as store:
        store.transact(move)
        store._background.drain(5)
        before = port.trips
        store.transact(add)
        assert port.trips - before == 2
        during: list[int] = []
        with arm({"finish.write": fail(PointError("later"), hit=0)}):
            before = port.trips
            store.transact(move)
            during.append(port.trips - before)
            store._background.drain(5)
    # The background reads the first key before its point; it may run within or after the count.
    assert during[0] - (2 if PATHS[profile] == "native" else 3) in (0, 1)


@pytest.mark.parametrize("profile", PATHS)
def test_the_log_names_path_and_ids(profile: str, tmp_path: Path) -> None:
    """A committed line has the path and the write id; a conflict line names who won."""
    file = tmp_path / "log.jsonl"
    port = MemoryStore(profile)
    runs: list[int] = []

    def outrun(tx: Any) -> None:
        tx.get_many(["a", "b"])
        if not runs:
            thread = Thread(target=lambda: rival.update("a", lambda value: {"n": value["n"] + 10}))
            thread.start()
            thread.join()
        runs.append(1)
        move(tx)

    with log_to(file), StateStore("s", port=port) as store, StateStore("s", port=port) as rival:
        store.transact(move)
        store.transact(outrun)
        store.transact(add)
        store._background.drain(5)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    committed = [line for line in lines if line["event"] == "occ.committed" and line["op"] != "lambda"]
    paths = [line["path"] for line in committed if line["op"].endswith(("move", "outrun", "add"))]
    assert paths == [PATHS[profile], PATHS[profile], "single"]
    conflicts = [line for line in lines if line["event"] == "occ.conflict"]
    (update,) = [line for line in committed if not line["op"].endswith(("move", "outrun", "add"))]
    assert [line["winner"] for line in conflicts] == [update["write_id"]]
    assert all(line["write_id"] for line in committed)


def test_a_store_known_from_source_only() -> None:
    """Refused by name before anything is sent, until ``accept_unverified`` says otherwise; one key is fine."""
    profile = replace(profile_of("in-memory"), evidence="source")
    port = MemoryStore(profile)
    with StateStore("s", port=port, profile=profile) as store:
        # A port of the caller's own is vouched for by him; a sidecar's component is not.
        store._live().accept_unverified = False
        store.set("a", {"n": 1})
        before = dict(port.calls)
        with pytest.raises(TransactionsUnsupportedError, match="accept_unverified"):
            store.transact(move)
        assert port.calls["put"] == before["put"]
        store.transact(add)
    with StateStore("s", port=port, profile=profile, accept_unverified=True) as store:
        store.transact(move)
        assert store.get("a") == {"n": 3}


def test_reads_that_are_not_linearizable() -> None:
    """No transaction over several keys can be serializable there, and the error says so."""
    profile = replace(profile_of("in-memory"), linearizable=False)
    port = MemoryStore(profile)
    with (
        StateStore("s", port=port, profile=profile) as store,
        pytest.raises(TransactionsUnsupportedError, match="linearizable"),
    ):
        store.transact(move)


class Encrypting(MemoryStore):
    """Like a component that encrypts state: what a transaction wrote reads back as other bytes."""

    def multi(self, writes: Any, **options: Any) -> Reply:
        return super().multi(
            tuple([Write(one.key, b'{"x":1}', one.etag, one.first_write) for one in writes]), **options
        )


def test_a_store_whose_transaction_does_not_keep_its_word() -> None:
    """The probe on scratch keys finds out, and intents take over."""
    port = Encrypting("postgresql/v2")
    with StateStore("s", port=port) as store:
        store.transact(move)
        store.transact(move)
        assert dict(store.snapshot("ab")) == {"a": {"n": 2}, "b": {"n": 2}}
        assert store._live().path == "intents"


class Echoing(MemoryStore):
    """As if the line delivered requests twice: of so many transactions it answers what the second copy was told."""

    copies = 0

    def multi(self, writes: Any, **options: Any) -> Reply:
        first = super().multi(writes, **options)
        if self.copies == 0:
            return first
        self.copies -= 1
        return super().multi(writes, **options)


@pytest.mark.parametrize(("copies", "path"), [(1, "native"), (3, "intents")])
def test_a_proof_whose_request_came_twice(copies: int, path: str) -> None:
    """A conflict on scratch keys is no verdict on the store, as long as it does not come every time."""
    port = Echoing("postgresql/v2")
    port.copies = copies
    with StateStore("s", port=port) as store:
        store.transact(move)
        assert store._live().path == path
        assert dict(store.snapshot("ab")) == {"a": {"n": 1}, "b": {"n": 1}}


def test_points_are_those_of_the_commit() -> None:
    """The proof on scratch keys passes none of them, so that a test that kills at one hits a commit."""
    with StateStore("s", port=MemoryStore("mysql")) as store, record() as passed:
        store.transact(move)
        store._background.drain(5)
        assert store._live().path == "native"
    assert {name: count for name, count in passed.items() if name.startswith("commit.")} == {
        "commit.multi": 1,
        "commit.applied": 1,
    }


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
    for fault in ("drop_reply", "drop_request", "duplicate", "late"):
        for place in range(3):
            port = MemoryStore("redis")
            with StateStore("s", port=port) as store:
                port.next(*["ok"] * place, fault)
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


@pytest.mark.parametrize("profile", PATHS)
def test_write_skew_on_absence(profile: str) -> None:
    """Each writes its key because the other's is absent: at a barrier exactly one does."""
    for _ in range(20):
        port = MemoryStore(profile)
        start = Barrier(2)

        def attempt(mine: str, other: str, port: MemoryStore = port, start: Barrier = start) -> None:
            met: list[int] = []

            def body(tx: Any) -> None:
                tx.get(other)
                if not met:
                    met.append(start.wait(10))
                skew(tx, mine, other)

            with StateStore("s", port=port) as store:
                store.transact(body)

        threads = [Thread(target=attempt, args=keys) for keys in (("a", "b"), ("b", "a"))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with StateStore("s", port=port) as store:
            assert len(store.snapshot("ab")) == 1


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


def test_attempts_under_a_limit() -> None:
    """A loser with one attempt is told, and nothing of it is left undecided."""
    port = MemoryStore("redis")
    with StateStore("s", port=port) as store:
        store.transact(move)

        def body(tx: Any) -> None:
            tx.get_many(["a", "b"])
            row = port.get("a")
            assert isinstance(row, Row)
            port.put(Write("a", b'{"n":50}', etag=row.etag))
            move(tx)

        with pytest.raises(AttemptsExhaustedError) as caught:
            store.transact(body, retry=RetryPolicy(attempts=1))
        assert isinstance(caught.value, StateError)
        assert store.get_many(["a", "b"]) == {"a": {"n": 50}, "b": {"n": 1}}

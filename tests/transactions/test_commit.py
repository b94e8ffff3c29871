"""
How a transaction commits: the path, what is logged, what is left behind and how it ends.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import pytest

from tests.transactions.commits import PATHS, add, move, skew
from toolkit import Outcome, RetryPolicy, StateStore
from toolkit.core.model import Reply, Row, Write
from toolkit.errors import (
    AttemptsExhaustedError,
    StateError,
    TooManyOperationsError,
    TransactionsUnsupportedError,
    UnsafeStoreError,
    ValueTooLargeError,
)
from toolkit.log import log_to
from toolkit.stores import Profile, profiles
from toolkit.stores.docs import several_keys
from toolkit.testing.memory import MemoryStore, profile_of
from toolkit.testing.points import record


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


def test_a_store_without_a_safe_create() -> None:
    """Keys that exist take part by the store's own transactions; what would create one is refused before it is sent."""
    port = MemoryStore("sqlserver")
    for key in "ab":
        port.put(Write(key, b'{"n":1}'))

    def make(tx: Any) -> None:
        tx.put("a", {"n": 9})
        tx.put("new", {"n": 9})

    with StateStore("s", port=port) as store:
        store.transact(move)
        assert store._live().path == "native"
        assert dict(store.snapshot("ab")) == {"a": {"n": 2}, "b": {"n": 2}}
        before = port.calls["put"], port.calls["multi"]
        for call in (
            lambda: store.transact(make),
            lambda: store.transact(move, op_id="op"),
            lambda: store.void("op"),
        ):
            with pytest.raises(UnsafeStoreError, match="create"):
                call()
        assert (port.calls["put"], port.calls["multi"]) == before


@pytest.mark.parametrize("profile", [one for one in profiles.values() if one.accepted], ids=lambda p: p.type)
def test_the_published_table_says_how_several_keys_are_committed(profile: Profile) -> None:
    """What the page about stores says of each store is what a transaction of two keys does there."""
    port = MemoryStore(profile)
    for key in ("a", "b"):
        port.world.put(Write(key, b'{"n":1}'))
    with StateStore("s", port=port) as store:
        try:
            store.transact(move)
        except TransactionsUnsupportedError:
            assert "no" == several_keys(profile)
        else:
            assert store._live().path == several_keys(profile)
            assert {"a": {"n": 2}, "b": {"n": 2}} == store.get_many(["a", "b"])


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


@pytest.mark.parametrize("profile", PATHS)
def test_limits_come_before_anything_is_sent(profile: str) -> None:
    """A value that is too large for a transaction writes nothing at all, not even that the attempt is over."""
    port = MemoryStore(profile)
    with StateStore("s", port=port) as store:
        store.transact(move)
        store.set("a", {"old": "x" * 2_500_000})
        store._background.drain(5)
        before = port.calls["put"], port.calls["multi"], port.calls["get"]

        def body(tx: Any) -> None:
            tx.put("a", {"new": "y" * 2_500_000})
            tx.put("b", {"new": "y" * 2_500_000})

        for op_id in (None, "op"):
            with pytest.raises(ValueTooLargeError):
                store.transact(body, op_id=op_id)
        store._background.drain(5)
        # Each read its two keys; one also its operation record.
        assert (port.calls["put"], port.calls["multi"], port.calls["get"] - 5) == before
        assert store.outcome("op") is Outcome.NOT_COMMITTED


def test_more_operations_than_the_store_takes() -> None:
    """Every key counts that is read, written or recorded, and nothing is sent; a peek does not count."""
    profile = replace(profile_of("postgresql/v2"), max_operations=3)
    port = MemoryStore(profile)

    def body(tx: Any, read: str, *, peeks: bool = False) -> None:
        for key in read:
            _ = tx.peek(key) if peeks else tx.get(key)
        tx.put("a", {"n": 1})

    with StateStore("s", port=port, profile=profile) as store:
        store.transact(move)
        before = port.calls["put"], port.calls["multi"]
        for read, op_id in (("bcd", None), ("bc", "op")):
            with pytest.raises(TooManyOperationsError, match="takes 3"):
                store.transact(body, read, op_id=op_id)
        assert (port.calls["put"], port.calls["multi"]) == before
        store.transact(body, "bcdef", peeks=True)
        store.transact(body, "bc")


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


def test_attempts_under_a_limit() -> None:
    """A loser with one attempt is told, and nothing of it is left undecided."""
    port = MemoryStore("redis")
    with StateStore("s", port=port) as store:
        store.transact(move)
        store._background.drain(30)  # what it left to finish would move the ETag of the plain write below

        def body(tx: Any) -> None:
            tx.get_many(["a", "b"])
            row = port.get("a")
            assert isinstance(row, Row)
            assert port.put(Write("a", b'{"n":50}', etag=row.etag)).ok
            move(tx)

        with pytest.raises(AttemptsExhaustedError) as caught:
            store.transact(body, retry=RetryPolicy(attempts=1))
        assert isinstance(caught.value, StateError)
        assert store.get_many(["a", "b"]) == {"a": {"n": 50}, "b": {"n": 1}}

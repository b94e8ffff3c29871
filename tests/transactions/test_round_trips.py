"""
What a transaction costs: round trips by path, and keys that are read together since a body is known to ask for them.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.transactions.commits import PATHS, Steps, add, move
from toolkit import Access, StateStore
from toolkit.core.model import Write
from toolkit.errors import CorruptValueError
from toolkit.testing.memory import MemoryStore
from toolkit.testing.points import PointError, arm, fail


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


def one_by_one(tx: Any, src: str, dst: str, *, only: bool = False) -> Any:
    one = tx.get(src)
    if not only:
        other = tx.get(dst)
        tx.put(src, {"n": one["n"] - 1})
        tx.put(dst, {"n": other["n"] + 1})
    return one["n"]


@pytest.mark.parametrize("op_id", [None, "op"])
@pytest.mark.parametrize("profile", PATHS)
def test_round_trips_of_keys_read_one_by_one(profile: str, op_id: str | None) -> None:
    """Once a body is known to read two of its arguments they are read together, an operation record with them."""
    port = Steps(profile)
    with StateStore("s", port=port) as store:
        for key in "abcd":
            store.set(key, {"n": 10})
        store.transact(one_by_one, "a", "b")
        store._background.drain(5)
        before = port.trips
        with arm({"finish.write": fail(PointError("later"), hit=0)}):
            store.transact(one_by_one, "c", "d", op_id=op_id)
            during = port.trips - before
            store._background.drain(5)
        assert during - (2 if PATHS[profile] == "native" else 3) in (0, 1)
        assert dict(store.snapshot("cd")) == {"c": {"n": 9}, "d": {"n": 11}}


@pytest.mark.parametrize("op_id", [None, "op"])
def test_what_was_fetched_on_a_guess_binds_nothing(op_id: str | None) -> None:
    """A key the body does not ask for is not guarded, need not be readable, and a handle without the right never asks."""
    port = MemoryStore("redis")
    with StateStore("s", port=port) as store:
        for key in "abc":
            store.set(key, {"n": 10})
        store.transact(one_by_one, "a", "b")
        port.put(Write("c", b"no JSON"))
        assert store.transact(one_by_one, "b", "c", only=True, op_id=op_id) == 11
        with pytest.raises(CorruptValueError):
            store.transact(one_by_one, "b", "c")
    asked: list[str] = []

    class Asked(MemoryStore):
        def get(self, key: str, **options: Any) -> Any:
            asked.append(key)
            return super().get(key, **options)

    rights = {"secret": Access.WRITE, "": Access.ALL}
    with StateStore("s", port=Asked("redis"), access=rights) as store:
        for key in ("a", "b", "secret"):
            store.set(key, {"n": 10})
        store.transact(one_by_one, "a", "b")
        asked.clear()
        store.transact(one_by_one, "a", "secret", only=True, op_id=op_id)
        assert "secret" not in asked

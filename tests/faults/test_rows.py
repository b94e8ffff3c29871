"""
The fault table row by row, through a proxy before a real daprd; each row fires twenty times on each store.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Self

import pytest

from tests.conftest import LiveStore
from tests.faults.crew import fresh_key, line
from tests.faults.table import ENOUGH
from tests.faults.worker import inc
from toolkit import ABSENT, RetryPolicy, StateStore
from toolkit.core.model import Write
from toolkit.dapr.address import Token, address_of
from toolkit.dapr.port import GrpcPort
from toolkit.errors import AlreadyExistsError, ConflictError, NotFoundError
from toolkit.testing.proxy import Fault, FaultProxy


class Rows:
    """
    The rows of the fault table on one store: each provokes its fault once and checks what must hold.
    """

    def __init__(self, store: LiveStore, proxy: FaultProxy) -> None:
        self.proxy = proxy
        self.fired: Counter[str] = Counter()
        self.store = StateStore(store.name, address=line(proxy), retry=RetryPolicy(deadline=20.0))
        self.rival = StateStore(store.name, address=store.address)
        self.raw = GrpcPort(store.name, address_of(store.address), Token(None))
        self.pool = ThreadPoolExecutor(2)

    def __enter__(self) -> Self:
        self.store.__enter__()
        self.rival.__enter__()
        self.raw.connect(10.0)
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown()
        self.raw.close()
        self.store.close()
        self.rival.close()

    def plan(self, *faults: Fault) -> None:
        self.proxy.next("SaveState", *faults)

    def adds_one(self, *faults: Fault) -> None:
        key = fresh_key()
        self.rival.create(key, {"n": 5})
        self.plan(*faults)
        assert self.store.update(key, inc) == {"n": 6}
        assert self.rival.get(key) == {"n": 6}

    def row_1_reply_of_cas_lost(self) -> None:
        self.adds_one("drop_reply")

    def row_2_request_lost(self) -> None:
        self.adds_one("drop_request")

    def row_3_reply_of_delete_lost(self) -> None:
        key = fresh_key()
        self.rival.create(key, {"n": 5})
        etag = self.store.read(key).etag
        self.plan("drop_reply")
        self.store.delete(key, etag=etag)
        assert self.rival.get(key) is None
        self.rival.create(key, {"n": 6})
        assert self.store.get(key) == {"n": 6}

    def row_4_reply_of_create_lost(self) -> None:
        key = fresh_key()
        self.plan("drop_reply")
        self.store.create(key, {"n": 1})
        assert self.rival.get(key) == {"n": 1}

    def row_6_duplicate_at_once(self) -> None:
        self.adds_one("duplicate")

    def row_6_duplicate_late(self) -> None:
        key = fresh_key()
        self.rival.create(key, {"n": 0})
        self.plan("late_duplicate")
        self.store.update(key, inc)
        self.store.update(key, lambda value: {"n": value["n"] * 10})  # lets the copy go
        self.proxy.heal()
        assert self.rival.get(key) == {"n": 10}

    def row_9_sdk_retries_on(self) -> None:
        before = self.proxy.calls["SaveState"]
        self.adds_one("drop_reply")
        assert self.proxy.calls["SaveState"] == before + 1

    def row_12_stale_write_on_a_deleted_key(self) -> None:
        key = fresh_key()
        self.rival.create(key, {"n": 1})
        old = self.store.read(key).etag

        def outrun(value: Any) -> Any:
            self.pool.submit(self.rival.delete, key).result(10)
            return {"n": value["n"] + 1}

        with pytest.raises(NotFoundError):
            self.store.update(key, outrun)
        with pytest.raises(ConflictError):
            self.store.compare_and_set(key, {"n": 9}, old)
        assert self.rival.get(key) is None

    def row_13_deleted_and_created_again(self) -> None:
        key = fresh_key()
        self.rival.create(key, {"n": 1})
        old = self.store.read(key).etag
        self.rival.delete(key)
        self.rival.create(key, {"n": 1})
        with pytest.raises(ConflictError):
            self.store.compare_and_set(key, {"n": 9}, old)
        assert self.rival.get(key) == {"n": 1}

    def row_15_create_over_a_plain_key(self) -> None:
        key = fresh_key()
        assert self.raw.multi([Write(key, b'{"n": 1}')], timeout=5.0).ok
        for call in (
            lambda: self.store.create(key, {"n": 2}),
            lambda: self.store.compare_and_set(key, {"n": 2}, ABSENT),
        ):
            with pytest.raises(AlreadyExistsError):
                call()
        assert self.rival.get(key) == {"n": 1}

    def row_16_two_creates_at_once(self) -> None:
        key = fresh_key()
        barrier = threading.Barrier(2)

        def create(store: StateStore, number: int) -> int | None:
            barrier.wait(10)
            try:
                store.create(key, {"n": number})
            except AlreadyExistsError:
                return None
            return number

        told = list(self.pool.map(create, (self.store, self.rival), (1, 2)))
        (winner,) = [number for number in told if number is not None]
        assert self.rival.get(key) == {"n": winner}


# What each method shows of the table.
SHOWN: Final = {
    "row_1_reply_of_cas_lost": "1 reply of a compare-and-set lost",
    "row_2_request_lost": "2 request lost",
    "row_3_reply_of_delete_lost": "3 reply of a delete lost",
    "row_4_reply_of_create_lost": "4 reply of a create lost",
    "row_6_duplicate_at_once": "6 duplicate at once",
    "row_6_duplicate_late": "6 duplicate late",
    "row_9_sdk_retries_on": "9 retries of the SDK switched on",
    "row_12_stale_write_on_a_deleted_key": "12 stale write on a deleted key",
    "row_13_deleted_and_created_again": "13 deleted and created again",
    "row_15_create_over_a_plain_key": "15 create over a plain key",
    "row_16_two_creates_at_once": "16 two creates at once",
}


@pytest.mark.timeout(240)
def test_each_row_of_the_table(
    store_of: LiveStore, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, fired: Callable[..., None]
) -> None:
    """Every row that concerns single keys, at least twenty times on this store; the counts go into the table."""
    monkeypatch.setenv("DAPR_API_MAX_RETRIES", "5")
    with Rows(store_of, proxy) as rows:
        for name, row in SHOWN.items():
            for _ in range(ENOUGH):
                getattr(rows, name)()
            fired(row, store_of.name, ENOUGH)
    scripted: Counter[str] = Counter()
    for (_, fault), number in proxy.faults.items():
        scripted[fault] += number
    assert scripted == {
        "drop_reply": 4 * ENOUGH,
        "drop_request": ENOUGH,
        "duplicate": ENOUGH,
        "late_duplicate": ENOUGH,
    }

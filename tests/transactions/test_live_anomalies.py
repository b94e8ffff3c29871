"""
What plain Dapr lets happen and transactions do not, through a real daprd: each anomaly, and its control.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import pytest

from tests.conftest import LiveStore
from tests.faults.crew import line
from tests.transactions.live import LONG, RATES, names, opened, raw, row, say
from toolkit import StateStore
from toolkit.core.model import Write
from toolkit.sidecar import Sidecar, component
from toolkit.testing.proxy import FaultProxy


def test_half_a_transaction_on_plain_dapr(live_named: Callable[[str], LiveStore]) -> None:
    """The positive control: Redis applies half of a transaction whose other half has a stale ETag."""
    store = live_named("redis")
    one, other = names(2)
    port = raw(store)
    for key in (one, other):
        assert port.put(Write(key, b'{"n":100}'), timeout=5).ok
    fresh, stale = row(port, one).etag, row(port, other).etag
    assert port.put(Write(other, b'{"n":100}', etag=stale), timeout=5).ok
    reply = port.multi(
        (Write(one, b'{"n":50}', etag=fresh), Write(other, b'{"n":150}', etag=stale)), timeout=5
    )
    total = sum(json.loads(row(port, key).data)["n"] for key in (one, other))
    port.close()
    assert not reply.ok
    assert total != 200


# -- write skew and long fork ------------------------------------------------------------------------------------------


def together(*work: Callable[[], object]) -> None:
    threads = [Thread(target=one) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def leave(store: StateStore, mine: str, other: str, barrier: Barrier, *, absent: bool) -> None:
    """Go off call if the other one is on call; both doctors have read before either writes."""
    met: list[int] = []

    def body(tx: Any) -> None:
        colleague = tx.get(other)
        tx.get(mine)
        if not met:
            met.append(barrier.wait(20))
        if (colleague is None) if absent else colleague["on"]:
            tx.put(mine, {"on": False})

    store.transact(body)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("absent", [False, True])
def test_write_skew(store_of: LiveStore, *, absent: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """Of two doctors at a barrier exactly one leaves, in every round; so with keys whose absence was read."""
    rounds, off = (160 if not absent or LONG else 40), Counter[int]()
    barrier = Barrier(2)
    with opened(store_of) as one, opened(store_of) as other:
        for _ in range(rounds):
            a, b = names(2)
            for key in () if absent else (a, b):
                one.set(key, {"on": True})
            together(
                lambda a=a, b=b: leave(one, a, b, barrier, absent=absent),
                lambda a=a, b=b: leave(other, b, a, barrier, absent=absent),
            )
            off[sum(not value["on"] for value in one.snapshot([a, b]).values())] += 1
    say(capsys, f"{store_of.name:>14}: off call, by round: {dict(off)}")
    assert off[2] == 0
    assert off[1] >= rounds * 150 / 160


def test_write_skew_on_plain_dapr(store_of: LiveStore) -> None:
    """The positive control: with ETags on what is written, both leave at once."""
    port, barrier, both = raw(store_of), Barrier(2), 0
    for _ in range(10):
        a, b = names(2)
        for key in (a, b):
            assert port.put(Write(key, b'{"on":true}'), timeout=5).ok

        def off(mine: str, other: str) -> None:
            seen, own = row(port, other), row(port, mine)
            barrier.wait(20)
            if json.loads(seen.data)["on"]:
                port.multi((Write(mine, b'{"on":false}', etag=own.etag),), timeout=5)

        together(lambda a=a, b=b: off(a, b), lambda a=a, b=b: off(b, a))
        both += not any(json.loads(row(port, key).data)["on"] for key in (a, b))
    port.close()
    assert both > 0


def test_long_fork(store_of: LiveStore, capsys: pytest.CaptureFixture[str]) -> None:
    """Two readers never see two writes in opposite orders, whether by snapshots or in transactions."""
    between = 0
    with opened(store_of) as one, opened(store_of) as other:
        for number in range(60 if LONG else 25):
            keys = names(2)
            looks: list[frozenset[str]] = []
            looked = Barrier(4)

            def look(
                store: StateStore,
                keys: list[str] = keys,
                looks: list[frozenset[str]] = looks,
                looked: Barrier = looked,
            ) -> None:
                looks.append(frozenset(store.snapshot(keys)))
                looked.wait(20)
                end = time.monotonic() + 20
                while len(looks[-1]) < 2 and time.monotonic() < end:
                    looks.append(frozenset(store.snapshot(keys)))
                    looks.append(frozenset(store.transact(lambda tx: list(tx.get_many(keys)))))

            def put(store: StateStore, key: str, looked: Barrier = looked) -> None:
                looked.wait(20)
                store.transact(lambda tx: tx.put(key, {"n": 1}))

            x, y = keys
            together(
                lambda put=put, x=x: put(one, x),
                lambda put=put, y=y: put(other, y),
                lambda look=look: look(one),
                lambda look=look: look(other),
            )
            assert {frozenset[str](), frozenset(keys)}.issubset(looks), "this run is void: a reader gave up"
            assert not {frozenset([x]), frozenset([y])}.issubset(looks), f"round {number} forked"
            between += sum(len(seen) == 1 for seen in looks)
    say(capsys, f"{store_of.name:>14}: {between} looks between the two writes")


def test_a_set(store_of: LiveStore, proxy: FaultProxy) -> None:
    """Elements added by transactions to a set under faults: every acknowledged one is in it at the end, once."""
    (key, count) = names(2)
    proxy.set_rates(RATES)
    added: list[int] = []

    def add(tx: Any, number: int) -> None:
        found = tx.get_many([key, count])
        tx.put(key, {"s": [*found.get(key, {"s": []})["s"], number]})
        tx.put(count, {"n": found.get(count, {"n": 0})["n"] + 1})

    with opened(store_of, line(proxy)) as one, opened(store_of, line(proxy)) as other:

        def work(store: StateStore, first: int) -> None:
            for number in range(first, first + 25):
                store.transact(add, number, op_id=f"{key}-{number}")
                added.append(number)

        together(lambda: work(one, 0), lambda: work(other, 100))
        proxy.heal()
        seen = one.snapshot([key, count])
    assert sorted(seen[key]["s"]) == sorted(added)
    assert seen[count]["n"] == len(added) == 50


# -- a component that encrypts -----------------------------------------------------------------------------------------


def test_an_expired_row_that_lingers(live_named: Callable[[str], LiveStore]) -> None:
    """On MariaDB a plain writer's expired row reads as missing and refuses a create: a transaction sweeps it."""
    live = live_named("mysql")
    port = raw(live)
    one, other = names(2)
    assert port.put(Write(one, b'{"n":1}', ttl=1), timeout=5).ok
    patience = time.monotonic() + 30
    while not row(port, one).missing:
        assert time.monotonic() < patience
    port.close()

    def both(tx: Any) -> None:
        for key in (one, other):
            tx.put(key, {"n": 2})

    with opened(live) as store:
        store.transact(both)
        assert dict(store.snapshot([one, other])) == {one: {"n": 2}, other: {"n": 2}}


def test_an_encrypted_component(daprd: Callable[..., Sidecar], tmp_path: Path) -> None:
    """Its own transactions do not keep what they are given; the probe sees it, and intents do it."""
    secrets = tmp_path / "secrets.json"
    secrets.write_text(
        json.dumps({"key": "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"})
    )
    store = component(
        "statestore", "state.sqlite", metadata={"connectionString": f"file:{tmp_path / 'e.db'}"}
    )
    reference = {"name": "key", "key": "key"}
    store["spec"]["metadata"].append({"name": "primaryEncryptionKey", "secretKeyRef": reference})
    store["auth"] = {"secretStore": "secrets"}
    vault = component("secrets", "secretstores.local.file", metadata={"secretsFile": str(secrets)})
    with StateStore("statestore", address=daprd(components=[store, vault]).grpc_endpoint) as states:
        for number in range(3):
            states.transact(lambda tx, number=number: [tx.put(key, {"n": number}) for key in "ab"] and None)
        assert dict(states.snapshot("ab")) == {"a": {"n": 2}, "b": {"n": 2}}
        assert states._live().path == "intents"

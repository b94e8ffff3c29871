"""
Transactions through a real daprd on SQLite, Redis, PostgreSQL and MariaDB, on a bad line, among processes that die.

Controls on plain Dapr show that each workload can fail. A run whose faults did not fire is void and fails saying so.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from threading import Barrier, Thread
from typing import Any, Final

import pytest

from tests.conftest import LiveStore
from tests.faults.crew import line
from tests.transactions.crew import Crew, Worker
from tests.transactions.worker import move
from toolkit import RetryPolicy, StateStore
from toolkit.core.model import Row, Write
from toolkit.dapr.address import Token, address_of
from toolkit.dapr.port import GrpcPort
from toolkit.sidecar import Sidecar, component
from toolkit.testing.append import check_append
from toolkit.testing.history import History, load
from toolkit.testing.proxy import Fault, FaultProxy

LONG: Final = bool(os.environ.get("OCC_REQUIRE_STORES"))
RATES: Final[dict[Fault, float]] = {
    "drop_reply": 0.08,
    "drop_request": 0.04,
    "duplicate": 0.04,
    "late_duplicate": 0.04,
}
KILLS: Final = ("transact.ran", "commit.prepare", "commit.prepared", "commit.decide", "commit.decided",
                "commit.multi", "commit.applied", "finish.write", "finish.written", "finish.decide")  # fmt: skip
PATIENT: Final = RetryPolicy(deadline=20.0)


def names(count: int) -> list[str]:
    mark = uuid.uuid4().hex[:10]
    return [f"tx-{mark}-{number}" for number in range(count)]


def opened(store: LiveStore, address: str | None = None, **options: Any) -> StateStore:
    return StateStore(store.name, address=address or store.address, retry=PATIENT, **options)


def check_fired(proxy: FaultProxy, least: int) -> None:
    fired: Counter[str] = Counter()
    for (_, fault), number in proxy.faults.items():
        fired[fault] += number
    few = [fault for fault in RATES if fired[fault] < least]
    assert few == [], f"this run is void: {', '.join(few)} fired fewer than {least} times ({dict(fired)})"


def say(capsys: pytest.CaptureFixture[str], text: str) -> None:
    with capsys.disabled():
        sys.stdout.write(f"\n{text}\n")


# -- list-append -------------------------------------------------------------------------------------------------------


@pytest.mark.timeout(180)
def test_list_append(
    store_of: LiveStore,
    proxy: FaultProxy,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> None:
    """500 transactions of six clients over four keys on a bad line are strict serializable, most of them ok."""
    keys, file = names(4), tmp_path / "history.jsonl"
    times = 250 if LONG else 84
    jobs = [
        {"mode": "append", "store": store_of.name, "address": line(proxy), "keys": keys, "times": times}
        | {"seed": number + 1, "name": f"c{number}", "history": str(file)}
        for number in range(6)
    ]
    proxy.set_rates(RATES)
    with Crew(*[Worker(job) for job in jobs]) as crew:
        told = Counter[str]()
        for worker in crew.workers:
            told.update(worker.hear())
    proxy.heal()
    with opened(store_of) as store, History(file) as history:
        pending = history.call("audit", "final", mops=[["r", key, None] for key in keys])
        final = store.snapshot(keys)
        pending.ok(mops=[["r", key, final[key]["l"] if key in final else []] for key in keys])
    report = check_append(load(file))
    say(capsys, f"{store_of.name:>14}: {dict(told)}, {dict(report.transactions)}: {report}")
    kept = request.config.getoption("--history", default=None)
    if kept:
        path = Path(kept)
        shutil.copy(file, path.with_name(f"{path.stem}-{store_of.name}{path.suffix}"))
    assert report.ok, str(report)
    assert told["ok"] >= 0.6 * 6 * times, f"this run is void: only {told['ok']} transactions were ok"
    check_fired(proxy, 10)


# -- bank --------------------------------------------------------------------------------------------------------------


def bank_job(store: LiveStore, address: str, keys: list[str], number: int, times: int) -> dict[str, Any]:
    return {
        "mode": "bank",
        "store": store.name,
        "address": address,
        "keys": keys,
        "times": times,
        "seed": number,
        "name": f"{keys[0]}-{number}",
        "total": 100 * len(keys),
        "lease": 1.0,
    }


@pytest.mark.timeout(240)
def test_bank(store_of: LiveStore, proxy: FaultProxy, capsys: pytest.CaptureFixture[str]) -> None:
    """
    The total stays in every snapshot and at the end, with lost answers, late copies, and processes killed and frozen.

    One process is killed at each point of a commit and started again with the same operation ids, one is stopped before
    it decides until its lease is long over. Every transfer that was acknowledged under an id took place once.
    """
    keys = names(5)
    with opened(store_of) as store:
        for key in keys:
            store.set(key, {"n": 100})
    proxy.set_rates(RATES)
    address = line(proxy)
    told: Counter[str] = Counter()
    sure: set[str] = set()
    native = store_of.name != "redis"
    decide = "commit.multi" if native else "commit.decide"
    frozen = Worker(bank_job(store_of, address, keys, 90, 8), f"{decide}=stop:2")
    steady = [Worker(bank_job(store_of, address, keys, number, 60 if LONG else 25)) for number in range(3)]
    path = ("commit.prep", "commit.dec", "finish") if native else ("commit.multi", "commit.applied")
    # Where an id is at stake both paths write the record of it; a native commit has it in its transaction.
    kills = [point for point in KILLS if not point.startswith(path)]
    jobs = [bank_job(store_of, address, keys, 10 + at, 30 if LONG else 12) for at in range(len(kills))]
    victims = [Worker(job, f"{point}=kill:2") for job, point in zip(jobs, kills, strict=True)]
    with Crew(frozen, *steady, *victims):
        frozen.await_stop()
        ends = {point: worker.process.wait(60) for point, worker in zip(kills, victims, strict=True)}
        with Crew(*[Worker(job) for job in jobs]) as again:
            for worker in (*steady, *again.workers):
                heard = worker.hear()
                told.update(heard["told"])
                sure.update(heard["sure"])
        frozen.resume()
        heard = frozen.hear()
        told.update(heard["told"])
        sure.update(heard["sure"])
    proxy.heal()
    with opened(store_of, lease=1.0) as store:
        started = time.monotonic()
        for key in keys:
            store.update(key, lambda value: value)
            store.transact(lambda tx, key=key: tx.guard(key))
        writable = time.monotonic() - started
        seen = store.snapshot(keys)
    say(
        capsys,
        f"{store_of.name:>14}: {dict(told)}, killed at {', '.join(ends)}, writable in {writable:.2f} s",
    )
    assert sum(value["n"] for value in seen.values()) == 500
    applied = Counter(op_id for value in seen.values() for op_id in value.get("ids", []))
    assert [op_id for op_id, times in applied.items() if times > 1] == []
    assert sure - set(applied) == set()
    assert told["torn"] == 0
    assert set(ends.values()) == {-9}
    assert writable < 1.0 + 5.0
    assert told["moved"] > 50, "this run is void: hardly any transfer was made"
    check_fired(proxy, 3)


def test_keys_of_the_dead_are_writable_again(store_of: LiveStore, capsys: pytest.CaptureFixture[str]) -> None:
    """One process is killed at each point of a commit; its keys take updates and transactions within lease + 5 s."""
    lease = 3.0
    native = store_of.name != "redis"
    path = ("commit.prep", "commit.dec", "finish") if native else ("commit.multi", "commit.applied")
    kills = [point for point in KILLS if not point.startswith(path)]
    pairs = {point: names(2) for point in kills}
    with opened(store_of) as store:
        for key in [key for pair in pairs.values() for key in pair]:
            store.set(key, {"n": 100})
    jobs = [bank_job(store_of, store_of.address, pairs[point], 0, 1) | {"lease": lease} for point in kills]
    with Crew(*[Worker(job, f"{point}=kill") for point, job in zip(kills, jobs, strict=True)]) as crew:
        assert {worker.process.wait(60) for worker in crew.workers} == {-9}
    took: dict[str, float] = {}

    def write(point: str) -> None:
        started = time.monotonic()
        for key in pairs[point]:
            store.update(key, lambda value: value)
        store.transact(move, *pairs[point], 1)
        took[point] = time.monotonic() - started

    with opened(store_of, lease=lease) as store:
        threads = [Thread(target=write, args=(point,)) for point in kills]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seen = store.snapshot([key for pair in pairs.values() for key in pair])
    shown = ", ".join(f"{point} {seconds:.1f} s" for point, seconds in took.items())
    say(capsys, f"{store_of.name:>14}: writable again after {shown}")
    assert set(took) == set(kills)
    assert max(took.values()) < lease + 5.0
    for one, other in pairs.values():
        assert seen[one]["n"] + seen[other]["n"] == 200


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


def raw(store: LiveStore) -> GrpcPort:
    port = GrpcPort(store.name, address_of(store.address), Token(None))
    port.connect(10.0)
    return port


def row(port: GrpcPort, key: str) -> Row:
    found = port.get(key, strong=True, timeout=5)
    assert isinstance(found, Row)
    return found


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

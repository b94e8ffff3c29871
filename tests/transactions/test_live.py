"""
Transactions through a real daprd on SQLite, Redis, PostgreSQL and MariaDB, on a bad line, among processes that die.

Controls on plain Dapr show that each workload can fail. A run whose faults did not fire is void and fails saying so.
"""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from threading import Thread
from typing import Any, Final

import pytest

from tests.conftest import LiveStore
from tests.faults.crew import line
from tests.transactions.crew import Crew, Worker
from tests.transactions.live import LONG, RATES, check_fired, keep, names, opened, say
from tests.transactions.worker import move
from toolkit.testing.append import check_append
from toolkit.testing.history import History, load
from toolkit.testing.proxy import FaultProxy

KILLS: Final = ("transact.ran", "commit.prepare", "commit.prepared", "commit.decide", "commit.decided",
                "commit.multi", "commit.applied", "finish.write", "finish.written", "finish.decide")  # fmt: skip


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
        pending = history.call("audit", "final", store=store_of.name, mops=[["r", key, None] for key in keys])
        final = store.snapshot(keys)
        pending.ok(mops=[["r", key, final[key]["l"] if key in final else []] for key in keys])
    report = check_append(load(file))
    say(capsys, f"{store_of.name:>14}: {dict(told)}, {dict(report.transactions)}: {report}")
    keep(request.config, file, store_of, proxy)
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

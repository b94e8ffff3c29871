"""
A real daprd behind a bad line: replies and requests are lost, writes arrive twice and late.

The table of rows and stores is printed with how often each fault fired; too few firings, too little contention or too
few unclear answers make a run void, and it fails saying so. ``OCC_REQUIRE_STORES=all`` (``make test-all``) runs longer.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from tests.conftest import LiveStore
from tests.faults.crew import Crew, Report, fresh_key, line
from tests.faults.table import ENOUGH
from toolkit import Outcome, StateStore
from toolkit.core.model import Write
from toolkit.dapr.address import Token, address_of
from toolkit.dapr.port import GrpcPort
from toolkit.testing.history import History, load
from toolkit.testing.linear import check_linearizable
from toolkit.testing.proxy import READS, WRITES, Fault, FaultProxy

LONG: Final = bool(os.environ.get("OCC_REQUIRE_STORES"))
# A crew is let go again until every fault has fired often enough, at most up to so many calls.
MOST_CALLS: Final = 6000
RATES: Final[dict[Fault, float]] = {
    "drop_reply": 0.15,
    "drop_request": 0.05,
    "duplicate": 0.05,
    "late_duplicate": 0.03,
}


# A crew on a bad line ----------------------------------------------------------------------------------------------------


def job(store: LiveStore, proxy: FaultProxy, mode: str, **parts: Any) -> dict[str, Any]:
    return {"mode": mode, "store": store.name, "address": line(proxy), "deadline": 20.0, **parts}


def committed(store: LiveStore, report: Report) -> int:
    """How many of the receipts turn out to be committed; none may stay open."""
    with StateStore(store.name, address=store.address) as resolver:
        outcomes = Counter(resolver.resolve(receipt) for receipt in report.receipts)
    assert outcomes[Outcome.UNKNOWABLE] == 0
    return outcomes[Outcome.COMMITTED]


def fired_in(proxy: FaultProxy) -> Counter[str]:
    fired: Counter[str] = Counter()
    for (_, fault), number in proxy.faults.items():
        fired[fault] += number
    return fired


def short(proxy: FaultProxy) -> list[str]:
    """The faults that fired too seldom so far; how many writes a crew makes depends on how its calls were combined."""
    fired = fired_in(proxy)
    return [
        f"{fault} fired {fired[fault]} times, fewer than {ENOUGH}" for fault in RATES if fired[fault] < ENOUGH
    ]


def check_not_void(proxy: FaultProxy, logs: Path) -> str:
    """The run has met what it was made for, or it proves nothing; tells how much."""
    fired, void = fired_in(proxy), short(proxy)
    writes = proxy.calls["SaveState"]
    lines = [json.loads(text) for path in logs.glob("*.log") for text in path.read_bytes().splitlines()]
    names = Counter(one["event"] for one in lines)
    conflicts = names["occ.conflict"] / max(names["occ.conflict"] + names["occ.committed"], 1)
    unclear = (fired["drop_reply"] + fired["drop_request"]) / max(writes, 1)
    if not 0.05 <= conflicts <= 0.6:
        void.append(f"{conflicts:.0%} of the attempts were conflicts")
    if unclear < 0.01:
        void.append(f"only {unclear:.1%} of the answers were unclear")
    assert not void, f"this run is void: {'; '.join(void)}"
    return f"{conflicts:.0%} conflicts, {unclear:.0%} unclear answers"


@pytest.mark.timeout(300)
def test_increments_on_a_bad_line(
    store_of: LiveStore, proxy: FaultProxy, tmp_path: Path, tell: Callable[[str], None]
) -> None:
    """Four processes' increments end at exactly what was acknowledged and what receipts resolve to."""
    keys = [fresh_key() for _ in range(2)]
    times = 400 if LONG else 130
    one = job(store_of, proxy, "count", keys=keys, threads=2, times=times)
    proxy.set_rates(RATES)
    report, called = Report(Counter(), []), 0
    while called == 0 or (short(proxy) and called < MOST_CALLS):
        with Crew([one] * 4, {"OCC_LOG": str(tmp_path / "{pid}.log")}) as crew:
            report.add(crew.work())
        called += 4 * 2 * times
    proxy.heal()
    with StateStore(store_of.name, address=store_of.address) as reader:
        stored = sum(value["n"] for value in reader.get_many(keys).values())
    landed = committed(store_of, report)
    rates = check_not_void(proxy, tmp_path)
    tell(
        f"{store_of.name:>14}: of {called} increments {report.acked} acknowledged, {landed} by receipt, "
        f"{stored} stored; {rates}; {dict(fired_in(proxy))}"
    )
    assert stored == report.acked + landed
    assert report.failed == {}


@pytest.mark.timeout(300)
def test_callers_who_give_up_early(
    store_of: LiveStore, proxy: FaultProxy, tell: Callable[[str], None]
) -> None:
    """Where reads are lost too and time is short, what a receipt resolves to is what is stored."""
    keys = [fresh_key() for _ in range(2)]
    proxy.set_rates({"drop_reply": 0.3, "drop_request": 0.2, "late_duplicate": 0.05}, methods=WRITES | READS)
    report, called = Report(Counter(), []), 0
    while len(report.receipts) < ENOUGH and called < MOST_CALLS:
        one = job(store_of, proxy, "count", keys=keys, threads=2, times=60) | {"deadline": 0.1}
        with Crew([one] * 4) as crew:
            report.add(crew.work())
        called += 4 * 2 * 60
    proxy.heal()
    landed = committed(store_of, report)
    with StateStore(store_of.name, address=store_of.address) as reader:
        stored = sum(value["n"] for value in reader.get_many(keys).values())
    tell(
        f"{store_of.name:>14}: of {called} hasty increments {report.acked} acknowledged, {stored} stored; "
        f"of {len(report.receipts)} receipts {landed} committed"
    )
    assert stored == report.acked + landed
    assert set(report.failed) <= {"failed: StoreUnavailableError", "failed: AttemptsExhaustedError"}
    assert len(report.receipts) >= ENOUGH, "this run is void: too few outcomes were unknown"


def sdk_loop(store: LiveStore, proxy: FaultProxy, key: str, times: int, history: History) -> int:
    """The plain ETag loop that takes a lost answer for a failure and tries again; tells what it believes it did."""
    port = GrpcPort(store.name, address_of(line(proxy)), Token(None))
    port.connect(10.0)
    try:
        done = 0
        for _ in range(times):
            pending = history.call("plain", "inc", key, 1)
            landed = False
            while not landed:
                row: Any = port.get(key, strong=True, timeout=5.0)
                more = json.loads(row.data)["n"] + 1
                write = Write(key, json.dumps({"n": more}).encode(), etag=row.etag)
                landed = port.put(write, timeout=5.0).ok
            pending.ok(more)
            done += 1
        return done
    finally:
        port.close()


def test_a_plain_loop_doubles_on_the_same_line(
    store_of: LiveStore, proxy: FaultProxy, tmp_path: Path
) -> None:
    """The positive control: the ETag loop everybody writes counts too much, and no order explains its answers."""
    key = fresh_key()
    port = GrpcPort(store_of.name, address_of(store_of.address), Token(None))
    port.connect(10.0)
    port.put(Write(key, b'{"n": 0}'), timeout=5.0)
    proxy.set_rates(RATES)
    with History(tmp_path / "history.jsonl") as history:
        acked = sdk_loop(store_of, proxy, key, 60, history)
    proxy.heal()
    row: Any = port.get(key, strong=True, timeout=5.0)
    port.close()
    assert json.loads(row.data)["n"] > acked == 60
    assert check_linearizable(load(tmp_path / "history.jsonl")).verdict == "bad"


@pytest.mark.timeout(300)
def test_mixed_operations_are_linearizable(store_of: LiveStore, proxy: FaultProxy, tmp_path: Path) -> None:
    """Reads, increments, creates, compare-and-sets, writes and deletes from four processes under the same faults."""
    keys = [fresh_key() for _ in range(6 if LONG else 3)]
    history = tmp_path / "history.jsonl"
    jobs = [
        job(
            store_of,
            proxy,
            "mixed",
            keys=keys,
            threads=2,
            times=100 if LONG else 25,
            seed=number,
            number=number,
            name=f"w{number}",
            history=str(history),
        )
        for number in range(4)
    ]
    proxy.set_rates(RATES)
    with Crew(jobs) as crew:
        crew.work()
    proxy.heal()
    ops = load(history)
    report = check_linearizable(ops)
    assert report.verdict == "ok", str(report)
    assert {op.f for op in ops} == {"read", "inc", "cas", "write", "del"}


@pytest.mark.timeout(300)
def test_killed_workers_apply_each_id_once(store_of: LiveStore, proxy: FaultProxy) -> None:
    """Three workers over the same 105 ids, killed again and again in the middle and started anew."""
    key = fresh_key()
    jobs = [job(store_of, proxy, "ids", key=key, count=105, seed=number) for number in range(3)]
    proxy.set_rates(RATES)
    with Crew(jobs) as crew, StateStore(store_of.name, address=store_of.address) as watcher:
        crew.go()
        for goal, victim in zip((15, 30, 45, 60, 75), itertools.cycle(range(3)), strict=False):
            pause = threading.Event()
            while (watcher.get(key) or {"n": 0})["n"] < goal:
                pause.wait(0.01)
            crew.workers[victim].kill()
            crew.workers[victim].communicate()
            crew.workers[victim] = crew.start({**jobs[victim], "seed": goal})
            crew.hear(crew.workers[victim])
            crew.let_go(crew.workers[victim])
        for worker in crew.workers:
            assert crew.hear(worker)["counts"]["acked"] == 105
        proxy.heal()
        assert watcher.get(key) == {"n": 105}


def test_a_worker_killed_around_a_write(store_of: LiveStore, proxy: FaultProxy) -> None:
    """Killed just before its fourth write leaves, then just after one took effect: the next one finds what is left to do."""
    key = fresh_key()
    one = job(store_of, proxy, "ids", key=key, count=12, seed=1)
    with StateStore(store_of.name, address=store_of.address) as watcher:
        for point, done in (("single.write", 3), ("single.written", 7)):
            with Crew([one], {"OCC_POINTS": f"{point}=kill:4"}) as crew:
                crew.go()
                assert crew.workers[0].wait(60) == -signal.SIGKILL
            assert watcher.get(key) == {"n": done}
        with Crew([one]) as crew:
            assert crew.work().acked == 12
        assert watcher.get(key) == {"n": 12}

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
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any, Final

import pytest

from tests.conftest import LiveStore
from tests.faults.crew import Crew, Report, fresh_key, line
from toolkit import Outcome, StateStore
from toolkit.core.model import Write
from toolkit.dapr.address import Token, address_of
from toolkit.dapr.port import GrpcPort
from toolkit.testing.history import load
from toolkit.testing.linear import check_linearizable
from toolkit.testing.proxy import Fault, FaultProxy

LONG: Final = bool(os.environ.get("OCC_REQUIRE_STORES"))
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


def check_not_void(proxy: FaultProxy, logs: Path, fired: Counter[str]) -> None:
    """The run has met what it was made for, or it proves nothing."""
    writes = proxy.calls["SaveState"]
    lines = [json.loads(text) for path in logs.glob("*.log") for text in path.read_bytes().splitlines()]
    names = Counter(one["event"] for one in lines)
    conflicts = names["occ.conflict"] / max(names["occ.conflict"] + names["occ.committed"], 1)
    unclear = (fired["drop_reply"] + fired["drop_request"]) / max(writes, 1)
    void = [f"{fault} fired {fired[fault]} times, fewer than 20" for fault in RATES if fired[fault] < 20]
    if not 0.05 <= conflicts <= 0.6:
        void.append(f"{conflicts:.0%} of the attempts were conflicts")
    if unclear < 0.01:
        void.append(f"only {unclear:.1%} of the answers were unclear")
    assert not void, f"this run is void: {'; '.join(void)}"


@pytest.mark.timeout(300)
def test_increments_on_a_bad_line(
    store_of: LiveStore, proxy: FaultProxy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Four processes' increments end at exactly what was acknowledged and what receipts resolve to."""
    keys = [fresh_key() for _ in range(2)]
    times = 400 if LONG else 130
    one = job(store_of, proxy, "count", keys=keys, threads=2, times=times)
    proxy.set_rates(RATES)
    with Crew([one] * 4, {"OCC_LOG": str(tmp_path / "{pid}.log")}) as crew:
        report = crew.work()
    fired: Counter[str] = Counter()
    for (_, fault), number in proxy.faults.items():
        fired[fault] += number
    proxy.heal()
    with StateStore(store_of.name, address=store_of.address) as reader:
        stored = sum(value["n"] for value in reader.get_many(keys).values())
    with capsys.disabled():
        sys.stdout.write(
            f"\n{store_of.name:>14}: acked {report.acked} of {4 * 2 * times}, stored {stored}, {dict(fired)}\n"
        )
    assert stored == report.acked + committed(store_of, report)
    assert report.failed == {}
    check_not_void(proxy, tmp_path, fired)


def sdk_loop(store: LiveStore, proxy: FaultProxy, key: str, times: int) -> int:
    """The plain ETag loop that takes a lost answer for a failure and tries again; tells what it believes it did."""
    port = GrpcPort(store.name, address_of(line(proxy)), Token(None))
    port.connect(10.0)
    try:
        done = 0
        while done < times:
            row: Any = port.get(key, strong=True, timeout=5.0)
            value = json.loads(row.data)
            write = Write(key, json.dumps({"n": value["n"] + 1}).encode(), etag=row.etag)
            done += port.put(write, timeout=5.0).ok
        return done
    finally:
        port.close()


def test_a_plain_loop_doubles_on_the_same_line(store_of: LiveStore, proxy: FaultProxy) -> None:
    """The positive control: the ETag loop everybody writes counts too much where replies are lost."""
    key = fresh_key()
    port = GrpcPort(store_of.name, address_of(store_of.address), Token(None))
    port.connect(10.0)
    port.put(Write(key, b'{"n": 0}'), timeout=5.0)
    proxy.set_rates(RATES)
    acked = sdk_loop(store_of, proxy, key, 60)
    proxy.heal()
    row: Any = port.get(key, strong=True, timeout=5.0)
    port.close()
    assert json.loads(row.data)["n"] > acked == 60


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

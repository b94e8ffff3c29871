"""
A real daprd behind a bad line: replies and requests are lost, writes arrive twice and late.

The table of rows and stores is printed with how often each fault fired; too few firings, too little contention or too
few unclear answers make a run void, and it fails saying so. ``OCC_REQUIRE_STORES=all`` (``make test-all``) runs longer.
"""

from __future__ import annotations

import itertools
import json
import os
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import pytest

from tests.conftest import LiveStore
from tests.faults.crew import Crew, Report
from tests.faults.worker import inc
from toolkit import ABSENT, Outcome, RetryPolicy, StateStore
from toolkit.core.model import Write
from toolkit.dapr.address import Token, address_of
from toolkit.dapr.port import GrpcPort
from toolkit.errors import AlreadyExistsError, ConflictError, NotFoundError
from toolkit.testing.history import load
from toolkit.testing.linear import check_linearizable
from toolkit.testing.proxy import Fault, FaultProxy

STORES: Final = ("sqlite", "redis", "postgresql-v2", "mysql")
LONG: Final = bool(os.environ.get("OCC_REQUIRE_STORES"))
RATES: Final[dict[Fault, float]] = {
    "drop_reply": 0.15,
    "drop_request": 0.05,
    "duplicate": 0.05,
    "late_duplicate": 0.03,
}
TIMES: Final = 20


@pytest.fixture(params=STORES)
def store_of(request: pytest.FixtureRequest, live_named: Callable[[str], LiveStore]) -> LiveStore:
    return live_named(str(request.param))


@pytest.fixture
def proxy(store_of: LiveStore) -> Iterator[FaultProxy]:
    with FaultProxy(store_of.sidecar.grpc_port, seed=11, late_after=2.0) as proxy:
        yield proxy


def line(proxy: FaultProxy) -> str:
    return f"127.0.0.1:{proxy.port}"


def fresh_key() -> str:
    return f"f-{uuid.uuid4().hex}"


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
    void = [
        f"{fault} fired {fired[fault]} times, fewer than 20"
        for fault in RATES
        if fired[fault] < 20
    ]
    void += [f"{conflicts:.0%} of the attempts were conflicts"] if not 0.05 <= conflicts <= 0.6 else []
    void += [f"only {unclear:.1%} of the answers were unclear"] if unclear < 0.01 else []
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
        print(f"\n{store_of.name:>14}: acked {report.acked} of {4 * 2 * times}, stored {stored}, {dict(fired)}")
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


# Row by row --------------------------------------------------------------------------------------------------------------


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

    def __enter__(self) -> Rows:
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


ROWS: Final = tuple(name for name in vars(Rows) if name.startswith("row_"))


@pytest.mark.timeout(240)
def test_each_row_of_the_table(
    store_of: LiveStore, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every row that concerns single keys, at least twenty times on this store; the counts are printed."""
    monkeypatch.setenv("DAPR_API_MAX_RETRIES", "5")
    counts: Counter[str] = Counter()
    with Rows(store_of, proxy) as rows:
        for name in ROWS:
            for _ in range(TIMES):
                getattr(rows, name)()
                counts[name] += 1
    with capsys.disabled():
        print(f"\n{store_of.name:>14}: " + ", ".join(f"{name[4:]} {counts[name]}" for name in ROWS))
    assert min(counts[name] for name in ROWS) >= TIMES
    scripted: Counter[str] = Counter()
    for (_, fault), number in proxy.faults.items():
        scripted[fault] += number
    assert scripted == {"drop_reply": 4 * TIMES, "drop_request": TIMES, "duplicate": TIMES, "late_duplicate": TIMES}

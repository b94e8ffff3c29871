"""
Merged transactions through a real daprd on a bad line: one process with many tasks on the same keys.

Together with a second process of its kind and one that uses threads, so that batches meet rivals of all sorts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from tests.conftest import LiveStore
from tests.faults.crew import line
from tests.transactions.crew import Crew, Worker
from tests.transactions.live import LONG, RATES, check_fired, names, opened, say
from toolkit.testing.append import check_append
from toolkit.testing.history import History, load
from toolkit.testing.proxy import FaultProxy

STORES: Final = ("sqlite", "redis", "postgresql-v2")
TASKS: Final = 24
# Merged, so many transactions make few calls: more of those go wrong than in the other workloads.
HARSH: Final = {fault: 2.5 * rate for fault, rate in RATES.items()}


@pytest.fixture(params=STORES)
def store_of(request: pytest.FixtureRequest, live_named: Callable[[str], LiveStore]) -> LiveStore:
    return live_named(str(request.param))


def crew_of(
    mode: dict[str, str], store: LiveStore, proxy: FaultProxy, times: int, **more: Any
) -> list[Worker]:
    """Two processes of many tasks and one of many threads."""
    jobs = [
        {"mode": mode[kind], "store": store.name, "address": line(proxy), "times": times, "tasks": TASKS}
        | {"seed": number + 1, "name": f"{kind}{number}"}
        | more
        for number, kind in enumerate(("tasks", "tasks", "threads"))
    ]
    return [Worker(job, module="tests.transactions.merging_worker") for job in jobs]


@pytest.mark.timeout(240)
def test_list_append_merged(
    store_of: LiveStore, proxy: FaultProxy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Transactions of 72 clients in three processes over four keys are strict serializable, many of them merged."""
    keys, file = names(4), tmp_path / "history.jsonl"
    times = 12 if LONG else 6
    proxy.set_rates(HARSH)
    workers = crew_of(
        {"tasks": "append", "threads": "append_threads"}, store_of, proxy, times, keys=keys, history=str(file)
    )
    with Crew(*workers) as crew:
        told, combined = Counter[str](), Counter[int]()
        for worker in crew.workers:
            heard = worker.hear()
            assert heard is not None
            told.update(heard["told"])
            combined.update({int(count): number for count, number in heard["combined"].items()})
    proxy.heal()
    with opened(store_of) as store, History(file) as history:
        pending = history.call("audit", "final", mops=[["r", key, None] for key in keys])
        final = store.snapshot(keys)
        pending.ok(mops=[["r", key, final[key]["l"] if key in final else []] for key in keys])
    report = check_append(load(file))
    say(
        capsys, f"{store_of.name:>14}: {dict(told)}, commits by what they carried: {dict(combined)}: {report}"
    )
    assert report.ok, str(report)
    assert told["ok"] >= 0.6 * 3 * TASKS * times, f"this run is void: only {told['ok']} were ok"
    merged = sum(number for count, number in combined.items() if count > 1)
    assert merged > 5, f"this run is void: {merged} commits carried more than one transaction"
    check_fired(proxy, 3)


@pytest.mark.timeout(240)
def test_bank_merged(store_of: LiveStore, proxy: FaultProxy, capsys: pytest.CaptureFixture[str]) -> None:
    """The total stays, and every transfer that was acknowledged under an id took place once; a process dies half-way."""
    keys = names(5)
    with opened(store_of) as store:
        for key in keys:
            store.set(key, {"n": 100})
    proxy.set_rates(HARSH)
    times = 6 if LONG else 2
    told, sure = Counter[str](), set[str]()
    decide = "commit.decide" if store_of.name == "redis" else "commit.multi"
    job = {
        "mode": "bank",
        "store": store_of.name,
        "address": line(proxy),
        "times": times,
        "tasks": TASKS,
        "keys": keys,
    }
    # Every task moves money twice, so there are two commits at least, however well they are merged.
    victim = Worker(
        job | {"seed": 77, "name": "victim"}, f"{decide}=kill:2", module="tests.transactions.merging_worker"
    )
    workers = crew_of({"tasks": "bank", "threads": "bank_threads"}, store_of, proxy, times, keys=keys)
    with Crew(victim, *workers):
        assert victim.process.wait(60) == -9
        for worker in workers:
            heard = worker.hear()
            assert heard is not None
            told.update(heard["told"])
            sure.update(heard["sure"])
    proxy.heal()
    with opened(store_of) as store:
        seen = store.snapshot(keys)
    say(capsys, f"{store_of.name:>14}: {dict(told)}")
    assert sum(value["n"] for value in seen.values()) == 500
    applied = Counter(op_id for value in seen.values() for op_id in value.get("ids", []))
    assert [op_id for op_id, count in applied.items() if count > 1] == []
    assert sure - set(applied) == set()
    assert told["moved"] > 2 * TASKS, "this run is void: hardly any transfer was made"

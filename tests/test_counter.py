"""
A sharded counter: nothing is lost or counted twice, on the fake store in every colour and through a real sidecar.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter as Tally
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import pytest

from toolkit import AsyncCounter, AsyncStateStore, CorruptValueError, Counter, InvalidKeyError, StateStore
from toolkit.testing import Faults, MemoryStore

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "visits.py"


def parts(store: StateStore, shards: int) -> dict[str, Any]:
    return store.get_many(f"visits-{number}" for number in range(shards))


def test_threads_add_without_loss() -> None:
    """
    Eight threads in two stores add over one memory; the sum is exact, and more than one shard was used.
    """
    port = MemoryStore(profile="redis")
    with StateStore("x", port=port) as one, StateStore("x", port=port) as other:
        counters = [Counter(store, "visits", shards=4) for store in (one, other)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda number: counters[number % 2].add(number), range(200)))
        assert sum(range(200)) == counters[0].value() == counters[1].value()
        found = parts(one, 4)
        assert 1 < len(found)
        assert [["n"]] * len(found) == [list(value) for value in found.values()]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_tasks_add_without_loss(backend: str) -> None:
    """
    The async colour on both libraries; negative numbers count down.
    """

    async def work() -> int:
        async with AsyncStateStore("x", port=MemoryStore()) as store:
            counter = AsyncCounter(store, "visits", shards=3)
            assert 0 == await counter.value()
            async with anyio.create_task_group() as group:
                for number in range(60):
                    group.start_soon(counter.add, -1 if number % 3 == 0 else 2)
            await counter.add(op_id="once")
            await counter.add(op_id="once")
            return await counter.value()

    assert 40 * 2 - 20 + 1 == anyio.run(work, backend=backend)


def test_a_repeat_adds_nothing() -> None:
    """
    An id leads to the same shard from any process, and its second addition changes nothing; an id per shard at least.
    """
    port = MemoryStore(faults=Faults(seed=3, drop_reply=0.2, duplicate=0.1))
    ids = [f"visit-{number}" for number in range(40)]
    for _ in range(2):  # the second store knows nothing of the first
        with StateStore("x", port=port) as store:
            for op_id in ids:
                Counter(store, "visits", shards=4).add(op_id=op_id)
    with StateStore("x", port=port) as store:
        assert 40 == Counter(store, "visits", shards=4).value()
        assert 4 == len(parts(store, 4))


def test_additions_without_an_id_spread() -> None:
    """
    Every shard gets some of 200 additions: missing one has a chance of 4 * (3/4)^200.
    """
    with StateStore("x", port=MemoryStore()) as store:
        counter = Counter(store, "visits", shards=4)
        for _ in range(200):
            counter.add()
        found = parts(store, 4)
        assert (4, 200) == (len(found), sum(value["n"] for value in found.values()))


def test_more_shards_keep_the_sum() -> None:
    """
    A counter of more shards counts what one of fewer has added.
    """
    with StateStore("x", port=MemoryStore()) as store:
        Counter(store, "visits", shards=1).add(5)
        assert 5 == Counter(store, "visits", shards=9).value()


def test_the_value_is_of_one_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A unit that moves between two shards, in one transaction while the value is read, is neither lost nor seen twice.
    """
    port = MemoryStore()
    with StateStore("x", port=port) as store, StateStore("x", port=port) as other:
        for number in range(2):
            other.set(f"visits-{number}", {"n": 10})

        def move(tx: Any) -> None:
            found = tx.get_many(["visits-0", "visits-1"])
            tx.put("visits-0", {"n": found["visits-0"]["n"] - 1})
            tx.put("visits-1", {"n": found["visits-1"]["n"] + 1})

        looked: Tally[str] = Tally()
        plain = port.world.get

        def get(key: str) -> Any:
            row = plain(key)
            looked[key] += 1
            if (key, looked[key]) == ("visits-0", 1):
                monkeypatch.setattr(port.world, "get", plain)
                other.transact(move)
                monkeypatch.setattr(port.world, "get", get)
            return row

        monkeypatch.setattr(port.world, "get", get)
        assert 20 == Counter(store, "visits", shards=2).value()
        assert 1 < looked["visits-0"]


@pytest.mark.parametrize("stored", [{"m": 1}, {"n": "1"}, {"n": True}, {"n": 1.5}])
def test_what_is_no_counter_is_left_alone(stored: Any) -> None:
    """
    A key that holds something else is named in the error and stays as it was.
    """
    with StateStore("x", port=MemoryStore()) as store:
        store.set("visits-0", stored)
        counter = Counter(store, "visits", shards=1)
        with pytest.raises(CorruptValueError, match="key 'visits-0' holds no part of a counter"):
            counter.add()
        with pytest.raises(CorruptValueError, match="key 'visits-0' holds no part of a counter"):
            counter.value()
        assert stored == store.get("visits-0")


@pytest.mark.parametrize(
    ("key", "shards", "error"),
    [
        ("visits", 0, ValueError),
        ("visits", True, TypeError),
        ("visits", 2.0, TypeError),
        ("", 2, InvalidKeyError),
        ("a||b", 2, InvalidKeyError),
        (7, 2, TypeError),
    ],
)
@pytest.mark.parametrize("colour", [Counter, AsyncCounter])
def test_what_cannot_be_meant_is_refused(colour: Any, key: Any, shards: Any, error: type[Exception]) -> None:
    """
    Both colours check their arguments when they are made.
    """
    store: Any = StateStore("x", port=MemoryStore())
    with pytest.raises(error):
        colour(store, key, shards)


@pytest.mark.parametrize(("n", "op_id"), [(0.5, None), (True, None), ("1", None), (1, ""), (1, 7)])
def test_what_cannot_be_added_is_refused(n: Any, op_id: Any) -> None:
    """
    Nothing is sent for an addition that makes no sense.
    """
    port = MemoryStore()
    with StateStore("x", port=port) as store:
        with pytest.raises(TypeError):
            Counter(store, "visits").add(n, op_id=op_id)
        assert 0 == port.calls["put"]


def test_it_says_what_it_is() -> None:
    """
    The representation names the key and the shards.
    """
    with StateStore("x", port=MemoryStore()) as store:
        assert "Counter('visits', shards=8)" == repr(Counter(store, "visits"))
    assert "AsyncCounter('visits', shards=2)" == repr(
        AsyncCounter(AsyncStateStore("x", port=MemoryStore()), "visits", 2)
    )


@pytest.mark.parametrize("name", ["sqlite", "redis"])
def test_it_counts_through_a_real_sidecar(live_named: Any, name: str) -> None:
    """
    Threads of two stores add through daprd; every addition is made twice and counts once.
    """
    live = live_named(name)
    key = f"counter-{os.urandom(6).hex()}"
    with StateStore(name, address=live.address) as one, StateStore(name, address=live.address) as other:
        counters = [Counter(store, key, shards=3) for store in (one, other)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda number: counters[number % 2].add(op_id=f"{key}-{number // 2}"), range(80)))
        assert 40 == counters[0].value()


def test_visitors_are_counted_once(daprd: Any) -> None:
    """
    ``examples/visits.py``: four processes of sixteen threads, every third visit sent twice, none lost or doubled.
    """
    env = {name: value for name, value in os.environ.items() if not name.startswith("DAPR_")}
    ran = subprocess.run(
        [sys.executable, str(EXAMPLE)],
        env={**env, **daprd().environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert 0 == ran.returncode, ran.stderr
    assert re.fullmatch(r"400 visits, 400 counted, \d+ per second\n", ran.stdout)

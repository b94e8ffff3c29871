"""
Concurrent reads share bulk calls: what is sent, who gets what, and what one caller's trouble means for the others.

Nothing here sleeps: plain reads are held at the port until the test lets them go, so that others gather meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import anyio
import pytest

from toolkit import AsyncStateStore, NotFoundError
from toolkit._coalesce import FREE, MOST_BULKS, MOST_KEYS, Coalescer, pays
from toolkit.core.model import MISSING_ROW, Reply, Row
from toolkit.stores import find
from toolkit.testing.memory import MemoryStore

PATIENCE = 30.0
BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])
BROKEN = Reply("INTERNAL", "bulk reads are broken today")


def row(key: str) -> Row:
    return Row(f'"{key}"'.encode(), "1")


class Port:
    """
    Answers every key with its own name; holds plain and bulk reads at a gate.

    Attributes:
        bulk: What a bulk read answers for its keys.
    """

    def __init__(self) -> None:
        self.gets: list[str] = []
        self.strong: list[bool] = []
        self.bulks: list[tuple[str, ...]] = []
        self.timeouts: list[float] = []
        self.bulk: Callable[[Sequence[str]], Sequence[Row | Reply]] = lambda keys: [row(key) for key in keys]
        self.most = self.under_way = 0

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None

    def seen(self, key: str, strong: bool, timeout: float) -> None:
        self.gets.append(key)
        self.strong.append(strong)
        self.timeouts.append(timeout)

    def bulk_seen(self, keys: Sequence[str], timeout: float) -> None:
        self.bulks.append(tuple(keys))
        self.timeouts.append(timeout)
        self.under_way += 1
        self.most = max(self.most, self.under_way)

    def bulk_over(self, keys: Sequence[str]) -> tuple[Row | Reply, ...]:
        self.under_way -= 1
        return tuple(self.bulk(keys))


class Held(Port):
    """For threads."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.bulk_gate = threading.Event(), threading.Event()
        self.bulk_gate.set()
        self.arrived, self.bulk_arrived, self.lock = (
            threading.Semaphore(0),
            threading.Semaphore(0),
            threading.Lock(),
        )

    def get(self, key: str, *, strong: bool, timeout: float) -> Row | Reply:
        with self.lock:
            self.seen(key, strong, timeout)
        self.arrived.release()
        assert self.gate.wait(PATIENCE)
        return row(key)

    def get_bulk(self, keys: Sequence[str], *, timeout: float) -> tuple[Row | Reply, ...]:
        with self.lock:
            self.bulk_seen(keys, timeout)
        self.bulk_arrived.release()
        assert self.bulk_gate.wait(PATIENCE)
        with self.lock:
            return self.bulk_over(keys)


class Crowd:
    """Threads that read through one coalescer."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self.pool, self.port = pool, Held()
        self.reads = Coalescer(self.port)
        self.futures: dict[str, Future[Row | Reply]] = {}

    def fill(self) -> None:
        """As many plain reads as go out at once."""
        for number in range(FREE):
            self.ask(f"first-{number}")
            assert self.port.arrived.acquire(timeout=PATIENCE)

    def ask(self, key: str, name: str = "", *, timeout: float = PATIENCE, strong: bool = True) -> None:
        before = len(self.reads.gathering.waiting)
        self.futures[name or key] = self.pool.submit(self.reads.get, key, strong=strong, timeout=timeout)
        if len(self.futures) > FREE:
            self.until(lambda: len(self.reads.gathering.waiting) > before)

    def until(self, true: Callable[[], bool]) -> None:
        tick = threading.Event()
        for _ in range(int(PATIENCE * 1000)):
            if true():
                return
            tick.wait(0.001)
        raise AssertionError("it never came to that")

    def results(self) -> dict[str, Row | Reply]:
        return {name: one.result(PATIENCE) for name, one in self.futures.items()}


@contextmanager
def crowd() -> Iterator[Crowd]:
    with ThreadPoolExecutor(200) as pool:
        yield Crowd(pool)


def test_few_reads_go_out_by_themselves() -> None:
    """Below the limit nothing is shared, and nobody waits for anybody."""
    with crowd() as all_of_them:
        all_of_them.fill()
        all_of_them.port.gate.set()
        assert all_of_them.results() == {f"first-{n}": row(f"first-{n}") for n in range(FREE)}
    assert all_of_them.port.bulks == []


def test_what_gathers_goes_as_one_call() -> None:
    """All that wait when one read comes back are read together, and each gets its own row."""
    with crowd() as all_of_them:
        all_of_them.fill()
        keys = [f"k{number}" for number in range(20)]
        for key in keys:
            all_of_them.ask(key)
        all_of_them.port.gate.set()
        found = all_of_them.results()
    assert {key: found[key] for key in keys} == {key: row(key) for key in keys}
    assert sorted(key for bulk in all_of_them.port.bulks for key in bulk) == sorted(keys)
    assert len(all_of_them.port.bulks) <= MOST_BULKS
    assert len(all_of_them.port.gets) == FREE


def test_a_key_is_asked_for_once() -> None:
    """Several that wait for one key share it, as a plain call when it is the only one; strong if any of them is."""
    with crowd() as all_of_them:
        all_of_them.fill()
        for number in range(5):
            all_of_them.ask("k", f"k{number}", strong=number == 3)
        all_of_them.port.gate.set()
        found = all_of_them.results()
    assert [found[f"k{number}"] for number in range(5)] == [row("k")] * 5
    port = all_of_them.port
    assert port.bulks == []
    later = port.strong[FREE:]
    assert 1 <= len(later) <= MOST_BULKS
    assert any(later)


def test_two_bulk_reads_at_a_time() -> None:
    """However many come back, the third waits; one call has at most so many keys."""
    with crowd() as all_of_them:
        all_of_them.fill()
        all_of_them.port.bulk_gate.clear()
        keys = [f"k{number}" for number in range(MOST_KEYS * 2 + 10)]
        for key in keys:
            all_of_them.ask(key)
        all_of_them.port.gate.set()
        for _ in range(MOST_BULKS):
            assert all_of_them.port.bulk_arrived.acquire(timeout=PATIENCE)
        assert len(all_of_them.port.bulks) == MOST_BULKS
        all_of_them.port.bulk_gate.set()
        found = all_of_them.results()
    assert all(found[key] == row(key) for key in keys)
    port = all_of_them.port
    assert port.most <= MOST_BULKS
    assert max(map(len, port.bulks)) <= MOST_KEYS


@pytest.mark.parametrize("bad", [MISSING_ROW, BROKEN])
def test_what_a_bulk_read_is_not_sure_of_is_read_alone(bad: Row | Reply) -> None:
    """A key it does not find, or has an error for, may be there all the same; the others have their answer."""
    with crowd() as all_of_them:
        port = all_of_them.port
        port.bulk = lambda keys: [bad if key == "k1" else row(key) for key in keys]
        all_of_them.fill()
        for number in range(10):
            all_of_them.ask(f"k{number}")
        port.gate.set()
        found = all_of_them.results()
    assert all(found[f"k{number}"] == row(f"k{number}") for number in range(10))
    assert "k1" in port.gets[FREE:]
    assert len(port.gets[FREE:]) <= 2


def test_a_failed_bulk_read_harms_nobody() -> None:
    """Each reads by itself, and for a while nothing is gathered."""
    with crowd() as all_of_them:
        port = all_of_them.port
        port.bulk = lambda keys: [BROKEN for _ in keys]
        all_of_them.fill()
        for number in range(10):
            all_of_them.ask(f"k{number}")
        port.gate.set()
        found = all_of_them.results()
        assert all(found[f"k{number}"] == row(f"k{number}") for number in range(10))
        assert sorted(set(port.gets[FREE:])) == sorted(f"k{number}" for number in range(10))
        gathering = all_of_them.reads.gathering
        assert gathering.sore_until > 0
        assert (len(gathering.flying), gathering.bulks, len(gathering.waiting)) == (0, 0, 0)


def test_a_short_deadline_ends_while_others_wait_on() -> None:
    """A read whose time is up leaves the line with an answer of its own; the rest are served."""
    with crowd() as all_of_them:
        all_of_them.fill()
        hasty = all_of_them.pool.submit(all_of_them.reads.get, "hasty", strong=True, timeout=0.02)
        answer = hasty.result(PATIENCE)
        assert isinstance(answer, Reply)
        assert answer.code == "DEADLINE_EXCEEDED"
        for number in range(3):
            all_of_them.ask(f"k{number}")
        all_of_them.port.gate.set()
        found = all_of_them.results()
    assert all(found[f"k{number}"] == row(f"k{number}") for number in range(3))
    assert "hasty" not in [key for bulk in all_of_them.port.bulks for key in bulk]


def test_an_interrupted_leader_hands_its_company_on() -> None:
    """Whatever is raised out of the bulk call reaches its leader alone; the next one leads the rest."""
    with crowd() as all_of_them:
        port = all_of_them.port
        struck: list[str] = []

        def strike(keys: Sequence[str]) -> Sequence[Row | Reply]:
            if not struck:
                struck.append(keys[0])
                raise KeyboardInterrupt
            return [row(key) for key in keys]

        port.bulk = strike
        all_of_them.fill()
        for number in range(10):
            all_of_them.ask(f"k{number}")
        port.gate.set()
        with pytest.raises(KeyboardInterrupt):
            all_of_them.futures.pop("k0").result(PATIENCE)
        found = all_of_them.results()
    assert all(found[f"k{number}"] == row(f"k{number}") for number in range(1, 10))


# Through a store ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("store", "shared"),
    [
        ("postgresql", True),
        ("sqlite", True),
        ("mysql", True),
        ("redis", False),
        ("aws.dynamodb", False),
        ("etcd", False),
    ],
)
def test_only_where_it_pays_and_stays_strong(store: str, shared: bool) -> None:
    """One native call, as strong as a single read."""
    versions = {"postgresql": "v2", "etcd": "v2"}
    assert pays(find(f"state.{store}", versions.get(store, "v1"))) is shared


class Counting(MemoryStore):
    """Counts bulk reads."""

    bulks = 0

    def get_bulk(self, keys: Sequence[str], *, timeout: float = 1.0) -> tuple[Row | Reply, ...]:
        self.bulks += 1
        return super().get_bulk(keys, timeout=timeout)


@pytest.mark.parametrize("profile", ["postgresql/v2", "redis"])
def test_a_store_reads_many_keys_at_once(profile: str) -> None:
    """Sixty-four tasks on as many keys: few bulk reads, every value its own; a missing key is still missing."""
    port = Counting(profile=profile)

    async def main() -> tuple[list[Any], list[str]]:
        values: list[Any] = [None] * 64
        missing: list[str] = []

        async def work(number: int) -> None:
            values[number] = (await states.read(f"k{number}")).value
            await states.update(f"k{number}", lambda value: {"n": value["n"] + 1000})
            try:
                await states.update(f"missing-{number}", lambda value: value)
            except NotFoundError as error:
                missing.append(str(error))

        async with AsyncStateStore("s", port=port) as states:
            for number in range(64):
                await states.set(f"k{number}", {"n": number})
            async with anyio.create_task_group() as group:
                for number in range(64):
                    group.start_soon(work, number)
            last = await states.get_many([f"k{number}" for number in range(64)])
        assert last == {f"k{number}": {"n": number + 1000} for number in range(64)}
        return values, missing

    values, missing = anyio.run(main)
    assert values == [{"n": number} for number in range(64)]
    assert len(missing) == 64
    assert (port.bulks > 0) is (profile == "postgresql/v2")

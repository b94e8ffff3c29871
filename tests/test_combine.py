"""
Calls on one key share one read and one write: in what order, who fails, who may leave, and what stays behind.

Nothing here sleeps: the first caller is held in its read until so many others are in the queue behind it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import anyio
import pytest
from anyio import wait_all_tasks_blocked
from anyio.lowlevel import checkpoint

from toolkit import AsyncStateStore, AttemptsExhaustedError, NotFoundError, Outcome, RetryPolicy, StateStore
from toolkit.core.model import Reply, Row, Write
from toolkit.testing.memory import AsyncMemoryStore, MemoryStore

PATIENCE = 20.0
BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


def adds(name: Any) -> Callable[[Any], Any]:
    return lambda value: {"seen": [*value["seen"], name]}


def fails(value: Any) -> Any:
    raise LookupError("this change cannot be made")


class Watched(deque[Any]):
    def __init__(self, tickets: deque[Any]) -> None:
        super().__init__(tickets)
        self.arrived = threading.Semaphore(0)

    def append(self, ticket: Any) -> None:
        super().append(ticket)
        self.arrived.release()


class Held(MemoryStore):
    """A store whose next read, once armed, waits until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.armed, self.reading, self.go = False, threading.Event(), threading.Event()
        self.before_put: Callable[[], Any] | None = None

    def get(self, key: str, *, strong: bool = True, timeout: float = 1.0) -> Row | Reply:
        if self.armed:
            self.armed = False
            self.reading.set()
            assert self.go.wait(PATIENCE)
        return super().get(key, strong=strong, timeout=timeout)

    def put(self, write: Write, *, timeout: float = 1.0) -> Reply:
        before, self.before_put = self.before_put, None
        if before is not None:
            before()
        return super().put(write, timeout=timeout)


class Line:
    """Threads that stand in line for one key, in a known order, while the first one reads."""

    def __init__(self, pool: ThreadPoolExecutor, store: StateStore, port: Held) -> None:
        self.pool, self.store, self.port = pool, store, port
        self.futures: list[Future[Any]] = []
        port.calls.update(get=0, put=0)

    def join(self, call: Callable[[], Any]) -> None:
        if not self.futures:
            self.port.armed = True
            self.futures.append(self.pool.submit(call))
            assert self.port.reading.wait(PATIENCE)
            queue = self.store._combiner.queues["k"]
            queue.waiting = self.waiting = Watched(queue.waiting)
            return
        self.futures.append(self.pool.submit(call))
        assert self.waiting.arrived.acquire(timeout=PATIENCE)

    def results(self) -> list[Any]:
        self.port.go.set()
        return [future.exception(PATIENCE) or future.result() for future in self.futures]


@pytest.fixture
def port() -> Held:
    return Held()


@pytest.fixture
def store(port: Held) -> Any:
    with StateStore("x", port=port) as store:
        store.set("k", {"seen": []})
        yield store


@pytest.fixture
def line(store: StateStore, port: Held) -> Any:
    with ThreadPoolExecutor(16) as pool:
        yield Line(pool, store, port)
        port.go.set()


# -- threads -------------------------------------------------------------------------------------------------------------


def test_threads_share_one_read_and_one_write_in_order(line: Line) -> None:
    """
    Eight callers, the first of them already reading: one get, one put, first come first applied, each told its own value.
    """
    for number in range(8):
        line.join(partial(line.store.update, "k", adds(number)))
    expected = [{"seen": list(range(number + 1))} for number in range(8)]
    assert expected == line.results()
    assert (1, 1) == (line.port.calls["get"], line.port.calls["put"])
    assert {"seen": list(range(8))} == line.store.get("k")


def test_a_change_that_raises_fails_its_caller_alone(line: Line) -> None:
    """
    The others of the batch are written as if it had never been there; the same for a key that a delete took away.
    """
    line.join(lambda: line.store.update("k", adds("first")))
    line.join(lambda: line.store.update("k", fails))
    line.join(lambda: line.store.delete("k"))
    line.join(lambda: line.store.update("k", adds("lost")))
    line.join(lambda: line.store.set("k", {"seen": []}))
    line.join(lambda: line.store.update("k", adds("last")))
    first, failed, gone, missing, put, last = line.results()
    assert ({"seen": ["first"]}, None, None, {"seen": ["last"]}) == (first, gone, put, last)
    assert (LookupError, NotFoundError) == (type(failed), type(missing))
    assert (1, 1) == (line.port.calls["get"], line.port.calls["put"])
    assert {"seen": ["last"]} == line.store.get("k")


def test_a_failed_batch_is_retried_whole(line: Line) -> None:
    """
    Another process writes between the read and the write: one more read and write for all callers, nobody is told.
    """
    with StateStore("x", port=line.port) as other:
        line.join(lambda: line.store.update("k", adds("first")))
        line.port.before_put = lambda: other.update("k", adds("other"))
        for number in range(4):
            line.join(partial(line.store.update, "k", adds(number)))
        results = line.results()
    assert {"seen": ["other", "first", 0, 1, 2, 3]} == line.store.get("k") == results[-1]
    # One write lost, and the other process has one of each.
    assert 3 == line.port.calls["put"]
    assert (
        5 == len(results) == len([result for result in results if result["seen"][:2] == ["other", "first"]])
    )


def test_an_unclear_batch_is_settled_for_all(line: Line) -> None:
    """
    The reply to the shared write is lost: nothing is applied twice, and every caller learns its own value.
    """
    for number in range(4):
        line.join(partial(line.store.update, "k", adds(number)))
    line.port.next("drop_reply")
    assert [{"seen": list(range(number + 1))} for number in range(4)] == line.results()
    assert {"seen": [0, 1, 2, 3]} == line.store.get("k")


def test_the_stamp_carries_the_ids_of_all_callers(line: Line) -> None:
    """
    One write proves six operations: each id is committed, for another store too, and a repeat changes nothing.
    """
    change = adds("x")
    for number in range(6):
        line.join(partial(line.store.update, "k", change, op_id=f"op-{number}"))
    # A repeat in the same batch meets the first one in the working copy.
    line.join(lambda: line.store.update("k", change, op_id="op-0"))
    results = line.results()
    assert {"seen": ["x"] * 6} == results[-1]
    assert 1 == line.port.calls["put"]
    with StateStore("x", port=line.port) as other:
        outcomes = [other.outcome(f"op-{number}", key="k") for number in range(7)]
        assert [Outcome.COMMITTED] * 6 == outcomes[:6]
        assert outcomes[6] is not Outcome.COMMITTED
        assert {"seen": ["x"] * 6} == other.update("k", change, op_id="op-3")


def test_attempts_are_counted_for_each_caller(port: Held) -> None:
    """
    A batch that lost for good fails all its callers, with an error object each, and writes nothing.
    """
    with (
        StateStore("x", port=port, retry=RetryPolicy(attempts=1)) as store,
        StateStore("x", port=port) as other,
        ThreadPoolExecutor(4) as pool,
    ):
        store.set("k", {"seen": []})
        line = Line(pool, store, port)
        line.join(lambda: store.update("k", adds(0)))
        port.before_put = lambda: other.update("k", adds("other"))
        line.join(lambda: store.update("k", adds(1)))
        errors = line.results()
        assert [AttemptsExhaustedError] * 2 == [type(error) for error in errors]
        assert errors[0] is not errors[1]
        assert {"seen": ["other"]} == store.get("k")


class Slow(MemoryStore):
    # Answers after a short while, as a store behind a network does.
    def get(self, key: str, *, strong: bool = True, timeout: float = 1.0) -> Row | Reply:
        threading.Event().wait(0.005)
        return super().get(key, strong=strong, timeout=timeout)


def test_two_hundred_threads_need_few_writes() -> None:
    """
    One update each on one key, all started at once: nobody fails, at most 20 writes, each change ran once.
    """
    port, runs, start = Slow(), [0], threading.Barrier(200)

    def bump(value: Any) -> Any:
        runs[0] += 1  # changes of one key run one after another
        return {"n": value["n"] + 1}

    with StateStore("x", port=port) as store, ThreadPoolExecutor(200) as pool:
        store.set("k", {"n": 0})
        port.calls["put"] = 0

        def one(_: int) -> Any:
            start.wait(PATIENCE)
            return store.update("k", bump)["n"]

        assert list(range(1, 201)) == sorted(pool.map(one, range(200)))
        assert 200 == store.get("k")["n"]
        assert port.calls["put"] <= 20
        assert 200 == runs[0]
        assert {} == store._combiner.queues


# -- tasks ---------------------------------------------------------------------------------------------------------------


class AsyncHeld(AsyncMemoryStore):
    def __init__(self) -> None:
        super().__init__(MemoryStore())
        self.go: anyio.Event | None = None

    async def get(self, key: str, *, strong: bool, timeout: float) -> Row | Reply:
        if self.go is not None:
            await self.go.wait()
        return await super().get(key, strong=strong, timeout=timeout)


def on_tasks(backend: str, work: Callable[[AsyncStateStore, AsyncHeld], Any]) -> None:
    async def run() -> None:
        port = AsyncHeld()
        async with AsyncStateStore("x", port=port) as store:
            await store.set("k", {"seen": []})
            port.store.calls.update(get=0, put=0)
            port.go = anyio.Event()
            with anyio.fail_after(PATIENCE):
                await work(store, port)
            assert {} == store._combiner.queues

    anyio.run(run, backend=backend)


@BACKENDS
def test_tasks_share_one_read_and_one_write_in_order(backend: str) -> None:
    """
    The same in the async colour: whoever comes before the read is back is in the batch.
    """

    async def work(store: AsyncStateStore, port: AsyncHeld) -> None:
        results: dict[int, Any] = {}

        async def call(number: int) -> None:
            results[number] = await store.update("k", fails if number == 3 else adds(number))

        async def failing() -> None:
            with pytest.raises(LookupError):
                await call(3)

        assert port.go is not None
        async with anyio.create_task_group() as group:
            for number in range(6):
                group.start_soon(failing) if number == 3 else group.start_soon(call, number)
                await wait_all_tasks_blocked()
            port.go.set()
        assert {"seen": [0, 1, 2, 4, 5]} == results[5] == await store.get("k")
        assert [0, 1, 2, 4, 5] == sorted(results)
        assert (2, 1) == (
            port.store.calls["get"],
            port.store.calls["put"],
        )  # the second get is this test's own

    on_tasks(backend, work)


@BACKENDS
def test_a_caller_cancelled_before_it_is_taken_leaves(backend: str) -> None:
    """
    Its change never runs; the leader's caller may go too, and the others are served all the same.
    """

    async def work(store: AsyncStateStore, port: AsyncHeld) -> None:
        assert port.go is not None
        scopes = [anyio.CancelScope() for _ in range(4)]

        async def call(number: int) -> None:
            with scopes[number]:
                await store.update("k", adds(number))

        async with anyio.create_task_group() as group:
            for number in range(4):
                group.start_soon(call, number)
                await wait_all_tasks_blocked()
            for left in (0, 2):
                scopes[left].cancel()
            await wait_all_tasks_blocked()
            port.go.set()
        assert {"seen": [1, 3]} == await store.get("k")
        assert [True, False, True, False] == [scope.cancelled_caught for scope in scopes]
        assert 1 == port.store.calls["put"]

    on_tasks(backend, work)


@BACKENDS
def test_idle_keys_leave_nothing(backend: str) -> None:
    """
    After a thousand keys there is no queue left, and no more leaders rest than a few.
    """

    async def work(store: AsyncStateStore, port: AsyncHeld) -> None:
        assert port.go is not None
        port.go.set()
        async with anyio.create_task_group() as group:
            for number in range(1000):
                group.start_soon(store.set, f"k-{number}", {"n": number})
        await checkpoint()
        await wait_all_tasks_blocked()
        assert {} == store._combiner.queues
        assert len(store._combiner.hands.resting) <= 64

    on_tasks(backend, work)

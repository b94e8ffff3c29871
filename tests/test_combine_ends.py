"""
How calls on a shared key end when the store hangs or a caller is interrupted: each at its own deadline, nobody for another.

Nothing here sleeps: reads and writes are held until the test lets them go, however slow the machine is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import anyio
import anyio.to_thread
import pytest
from anyio.lowlevel import checkpoint

from toolkit import (
    AsyncStateStore,
    Outcome,
    OutcomeUnknownError,
    RetryPolicy,
    StateStore,
    StoreUnavailableError,
)
from toolkit.core.model import Reply, Row, Write
from toolkit.dapr.port import ThreadPort
from toolkit.log import capture
from toolkit.testing.memory import AsyncMemoryStore, MemoryStore

PATIENCE = 20.0
SHORT = RetryPolicy(deadline=1.5)
BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


def adds(name: str) -> Callable[[Any], Any]:
    return lambda value: {"seen": [*value["seen"], name]}


class Gate:
    """One call of the store that is held."""

    def __init__(self) -> None:
        self.reached, self.go = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.reached.set()
        assert self.go.wait(PATIENCE)


class Port(MemoryStore):
    """A store whose next calls do what a test puts before or after them."""

    def __init__(self) -> None:
        super().__init__()
        self.before_get: list[Callable[[], Any]] = []
        self.before_put: list[Callable[[], Any]] = []
        self.after_put: list[Callable[[], Any]] = []

    def get(self, key: str, *, strong: bool = True, timeout: float = 1.0) -> Row | Reply:
        if self.before_get:
            self.before_get.pop(0)()
        return super().get(key, strong=strong, timeout=timeout)

    def put(self, write: Write, *, timeout: float = 1.0) -> Reply:
        if self.before_put:
            self.before_put.pop(0)()
        reply = super().put(write, timeout=timeout)
        if self.after_put:
            self.after_put.pop(0)()
        return reply


class Hung(AsyncMemoryStore):
    """A store for tasks whose calls can be held."""

    read: Any = None
    write: Any = None

    async def get(self, key: str, *, strong: bool = True, timeout: float = 1.0) -> Row | Reply:
        if self.read is not None:
            await self.read.wait()
        return await super().get(key, strong=strong, timeout=timeout)

    async def put(self, write: Write, *, timeout: float = 1.0) -> Reply:
        if self.write is not None:
            await self.write.wait()
        return await super().put(write, timeout=timeout)


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.fixture
def port() -> Port:
    port = Port()
    with StateStore("x", port=port) as store:
        store.set("k", {"seen": []})
    return port


@pytest.fixture
def pool() -> Any:
    with ThreadPoolExecutor(8) as pool:
        yield pool


def join(store: StateStore, pool: ThreadPoolExecutor, name: str, line: int) -> Future[Any]:
    """A caller that stands in line, as the so-manieth one that waits."""
    future = pool.submit(store.update, "k", adds(name))
    while len(store._combiner.queues["k"].waiting) < line:
        assert not future.done()
    return future


# -- deadlines ------------------------------------------------------------------------------------------------------------


def test_who_leads_leaves_at_his_deadline_with_a_receipt(port: Port, pool: ThreadPoolExecutor) -> None:
    """
    The first caller drives the read, another joins late, the write hangs: the first has his receipt while it does.
    """
    read, write = Gate(), Gate()
    with StateStore("x", port=port, retry=SHORT) as store:
        port.before_get, port.before_put = [read], [write]
        first = pool.submit(store.update, "k", adds("first"))
        assert read.reached.wait(PATIENCE)
        second = join(store, pool, "second", 2)
        read.go.set()
        error = first.exception(PATIENCE)
        assert isinstance(error, OutcomeUnknownError)
        assert write.reached.is_set()
        write.go.set()
        assert {"seen": ["first", "second"]} == second.result(PATIENCE)
        assert Outcome.COMMITTED is store.resolve(error.receipt)


def test_a_waiting_caller_leaves_at_his_deadline(port: Port, pool: ThreadPoolExecutor) -> None:
    """
    Two wait while the read of the third hangs: they were not taken, so nothing is written for them, and they are told so.
    """
    read = Gate()
    with StateStore("x", port=port, retry=SHORT) as store:
        port.before_get = [read]
        first = pool.submit(store.update, "k", adds("first"))
        assert read.reached.wait(PATIENCE)
        others = [join(store, pool, "other", line) for line in (2, 3)]
        assert all(isinstance(other.exception(PATIENCE), StoreUnavailableError) for other in others)
        read.go.set()
        assert {"seen": ["first"]} == first.result(PATIENCE)


@BACKENDS
def test_a_task_leaves_at_its_deadline_with_a_receipt(backend: str) -> None:
    """
    The same for tasks: one has joined the batch whose write hangs, another waits behind it; each is told in time.
    """

    async def main() -> None:
        hung, errors = Hung(MemoryStore()), dict[str, Exception]()
        async with AsyncStateStore("x", port=hung, retry=SHORT) as store:
            await store.set("k", {"seen": []})
            hung.read, hung.write = anyio.Event(), anyio.Event()

            async def call(name: str) -> None:
                try:
                    await store.update("k", adds(name))
                except (OutcomeUnknownError, StoreUnavailableError) as error:
                    errors[name] = error

            async with anyio.create_task_group() as callers:
                for name in ("first", "second"):
                    callers.start_soon(call, name)
                    await anyio.wait_all_tasks_blocked()
                hung.read.set()
                await anyio.wait_all_tasks_blocked()
                callers.start_soon(call, "behind")
            kinds = {name: type(error) for name, error in errors.items()}
            unknown, unwritten = OutcomeUnknownError, StoreUnavailableError
            assert {"first": unknown, "second": unknown, "behind": unwritten} == kinds
            hung.write.set()
            await checkpoint()
            assert {"seen": ["first", "second"]} == await store.get("k")
            receipt = errors["first"].receipt  # type: ignore[attr-defined]
            assert Outcome.COMMITTED is await store.resolve(receipt)

    anyio.run(main, backend=backend)


# -- interrupts -----------------------------------------------------------------------------------------------------------


def test_an_interrupted_leader_leaves_before_he_is_taken(port: Port, pool: ThreadPoolExecutor) -> None:
    """
    KeyboardInterrupt in the read: his change is not made, and the background serves those behind him.
    """
    read = Gate()

    def cut() -> None:
        read()
        interrupt()

    with StateStore("x", port=port) as store:
        port.before_get = [cut]
        first = pool.submit(store.update, "k", adds("first"))
        assert read.reached.wait(PATIENCE)
        second = join(store, pool, "second", 2)
        read.go.set()
        assert isinstance(first.exception(PATIENCE), KeyboardInterrupt)
        assert {"seen": ["second"]} == second.result(PATIENCE)
        assert {} == store._combiner.queues


def test_a_write_of_an_interrupted_leader_is_seen_through(port: Port, pool: ThreadPoolExecutor) -> None:
    """
    KeyboardInterrupt after the write was sent: the background finds out what became of it, for all it carries.
    """
    read = Gate()
    with StateStore("x", port=port) as store:
        port.before_get, port.after_put = [read], [interrupt]
        first = pool.submit(store.update, "k", adds("first"))
        assert read.reached.wait(PATIENCE)
        second = join(store, pool, "second", 2)
        read.go.set()
        assert isinstance(first.exception(PATIENCE), KeyboardInterrupt)
        assert {"seen": ["first", "second"]} == second.result(PATIENCE) == store.get("k")


def test_an_interrupted_leader_leaves_a_receipt_in_the_log(port: Port, pool: ThreadPoolExecutor) -> None:
    """
    KeyboardInterrupt in a write whose fate stays open for longer than the interrupt waits.
    """
    hung = Gate()
    with StateStore("x", port=port) as store, capture() as events:

        def cut() -> None:
            port.before_get = [hung]  # the look for what became of the write
            interrupt()

        port.after_put = [cut]
        assert isinstance(
            pool.submit(store.update, "k", adds("first")).exception(PATIENCE), KeyboardInterrupt
        )
        (event,) = [event for event in events if event.name == "occ.outcome_unknown"]
        hung.go.set()
        assert Outcome.COMMITTED is store.resolve(event.fields["receipt"])


@BACKENDS
def test_an_interrupt_inside_a_task_that_leads_ends_its_call_alone(backend: str) -> None:
    """
    Ctrl-C in a change of a task that leads its key: the key is free again, and the next calls share it as ever.
    """

    async def main() -> None:
        hung = Hung(MemoryStore())
        async with AsyncStateStore("x", port=hung, retry=SHORT) as store:
            await store.set("k", {"seen": []})

            async def breaks() -> None:
                with pytest.raises(KeyboardInterrupt):
                    await store.update("k", lambda _value: interrupt())

            await breaks()
            assert {} == store._combiner.queues
            hung.read = anyio.Event()
            async with anyio.create_task_group() as callers:
                callers.start_soon(store.update, "k", adds("first"))
                await anyio.wait_all_tasks_blocked()
                callers.start_soon(store.update, "k", adds("joins"))
                await anyio.wait_all_tasks_blocked()
                hung.read.set()
            assert {"seen": ["first", "joins"]} == await store.get("k")
            assert {} == store._combiner.queues

    anyio.run(main, backend=backend)


@BACKENDS
def test_a_task_that_leads_alone_leaves_nothing_when_it_is_cancelled(backend: str) -> None:
    """
    Cancelled while it reads, it writes nothing; cancelled while it writes, a task of the store finds out what became of it.
    """

    async def main() -> None:
        hung = Hung(MemoryStore())
        async with AsyncStateStore("x", port=hung, retry=SHORT) as store:
            await store.set("k", {"seen": []})
            names = set(store._live().writers.settled)
            for held, after in (("read", []), ("write", ["me"])):
                gate = anyio.Event()
                setattr(hung, held, gate)
                async with anyio.create_task_group() as callers:
                    callers.start_soon(store.update, "k", adds("me"))
                    await anyio.wait_all_tasks_blocked()
                    callers.cancel_scope.cancel()
                    gate.set()
                await store._combiner.drain()
                setattr(hung, held, None)
                assert {} == store._combiner.queues
                assert {"seen": after} == await store.get("k")
            assert names == set(store._live().writers.settled)  # no identity was lost

    anyio.run(main, backend=backend)


def test_a_task_whose_read_is_in_a_thread_leaves_nothing_when_it_is_cancelled() -> None:
    """
    Under trio the thread is waited for; what it has read is no ground to write on any more.
    """

    async def main() -> None:
        memory, reads, goes = Port(), threading.Event(), threading.Event()
        async with AsyncStateStore("x", port=ThreadPort(memory), retry=SHORT) as store:
            await store.set("k", {"seen": []})
            writes = memory.calls["put"]
            memory.before_get = [lambda: reads.set() or goes.wait(PATIENCE)]
            async with anyio.create_task_group() as callers:
                callers.start_soon(store.update, "k", adds("me"))
                assert await anyio.to_thread.run_sync(reads.wait, PATIENCE)
                callers.cancel_scope.cancel()
                goes.set()
            assert {} == store._combiner.queues
            assert (writes, {"seen": []}) == (memory.calls["put"], await store.get("k"))

    anyio.run(main, backend="trio")

"""
A state store in both colours, side by side over one core.
"""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, suppress
from types import TracebackType
from typing import Any, Self, TypeVar

import anyio
import anyio.abc
import sniffio

from toolkit._background import Background
from toolkit._calls import Calls
from toolkit._checks import check_etag
from toolkit._drive import AsyncWorld, World, drive, drive_async, marked, now
from toolkit._gate import AsyncKeyTurns, Gate, KeyTurns
from toolkit._queue import CANCEL_GRACE, Ticket
from toolkit.combine import AsyncCombiner, Combiner
from toolkit.core.jobs import NO_DEFAULT
from toolkit.core.model import CLEAR, DELETE, KEEP, TTL, Absent, Access, Entry, ETag, Outcome
from toolkit.core.policy import RetryPolicy
from toolkit.core.reading import read_entries, read_entry, value_of
from toolkit.core.steps import Steps
from toolkit.core.transaction import Isolation, TxRun
from toolkit.errors import StateError
from toolkit.log import emit
from toolkit.ports import AsyncStatePort, StatePort
from toolkit.transaction import Settings, check_isolation, transact_async, transact_sync
from toolkit.typed import AsyncTypedStateStore, TypedStateStore

T = TypeVar("T")

R = TypeVar("R")


class StateStore(Calls):
    """
    A Dapr state store on which no update is lost.

    Every writing call is a read-modify-write by ETag: it reads, decides, writes on the condition that nothing changed,
    and starts over with fresh data when something did. A write whose answer is lost is found out by its id in the
    stored value, never guessed. Calls of one process on one key share reads and writes. Thread-safe.

    Args:
        name: The Dapr state store component.
        dapr: A ``Dapr`` whose address, token, waiting time and access hold unless given here; the connection is its own.
        address: The sidecar; else from ``DAPR_GRPC_ENDPOINT`` or ``DAPR_RUNTIME_HOST`` and ``DAPR_GRPC_PORT``.
        api_token: A text, a path or a callable; else ``DAPR_API_TOKEN``.
        startup_timeout: Seconds to wait for a sidecar that comes late.
        access: What this handle may do, or a mapping from key prefix to that (the longest prefix wins).
        retry: How long to try and how to wait.
        envelope: Wrap lists and scalars as ``{"value": …}`` so that they carry operation ids and expiries too.
        op_window: Seconds for which a repeat of an ``op_id`` is recognised on a key.
        op_ttl: The same for ``transact``.
        profile: A profile by name or file instead of the one that belongs to the component's type.
        last_write: Open a store without ETags for get, set and delete, unprotected.
        port: Another port than the sidecar, such as ``MemoryStore(profile="redis")``.
    """

    _world: World
    _combiner: Combiner
    _background: Background
    _port: StatePort

    def __enter__(self) -> Self:
        if self._site is not None:
            raise RuntimeError(f"{self!r} is already open")
        port: StatePort = self._port_choice if self._port_choice is not None else self._dial()
        component = port.connect(self.startup_timeout)
        try:
            site = self._opened(component)
        except BaseException:
            port.close()
            raise
        self._port = port
        self._background = Background(f"occ-{self.name}")
        self._world = World(port, emit)
        self._gate, self._gate_lock = Gate(threading.Event), threading.Lock()
        self._combiner = Combiner(site, self._world, self._background.submit)
        self._site = site
        self._warn_last_write()
        return self

    def _dial(self) -> StatePort:
        from toolkit.dapr.address import Token, address_of
        from toolkit.dapr.port import GrpcPort

        return GrpcPort(self.name, address_of(self._address), Token(self._api_token))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.close()

    def close(self, timeout: float | None = 10.0) -> None:
        """
        Refuse new calls, let those under way finish for so many seconds, and hang up.
        """
        if self._site is None:
            return
        self._site = None
        end = time.monotonic() + timeout if timeout is not None else None
        self._combiner.drain(timeout)
        self._background.drain(None if end is None else max(end - time.monotonic(), 0.0))
        self._port.close()

    # -- reading ---------------------------------------------------------------------------------------------------

    def get(self, key: str, default: Any = None, *, eventual: bool = False) -> Any:
        """
        The value, or ``default`` when there is none.

        A strong read by default: it sees every write that was acknowledged before it. ``eventual=True`` allows a stale
        one where the store has such reads.

        Raises:
            StoreUnavailableError: No answer within the deadline.
            CorruptValueError: What is stored is not JSON.
        """
        site = self._reading(key, "get")
        return drive(value_of(site, key, self._deadline(), default, strong=not eventual), self._world)

    def read(self, key: str) -> Entry:
        """
        The value with its version, for ``compare_and_set`` and ``delete``.
        """
        site = self._reading(key, "read")
        return drive(read_entry(site, key, self._deadline()), self._world)

    def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """
        The values of those keys that exist; read in parallel, not at one moment (``snapshot`` does that).
        """
        wanted = tuple(dict.fromkeys(keys))
        site = self._live()
        for key in wanted:
            self._reading(key, "get_many")
        entries = drive(read_entries(site, wanted, self._deadline()), self._world)
        return {entry.key: entry.value for entry in entries if entry.exists}

    def typed(self, type: type[T]) -> TypedStateStore[T]:
        """
        The same methods for a dataclass, a msgspec.Struct or a pydantic model.

        Members of a stored object that the class does not declare are carried over when it is written back.

        Raises:
            TypeError: The class is none of these.
        """
        return TypedStateStore(self, type)

    # -- writing ---------------------------------------------------------------------------------------------------

    def update(
        self,
        key: str,
        change: Callable[[Any], Any],
        *,
        default: Any = NO_DEFAULT,
        ttl: TTL = KEEP,
        op_id: str | None = None,
    ) -> Any:
        """
        Replace the value by ``change(value)`` and return what it is then; ``change`` may be called more than once.

        Nothing is lost when others write too: on a conflict ``change`` runs again on what they wrote. It gets a copy,
        may mutate and return it, or return ``UNCHANGED`` or ``DELETE``; an exception from it reaches this caller alone
        and writes nothing. It may run in the thread of another caller of the same key.

        Args:
            key: The key.
            change: A pure function without I/O.
            default: What ``change`` gets when the key is missing, copied for every run.
            ttl: Seconds until the value expires, ``KEEP`` or ``CLEAR``.
            op_id: Names the intended effect. A repeat within ``op_window`` changes nothing and returns the value stored
                now, whichever process makes it.

        Raises:
            NotFoundError: The key is missing and there is no default.
            AttemptsExhaustedError: Every attempt lost; nothing was written.
            OutcomeUnknownError: The write may or may not have taken effect; carries a receipt.
            OperationIdReusedError: ``op_id`` belongs to another operation.
            StoreUnavailableError: No answer within the deadline; nothing was written.
        """
        return self._submit(self._update_job(key, change, default, ttl, op_id))

    def create(self, key: str, value: Any, *, ttl: TTL = CLEAR, op_id: str | None = None) -> None:
        """
        Write a value where there is none; of several creators exactly one succeeds.

        Raises:
            AlreadyExistsError: The key is present; nothing was written.
        """
        self._submit(self._value_job("create", key, value, ttl, op_id))

    def set(self, key: str, value: Any, *, ttl: TTL = CLEAR, op_id: str | None = None) -> None:
        """
        Overwrite whatever is there, without undoing what a transaction under way has decided.
        """
        if self.last_write:
            return self._blindly(key, value, "set", Access.WRITE, ttl, op_id)
        self._submit(self._value_job("set", key, value, ttl, op_id))
        return None

    def compare_and_set(
        self, key: str, value: Any, etag: ETag | Absent, *, ttl: TTL = CLEAR, op_id: str | None = None
    ) -> None:
        """
        Write only if the value is still the version ``etag`` names; ``ABSENT`` creates.

        Raises:
            ConflictError: The value has changed since; nothing was written.
            TypeError: ``etag`` is None or text, which could not protect anything.
        """
        expected = check_etag(etag, "compare_and_set")
        self._submit(self._value_job("compare_and_set", key, value, ttl, op_id, expected))

    def delete(self, key: str, *, etag: Any = NO_DEFAULT, op_id: str | None = None) -> None:
        """
        Remove the value, which must be the version ``etag`` names when one is given.

        A tombstone stays for an hour at least, so that no late copy of an old write can bring the value back. Deleting
        a missing key is fine.

        Raises:
            ConflictError: The value is another version.
        """
        if self.last_write and etag is NO_DEFAULT:
            return self._blindly(key, DELETE, "delete", Access.REMOVE, CLEAR, op_id)
        expected = None if etag is NO_DEFAULT else check_etag(etag, "delete")
        self._submit(self._delete_job(key, expected, op_id))
        return None

    def _submit(self, job: Ticket) -> Any:
        # The job is made first: it refuses a store that is not open.
        return self._combiner.submit(job)

    def _blindly(self, key: str, value: Any, call: str, right: Access, ttl: TTL, op_id: str | None) -> None:
        write = self._blind(key, value, call, right, ttl, op_id)
        reply = self._port.put(write, timeout=self.retry.deadline)
        self._blind_answer(key, reply)

    # -- asking later ----------------------------------------------------------------------------------------------

    def resolve(self, receipt: str) -> Outcome:
        """
        What became of the write a receipt names; from any process.

        Where the write may still arrive it is fenced off first, so that the answer stays true.

        Raises:
            ValueError: The text is not a receipt.
        """
        return drive(self._resolving(receipt), self._world)

    def outcome(self, op_id: str, *, key: str | None = None) -> Outcome:
        """
        Whether the operation of this id has taken effect, as far as the store still knows.

        Args:
            op_id: The id.
            key: The key of a single-key operation; ``None`` for a transaction.
        """
        return drive(self._outcome(op_id, key), self._world)

    # -- several keys ----------------------------------------------------------------------------------------------

    def transact(
        self,
        fn: Callable[..., R],
        /,
        *args: Any,
        op_id: str | None = None,
        isolation: Isolation | None = None,
        retry: RetryPolicy | None = None,
        record_errors: tuple[type[BaseException], ...] = (),
        **kwargs: Any,
    ) -> R:
        """
        Run ``fn(tx, *args, **kwargs)`` as one serializable transaction and return what it returned.

        All its writes take effect or none, and only if no key it read or wrote has changed meanwhile; else ``fn`` runs
        again, as a whole, on fresh data. It must have no effect but on ``tx``.

        Args:
            fn: The body, plain or decorated with ``@transactional``.
            op_id: Names the intended effect; a repeat within ``op_ttl`` returns the first result without running ``fn``.
            isolation: ``"serializable"``, or ``"read_committed"``: keys that are only read may change meanwhile.
            retry: Instead of the store's policy.
            record_errors: Exceptions that are an outcome: they are recorded under ``op_id`` and come as
                ``RecordedError``, now and on every repeat.

        Raises:
            AttemptsExhaustedError: Every attempt lost; nothing was written.
            OutcomeUnknownError: The commit may or may not have taken effect; carries a receipt.
            OperationVoidedError: ``op_id`` was closed by ``void``.
            TransactionsUnsupportedError: This store has no safe way to do it.
        """
        said = Settings(op_id, check_isolation(isolation), retry, record_errors)
        self._live()
        result: R = transact_sync(self, self._world, fn, said, args, kwargs)
        return result

    def snapshot(self, keys: Iterable[str]) -> Mapping[str, Any]:
        """
        The values of those keys that exist, as they stood together at one moment; an immutable mapping.

        Raises:
            SnapshotUnstableError: They kept changing until the deadline.
        """
        return drive(self._snapshotting(keys), self._world)

    def void(self, op_id: str) -> Outcome:
        """
        Make sure that a transaction of this id never commits from now on; ``COMMITTED`` when it already has.
        """
        return drive(self._voiding(op_id), self._world)

    def key_turns(self) -> KeyTurns:
        """
        A place in line before the keys of a transaction.
        """
        return KeyTurns(self._gate, self._gate_lock)

    def finish_later(self, run: TxRun) -> None:
        """
        Finish what a transaction left to do, in the background; if that never happens others do it when they come by.
        """
        for steps in run.later:
            self._background.submit(lambda steps=steps: self._finish(steps))  # type: ignore[misc]

    def _finish(self, steps: Callable[[float], Steps[Any]]) -> None:
        with suppress(StateError):  # the store went away: whoever touches the keys next finishes them
            drive(marked(steps(time.monotonic()), "finish"), self._world)


class AsyncStateStore(Calls):
    """
    ``StateStore`` for asyncio and trio; the same names, awaited.

    Writes are led by a task of ``async with``: cancelling a caller never cuts one. A call cancelled while its write is
    under way waits up to a second for the verdict; if that is still out, ``occ.outcome_unknown`` is logged with the
    receipt and the cancellation goes on.
    """

    _world: AsyncWorld
    _combiner: AsyncCombiner
    _port: AsyncStatePort
    _group: anyio.abc.TaskGroup

    async def __aenter__(self) -> Self:
        if self._site is not None:
            raise RuntimeError(f"{self!r} is already open")
        port = self._async_port()
        component = await port.connect(self.startup_timeout)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(port.close)
            site = self._opened(component)
            self._group = await stack.enter_async_context(anyio.create_task_group())
            self._port, self._world = port, AsyncWorld(port, emit)
            self._gate = Gate(_event_maker())
            self._combiner = AsyncCombiner(site, self._world, self._group, _signal_maker())
            self._loop, self._site = _loop_token(), site
            self._stack = stack.pop_all()
        self._warn_last_write()
        return self

    def _async_port(self) -> AsyncStatePort:
        choice = self._port_choice
        if choice is not None:
            to_async = getattr(choice, "to_async", None)
            port: AsyncStatePort = to_async() if to_async is not None else choice
            return port
        from toolkit.dapr.address import Token, address_of
        from toolkit.dapr.port import AioPort, GrpcPort, ThreadPort

        address, token = address_of(self._address), Token(self._api_token)
        if sniffio.current_async_library() == "asyncio":
            return AioPort(self.name, address, token)
        return ThreadPort(GrpcPort(self.name, address, token))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> bool | None:
        self._site = None
        self._combiner.stop()
        # Without the error: a task group would wrap it.
        return await self._stack.__aexit__(None, None, None)

    def _live(self) -> Any:
        site = super()._live()
        if _loop_token() is not self._loop:
            raise RuntimeError(
                f"store {self.name!r} belongs to another event loop: open one store for each loop"
            )
        return site

    async def get(self, key: str, default: Any = None, *, eventual: bool = False) -> Any:
        """
        See ``StateStore.get``.
        """
        site = self._reading(key, "get")
        return await drive_async(
            value_of(site, key, self._deadline(), default, strong=not eventual), self._world
        )

    async def read(self, key: str) -> Entry:
        """
        See ``StateStore.read``.
        """
        site = self._reading(key, "read")
        return await drive_async(read_entry(site, key, self._deadline()), self._world)

    async def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """
        See ``StateStore.get_many``.
        """
        wanted = tuple(dict.fromkeys(keys))
        site = self._live()
        for key in wanted:
            self._reading(key, "get_many")
        entries = await drive_async(read_entries(site, wanted, self._deadline()), self._world)
        return {entry.key: entry.value for entry in entries if entry.exists}

    def typed(self, type: type[T]) -> AsyncTypedStateStore[T]:
        """
        See ``StateStore.typed``.
        """
        return AsyncTypedStateStore(self, type)

    async def update(
        self,
        key: str,
        change: Callable[[Any], Any],
        *,
        default: Any = NO_DEFAULT,
        ttl: TTL = KEEP,
        op_id: str | None = None,
    ) -> Any:
        """
        See ``StateStore.update``; ``change`` is a plain function in this colour too.
        """
        ticket = self._update_job(key, change, default, ttl, op_id)
        return await self._combiner.submit(ticket)

    async def create(self, key: str, value: Any, *, ttl: TTL = CLEAR, op_id: str | None = None) -> None:
        """
        See ``StateStore.create``.
        """
        ticket = self._value_job("create", key, value, ttl, op_id)
        await self._combiner.submit(ticket)

    async def set(self, key: str, value: Any, *, ttl: TTL = CLEAR, op_id: str | None = None) -> None:
        """
        See ``StateStore.set``.
        """
        if self.last_write:
            await self._blindly(key, value, "set", Access.WRITE, ttl, op_id)
            return
        ticket = self._value_job("set", key, value, ttl, op_id)
        await self._combiner.submit(ticket)

    async def compare_and_set(
        self, key: str, value: Any, etag: ETag | Absent, *, ttl: TTL = CLEAR, op_id: str | None = None
    ) -> None:
        """
        See ``StateStore.compare_and_set``.
        """
        expected = check_etag(etag, "compare_and_set")
        ticket = self._value_job("compare_and_set", key, value, ttl, op_id, expected)
        await self._combiner.submit(ticket)

    async def delete(self, key: str, *, etag: Any = NO_DEFAULT, op_id: str | None = None) -> None:
        """
        See ``StateStore.delete``.
        """
        if self.last_write and etag is NO_DEFAULT:
            await self._blindly(key, DELETE, "delete", Access.REMOVE, CLEAR, op_id)
            return
        expected = None if etag is NO_DEFAULT else check_etag(etag, "delete")
        ticket = self._delete_job(key, expected, op_id)
        await self._combiner.submit(ticket)

    async def _blindly(
        self, key: str, value: Any, call: str, right: Access, ttl: TTL, op_id: str | None
    ) -> None:
        write = self._blind(key, value, call, right, ttl, op_id)
        reply = await self._port.put(write, timeout=self.retry.deadline)
        self._blind_answer(key, reply)

    async def resolve(self, receipt: str) -> Outcome:
        """
        See ``StateStore.resolve``.
        """
        return await drive_async(self._resolving(receipt), self._world)

    async def outcome(self, op_id: str, *, key: str | None = None) -> Outcome:
        """
        See ``StateStore.outcome``.
        """
        return await drive_async(self._outcome(op_id, key), self._world)

    async def transact(
        self,
        fn: Callable[..., Awaitable[R]],
        /,
        *args: Any,
        op_id: str | None = None,
        isolation: Isolation | None = None,
        retry: RetryPolicy | None = None,
        record_errors: tuple[type[BaseException], ...] = (),
        **kwargs: Any,
    ) -> R:
        """
        See ``StateStore.transact``; the body is ``async def``.
        """
        said = Settings(op_id, check_isolation(isolation), retry, record_errors)
        self._live()
        result: R = await transact_async(self, self._world, fn, said, args, kwargs)
        return result

    async def snapshot(self, keys: Iterable[str]) -> Mapping[str, Any]:
        """
        See ``StateStore.snapshot``.
        """
        return await drive_async(self._snapshotting(keys), self._world)

    async def void(self, op_id: str) -> Outcome:
        """
        See ``StateStore.void``.
        """
        return await drive_async(self._voiding(op_id), self._world)

    def key_turns(self) -> AsyncKeyTurns:
        """
        See ``StateStore.key_turns``.
        """
        return AsyncKeyTurns(self._gate)

    def finish_later(self, run: TxRun) -> None:
        """
        See ``StateStore.finish_later``.
        """
        for steps in run.later:
            self._group.start_soon(self._finish, steps)

    async def _finish(self, steps: Callable[[float], Steps[Any]]) -> None:
        # If the store went away: whoever touches the keys next finishes them.
        with anyio.CancelScope(shield=True), suppress(StateError):
            await drive_async(marked(steps(time.monotonic()), "finish"), self._world)

    async def commit_shielded(self, run: TxRun, result: Any, error: BaseException | None) -> Any:
        """
        End an attempt in a task of the store, so that cancelling the caller cannot cut a commit.
        """
        flight = Flight()
        self._group.start_soon(self._commit, run, result, error, flight)
        try:
            await flight.done.wait()
        except BaseException:
            with anyio.move_on_after(CANCEL_GRACE, shield=True):
                await flight.done.wait()
            event = None if flight.done.is_set() else run.told_unknown(now())
            if event is not None:
                emit(event)
            raise
        if flight.error is not None:
            raise flight.error
        return flight.result

    async def _commit(self, run: TxRun, result: Any, error: BaseException | None, flight: Flight) -> None:
        with anyio.CancelScope(shield=True):
            try:
                flight.result = await drive_async(marked(run.end(result, error), "commit"), self._world)
            except Exception as failure:  # noqa: BLE001  handed to the caller
                flight.error = failure
            finally:
                flight.done.set()


class Flight:
    """
    A commit under way in another task.
    """

    def __init__(self) -> None:
        self.done = anyio.Event()
        self.result: Any = None
        self.error: Exception | None = None


def _event_maker() -> Callable[[], Any]:
    """
    The running library's own event: one is made for every waiting call, and anyio asks which library it is each time.
    """
    if sniffio.current_async_library() == "asyncio":
        return asyncio.Event
    return anyio.Event


def _signal_maker() -> Callable[[], Any]:
    """
    What a call of one key waits on: it has one waiter, so on asyncio a future does.
    """
    if sniffio.current_async_library() == "asyncio":
        return functools.partial(Signal, asyncio.get_running_loop())
    import trio

    return trio.Event


class Signal:
    """
    An event for a single task of one asyncio loop.
    """

    __slots__ = ("_future", "_is_set", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop, self._is_set = loop, False
        self._future: asyncio.Future[None] = loop.create_future()

    def set(self) -> None:
        self._is_set = True
        if not self._future.done():
            self._future.set_result(None)

    def wait(self) -> Awaitable[None]:
        """
        What to await; again after a cancellation, too.
        """
        if self._future.cancelled():
            self._future = self._loop.create_future()
            if self._is_set:
                self._future.set_result(None)
        return self._future


def _loop_token() -> object:
    """
    What identifies the running event loop.
    """
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        import trio

        return trio.lowlevel.current_trio_token()

"""
The async colour of a state store, over the same core as ``toolkit.store``.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, suppress
from types import TracebackType
from typing import Any, Self, TypeVar

import anyio
import anyio.abc
import sniffio

from toolkit._async_turns import AsyncKeyTurns, lead_async
from toolkit._batch import Batch
from toolkit._calls import Calls
from toolkit._checks import check_etag
from toolkit._coalesce import coalesced_async
from toolkit._committer import Committer
from toolkit._drive import AsyncWorld, drive_async, marked
from toolkit._loops import event_maker, loop_token, signal_maker
from toolkit._merge import Line
from toolkit._transact import transact_async
from toolkit._underway import AsyncUnderWay
from toolkit.combine import AsyncCombiner
from toolkit.core.jobs import NO_DEFAULT
from toolkit.core.merge import MergedRun
from toolkit.core.model import CLEAR, DELETE, KEEP, TTL, Absent, Access, Entry, ETag, Outcome
from toolkit.core.policy import RetryPolicy
from toolkit.core.site import Site
from toolkit.core.steps import Steps
from toolkit.core.transaction import Isolation, TxRun
from toolkit.errors import StateError
from toolkit.log import emit
from toolkit.ports import AsyncStatePort
from toolkit.transaction import settings_of
from toolkit.typed import AsyncTypedStateStore

T = TypeVar("T")

R = TypeVar("R")


class AsyncStateStore(Calls):
    """
    ``StateStore`` for asyncio and trio; the same names, awaited.

    Writes are led by a task of ``async with``: cancelling a caller never cuts one. A call cancelled while its write is
    under way waits up to a second for the verdict; if that is still out, ``occ.outcome_unknown`` is logged with the
    receipt and the cancellation goes on.
    """

    _WITH = "async with AsyncStateStore(...)"
    _world: AsyncWorld
    _combiner: AsyncCombiner
    _port: AsyncStatePort
    _group: anyio.abc.TaskGroup

    async def __aenter__(self) -> Self:
        if self.is_open:
            raise RuntimeError(f"{self!r} is already open")
        port = self._async_port()
        component = await port.connect(self.startup_timeout)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(port.close)
            site = self._opened(component)
            if site.profile.finish_reads and (finish := getattr(port, "finish_reads", None)) is not None:
                finish()
            self._group = await stack.enter_async_context(anyio.create_task_group())
            self._port, self._under_way = port, AsyncUnderWay()
            self._world = AsyncWorld(coalesced_async(port, site.profile, event_maker()), emit)
            self._line = Line(site, event_maker(), self._lead)
            self._committer = Committer(self._world, self._group, signal_maker())
            self._combiner = AsyncCombiner(site, self._world, self._group, signal_maker())
            site.left_behind = self._mend
            self._loop, self._site = loop_token(), site
            self._stack = stack.pop_all()
        self._warn_last_write()
        return self

    def _async_port(self) -> AsyncStatePort:
        choice = self._port_choice
        if choice is not None:
            to_async = getattr(choice, "to_async", None)
            port: AsyncStatePort = to_async() if to_async is not None else choice
            return port
        from toolkit.dapr.address import address_of
        from toolkit.dapr.port import AioPort, GrpcPort, ThreadPort

        address, token = address_of(self._address), self._api_token
        if sniffio.current_async_library() == "asyncio":
            return AioPort(self.name, address, token)
        return ThreadPort(GrpcPort(self.name, address, token))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        try:
            await self._leave(10.0)
        finally:
            # Without the error: a task group would wrap it.
            await self._stack.__aexit__(None, None, None)

    async def close(self, timeout: float | None = 10.0) -> None:
        """
        Refuse new calls and let those under way finish for so many seconds; the end of ``async with`` hangs up.
        """
        await self._leave(timeout)

    async def _leave(self, timeout: float | None) -> None:
        if self._site is None:
            return
        self._leaving, self._site = self._site, None
        try:
            with anyio.move_on_after(timeout):
                await self._under_way.drain()
                await self._combiner.drain()
        finally:
            self._leaving = None
            self._combiner.stop()
            self._committer.stop()

    def _live(self) -> Site:
        site = super()._live()
        if loop_token() is not self._loop:
            raise RuntimeError(
                f"store {self.name!r} belongs to another event loop: open one store for each loop"
            )
        return site

    async def _ask(self, steps: Steps[R]) -> R:
        self._live()
        with self._under_way:
            return await drive_async(steps, self._world)

    async def get(self, key: str, default: Any = None, *, eventual: bool = False) -> Any:
        """
        See ``StateStore.get``.
        """
        return await self._ask(self._getting(key, default, strong=not eventual))

    async def read(self, key: str) -> Entry:
        """
        See ``StateStore.read``.
        """
        return await self._ask(self._entering(key))

    async def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """
        See ``StateStore.get_many``.
        """
        return await self._ask(self._getting_many(keys))

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
        self._blind_answer(write, reply)

    async def resolve(self, receipt: str) -> Outcome:
        """
        See ``StateStore.resolve``.
        """
        return await self._ask(self._resolving(receipt))

    async def outcome(self, op_id: str, *, key: str | None = None) -> Outcome:
        """
        See ``StateStore.outcome``.
        """
        return await self._ask(self._outcome(op_id, key))

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
        said = settings_of(op_id, isolation, retry, record_errors)
        self._live()
        with self._under_way:
            result: R = await transact_async(self, self._world, fn, said, args, kwargs)
        return result

    async def snapshot(self, keys: Iterable[str]) -> Mapping[str, Any]:
        """
        See ``StateStore.snapshot``.
        """
        return await self._ask(self._snapshotting(keys))

    async def void(self, op_id: str) -> Outcome:
        """
        See ``StateStore.void``.
        """
        return await self._ask(self._voiding(op_id))

    def key_turns(self, run: TxRun) -> AsyncKeyTurns:
        """
        See ``StateStore.key_turns``.
        """
        return AsyncKeyTurns(self, self._line, run, self._world)

    def _lead(self, batch: Batch) -> None:
        self._group.start_soon(lead_async, batch, self._line, self._world, self.finish_later)

    def finish_later(self, run: TxRun | MergedRun) -> None:
        """
        See ``StateStore.finish_later``.
        """
        for steps in run.later:
            self._group.start_soon(self._finish, steps)

    def _mend(self, key: str, tx: str, record: str) -> None:
        steps = self._mending(key, tx, record)
        if steps is not None:
            self._group.start_soon(self._finish, steps)

    async def _finish(self, steps: Callable[[float], Steps[Any]]) -> None:
        # If the store went away: whoever touches the keys next finishes them.
        with anyio.CancelScope(shield=True), suppress(StateError):
            await drive_async(marked(steps(time.monotonic()), "finish"), self._world)

    async def commit_shielded(self, run: TxRun, result: Any, error: BaseException | None) -> Any:
        """
        End an attempt in a task of the store, so that cancelling the caller cannot cut a commit.
        """
        return await self._committer.end(run, result, error)

"""
Transactions as users write them: the ``tx`` a body gets, in both colours, and the decorator.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Collection, Iterable
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any, Final, Generic, ParamSpec, TypeVar, overload

import msgspec

from toolkit._async_turns import AsyncKeyTurns, Watched
from toolkit._base import in_body
from toolkit._calls import Calls
from toolkit._checks import check_op_id, check_ttl, name_of
from toolkit._drive import AsyncWorld, World, drive, drive_async, marked
from toolkit._points import point
from toolkit._turns import KeyTurns
from toolkit.core.body import NOTHING
from toolkit.core.model import ABSENT, CLEAR, TTL, Access
from toolkit.core.policy import RetryPolicy
from toolkit.core.transaction import Finished, Isolation, Options, TxRun

if TYPE_CHECKING:
    from toolkit.async_store import AsyncStateStore
    from toolkit.store import StateStore

P = ParamSpec("P")
R = TypeVar("R")

ISOLATIONS: Final = ("serializable", "read_committed")
RESERVED: Final = ("op_id", "isolation", "retry", "record_errors")
_log = logging.getLogger("toolkit")


class BaseTransaction:
    """
    What only buffers, the same in both colours.

    Attributes:
        op: The operation id, to pass on to whatever the effect calls; ``None`` without one.
    """

    def __init__(self, store: Calls, run: TxRun) -> None:
        self._store, self._run, self._over = store, run, False
        self.op = run.options.op_id

    def put(self, key: str, value: Any, *, ttl: TTL = CLEAR) -> None:
        """
        Write a value when the transaction commits; nothing is sent before.
        """
        check_ttl(ttl)
        self._check(key, Access.WRITE, "tx.put")
        self._run.put(key, self._store.stored_form(key, value), ttl)

    def create(self, key: str, value: Any, *, ttl: TTL = CLEAR) -> None:
        """
        Like ``put``, but the transaction fails with ``AlreadyExistsError`` when the key is present at the commit.
        """
        check_ttl(ttl)
        self._check(key, Access.WRITE, "tx.create")
        self._run.put(key, self._store.stored_form(key, value), ttl, create=True)

    def delete(self, key: str) -> None:
        """
        Remove the value when the transaction commits.
        """
        self._check(key, Access.REMOVE, "tx.delete")
        self._run.delete(key)

    def guard(self, key: str) -> None:
        """
        Let the commit depend on this key as if it were written, without reading it.
        """
        self._check(key, Access.WRITE, "tx.guard")
        self._run.buffer.guards.add(key)

    def on_commit(self, fn: Callable[[], Any]) -> None:
        """
        Call ``fn`` once after the commit: best effort, lost when the process dies in between.
        """
        self._alive()
        self._run.buffer.after.append(fn)

    def _alive(self) -> None:
        if self._over:
            raise RuntimeError(
                "this transaction is over: tx may only be used inside the body it was given to"
            )

    def _check(self, key: str, right: Access, call: str) -> None:
        self._alive()
        self._store.check_in_transaction(key, right, call)

    def _guards_allowed(self) -> None:
        """
        A writing body guards every key it read, which is a write to it.
        """
        run = self._run
        if run.options.isolation == "serializable" and (run.buffer.writes or run.buffer.guards):
            for key in run.buffer.reads:
                self._store.check_in_transaction(
                    key, Access.WRITE, "guarding a key that was read (tx.peek does not)"
                )


class Transaction(BaseTransaction):
    """
    What a body of ``StateStore.transact`` works with; reads are copies, own writes are seen, nothing is sent before the
    body returns.
    """

    def __init__(self, store: StateStore, run: TxRun, world: World, turns: KeyTurns) -> None:
        super().__init__(store, run)
        self._world, self._turns = world, turns

    def get(self, key: str, default: Any = None) -> Any:
        """
        The value, or ``default``; the commit then depends on this key being unchanged.
        """
        self._check(key, Access.READ, "tx.get")
        self._turns.touch((key,))
        value = self._value(key)
        return default if value is ABSENT else self._store.user_form(key, value)

    def _value(self, key: str) -> Any:
        value = self._run.at_hand(key)
        return drive(self._run.value(key), self._world) if value is NOTHING else value

    def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """
        The values of those keys that exist, read in parallel; all are guarded.
        """
        wanted = tuple(dict.fromkeys(keys))
        for key in wanted:
            self._check(key, Access.READ, "tx.get_many")
        self._turns.touch(wanted)
        drive(self._run.prefetch(wanted), self._world)
        found = {key: self._value(key) for key in wanted}
        return {key: self._store.user_form(key, value) for key, value in found.items() if value is not ABSENT}

    def peek(self, key: str, default: Any = None) -> Any:
        """
        The value without a guard, for settings and price lists: the commit does not depend on it.
        """
        self._check(key, Access.READ, "tx.peek")
        value = drive(self._run.peek(key), self._world)
        return default if value is ABSENT else self._store.user_form(key, value)


class AsyncTransaction(BaseTransaction):
    """
    ``Transaction`` for bodies that are ``async def``; what reads is awaited, what buffers is not.
    """

    def __init__(self, store: AsyncStateStore, run: TxRun, world: AsyncWorld, turns: AsyncKeyTurns) -> None:
        super().__init__(store, run)
        self._world, self._turns = world, turns

    async def get(self, key: str, default: Any = None) -> Any:
        """
        See ``Transaction.get``.
        """
        self._check(key, Access.READ, "tx.get")
        with self._turns:
            await self._turns.touch((key,))
            value = await self._value(key)
        return default if value is ABSENT else self._store.user_form(key, value)

    async def _value(self, key: str) -> Any:
        value = self._run.at_hand(key)
        return await drive_async(self._run.value(key), self._world) if value is NOTHING else value

    async def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """
        See ``Transaction.get_many``.
        """
        wanted = tuple(dict.fromkeys(keys))
        for key in wanted:
            self._check(key, Access.READ, "tx.get_many")
        with self._turns:
            await self._turns.touch(wanted)
            await drive_async(self._run.prefetch(wanted), self._world)
            found = {key: await self._value(key) for key in wanted}
        return {key: self._store.user_form(key, value) for key, value in found.items() if value is not ABSENT}

    async def peek(self, key: str, default: Any = None) -> Any:
        """
        See ``Transaction.peek``.
        """
        self._check(key, Access.READ, "tx.peek")
        with self._turns:
            value = await drive_async(self._run.peek(key), self._world)
        return default if value is ABSENT else self._store.user_form(key, value)


class Settings(msgspec.Struct, frozen=True):
    """
    What a call or a decoration says about how to run a body; ``None`` for unsaid.
    """

    op_id: str | None = None
    isolation: Isolation | None = None
    retry: RetryPolicy | None = None
    record_errors: tuple[type[BaseException], ...] = ()
    name: str | None = None

    def over(self, other: Settings) -> Settings:
        """
        These settings, and the other's where these are silent.
        """
        return Settings(
            self.op_id if self.op_id is not None else other.op_id,
            self.isolation or other.isolation,
            self.retry or other.retry,
            self.record_errors or other.record_errors,
            self.name or other.name,
        )

    def options(self, store: Calls, fn: Callable[..., Any]) -> Options:
        """
        The options of a run on this store.
        """
        if self.op_id is not None:
            check_op_id(self.op_id)
        if self.record_errors and self.op_id is None:
            raise TypeError("record_errors= needs an op_id: the error is recorded under it")
        policy = self.retry or store.retry
        return Options(
            label=self.name or name_of(fn),
            call_id=store.next_call_id(),
            op_id=self.op_id,
            isolation=self.isolation or "serializable",
            attempts=policy.attempts,
            budget=policy.deadline,
            record_errors=self.record_errors,
        )


class Transactional(Generic[P, R]):
    """
    A body with its settings; what ``@transactional`` makes of a function.

    Called with a store it opens, retries and commits a transaction; called with a ``tx`` it joins that one as a
    savepoint: an exception drops its own writes and goes on.
    """

    def __init__(self, fn: Callable[P, R], settings: Settings) -> None:
        check_body(fn)
        self.fn, self.settings = fn, settings
        functools.update_wrapper(self, fn)

    def options(
        self,
        *,
        op_id: str | None = None,
        isolation: Isolation | None = None,
        retry: RetryPolicy | None = None,
        record_errors: tuple[type[BaseException], ...] = (),
    ) -> Transactional[P, R]:
        """
        The same body with other settings for this call.
        """
        return Transactional(
            self.fn, Settings(op_id, check_isolation(isolation), retry, record_errors).over(self.settings)
        )

    def __call__(self, target: Any, /, *args: Any, **kwargs: Any) -> R:
        if isinstance(target, BaseTransaction):
            joined: R = self._join(target, args, kwargs)
            return joined
        transact = getattr(target, "transact", None)
        if transact is None:
            raise TypeError(f"{name_of(self.fn)}: the first argument must be a store or a tx, not {target!r}")
        result: R = transact(self, *args, **kwargs)
        return result

    def _join(self, tx: BaseTransaction, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        joined, settings = tx._run.options, self.settings  # noqa: SLF001  one package, one concept
        if settings.op_id is not None and settings.op_id != joined.op_id:
            raise TypeError(f"{name_of(self.fn)} joins a transaction and cannot have an op_id of its own")
        if settings.isolation is not None and settings.isolation != joined.isolation:
            raise TypeError(
                f"{name_of(self.fn)} asks for {settings.isolation}, the transaction it joins is {joined.isolation}"
            )
        tx._alive()  # noqa: SLF001
        if inspect.iscoroutinefunction(self.fn):
            return self._join_async(tx, args, kwargs)
        saved = tx._run.buffer.save()  # noqa: SLF001
        body: Callable[..., Any] = self.fn
        try:
            return body(tx, *args, **kwargs)
        except BaseException:
            tx._run.buffer.restore(saved)  # noqa: SLF001
            raise

    async def _join_async(self, tx: BaseTransaction, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        saved = tx._run.buffer.save()  # noqa: SLF001
        body: Callable[..., Any] = self.fn
        try:
            return await body(tx, *args, **kwargs)
        except BaseException:
            tx._run.buffer.restore(saved)  # noqa: SLF001
            raise


@overload
def transactional(fn: Callable[P, R], /) -> Transactional[P, R]: ...
@overload
def transactional(
    *,
    isolation: Isolation | None = None,
    retry: RetryPolicy | None = None,
    name: str | None = None,
    record_errors: tuple[type[BaseException], ...] = (),
) -> Callable[[Callable[P, R]], Transactional[P, R]]: ...
def transactional(
    fn: Callable[..., Any] | None = None,
    /,
    *,
    isolation: Isolation | None = None,
    retry: RetryPolicy | None = None,
    name: str | None = None,
    record_errors: tuple[type[BaseException], ...] = (),
) -> Any:
    """
    Make a function of ``tx`` a transaction that is re-run on conflict, as a whole, on fresh data.

    The body must have no effect but on ``tx``: it may run several times. ``transfer(store, …)`` runs it,
    ``transfer(tx, …)`` inside another body joins that one, ``transfer.options(op_id=…)(store, …)`` makes it exactly once.

    >>> from toolkit import StateStore
    >>> from toolkit.testing.memory import MemoryStore
    >>> @transactional
    ... def move(tx, src, dst, amount):
    ...     a, b = tx.get(src), tx.get(dst)
    ...     tx.put(src, {"balance": a["balance"] - amount})
    ...     tx.put(dst, {"balance": b["balance"] + amount})
    >>> with StateStore("bank", port=MemoryStore()) as store:
    ...     store.set("a", {"balance": 10}); store.set("b", {"balance": 0})
    ...     move(store, "a", "b", 3)
    ...     sorted(store.snapshot(["a", "b"]).items())
    [('a', {'balance': 7}), ('b', {'balance': 3})]
    """
    settings = Settings(
        isolation=check_isolation(isolation), retry=retry, name=name, record_errors=record_errors
    )
    if fn is not None:
        return Transactional(fn, settings)

    def decorate(body: Callable[..., Any]) -> Transactional[..., Any]:
        return Transactional(body, settings)

    return decorate


def check_isolation(isolation: Any) -> Any:
    """
    Refuse what is no isolation level.
    """
    if isolation is not None and isolation not in ISOLATIONS:
        raise ValueError(f"isolation must be one of {', '.join(ISOLATIONS)}, not {isolation!r}")
    return isolation


def check_body(fn: Any) -> None:
    """
    Refuse what cannot be re-run, and parameters that ``transact`` would take for its own.
    """
    if not callable(fn):
        raise TypeError(f"the body must be a function of tx, not {fn!r}")
    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise TypeError(f"{name_of(fn)} is a generator: a body must return, so that it can be run again")
    taken = [name for name in RESERVED if name in _parameters(fn)]
    if taken:
        raise TypeError(
            f"{name_of(fn)} has a parameter {taken[0]!r}, which transact takes for its own; rename it"
        )


def _parameters(fn: Any) -> Collection[str]:
    code = getattr(fn, "__code__", None)
    if isinstance(fn, FunctionType) and isinstance(code, CodeType) and not fn.__dict__:
        # Asked for each call: what `inspect` does for a plain function costs as much as the rest of the checks.
        rest = bool(code.co_flags & inspect.CO_VARARGS) + bool(code.co_flags & inspect.CO_VARKEYWORDS)
        return code.co_varnames[: code.co_argcount + code.co_kwonlyargcount + rest]
    try:
        return inspect.signature(fn).parameters
    except (TypeError, ValueError):
        return ()


def unwrap(fn: Any, said: Settings) -> tuple[Callable[..., Any], Settings]:
    """
    The plain body and the settings of a call.
    """
    if isinstance(fn, Transactional):
        return fn.fn, said.over(fn.settings)
    check_body(fn)
    return fn, said


def transact_sync(store: StateStore, world: World, fn: Any, said: Settings, args: Any, kwargs: Any) -> Any:
    """
    The loop around a sync body.
    """
    body, settings = unwrap(fn, said)
    if inspect.iscoroutinefunction(body):
        raise TypeError(f"{name_of(body)} is async: use AsyncStateStore, or make it a plain function")
    run = store.begin_transaction(settings.options(store, body))
    turns = store.key_turns(run)
    try:
        while True:
            done = None if turns.begins() else drive(run.begin(), world)
            if done is None:
                result, error = _run_body(Transaction(store, run, world, turns), body, args, kwargs)
                point("transact.ran")
                settled = turns.settle(result, error)
                if settled is False:
                    ended = drive(marked(run.end(result, error), "commit"), world)
                    done = ended if isinstance(ended, Finished) else None
                elif settled is not True:
                    done = settled
            if done is not None:
                return _close(done)
    finally:
        turns.leave()
        run.close()
        store.finish_later(run)


def _run_body(
    tx: Transaction, body: Callable[..., Any], args: Any, kwargs: Any
) -> tuple[Any, BaseException | None]:
    token = in_body.set(name_of(body))
    try:
        result = body(tx, *args, **kwargs)
        if inspect.isawaitable(result):
            close = getattr(result, "close", None)
            if close is not None:
                close()
            raise TypeError(f"{name_of(body)} returned something to be awaited: use AsyncStateStore")
        tx._guards_allowed()  # noqa: SLF001
    except Exception as error:  # noqa: BLE001  the run decides what becomes of it
        return None, error
    else:
        return result, None
    finally:
        in_body.reset(token)
        tx._over = True  # noqa: SLF001


def _close(done: Finished) -> Any:
    if done.error is not None:
        raise done.error
    for fn in done.after:
        try:
            fn()
        except Exception:  # noqa: BLE001  best effort, as promised
            _log.exception("on_commit function %s failed; the transaction is committed", name_of(fn))
    return done.result


async def transact_async(
    store: AsyncStateStore, world: AsyncWorld, fn: Any, said: Settings, args: Any, kwargs: Any
) -> Any:
    """
    The loop around an async body.
    """
    body, settings = unwrap(fn, said)
    run = store.begin_transaction(settings.options(store, body))
    turns = store.key_turns(run)
    try:
        while True:
            done = None if turns.begins() else await drive_async(run.begin(), world)
            if done is None:
                result, error = await _run_body_async(
                    AsyncTransaction(store, run, world, turns), body, args, kwargs
                )
                point("transact.ran")
                settled = await turns.settle(result, error)
                if settled is False:
                    ended = await store.commit_shielded(run, result, error)
                    done = ended if isinstance(ended, Finished) else None
                elif settled is not True:
                    done = settled
            if done is not None:
                return await _close_async(done)
    finally:
        turns.leave()
        run.close()
        store.finish_later(run)


async def _run_body_async(
    tx: AsyncTransaction, body: Callable[..., Any], args: Any, kwargs: Any
) -> tuple[Any, BaseException | None]:
    token = in_body.set(name_of(body))
    try:
        result = body(tx, *args, **kwargs)
        if not inspect.isawaitable(result):
            raise TypeError(
                f"{name_of(body)} is a plain function: with AsyncStateStore a body is `async def`"
            )
        value = await Watched(result, tx._turns)  # noqa: SLF001
        tx._guards_allowed()  # noqa: SLF001
    except Exception as error:  # noqa: BLE001  the run decides what becomes of it
        return None, error
    else:
        return value, None
    finally:
        in_body.reset(token)
        tx._over = True  # noqa: SLF001


async def _close_async(done: Finished) -> Any:
    if done.error is not None:
        raise done.error
    for fn in done.after:
        try:
            result = fn()
            if inspect.isawaitable(result):
                await result
        except Exception:  # noqa: BLE001  best effort, as promised
            _log.exception("on_commit function %s failed; the transaction is committed", name_of(fn))
    return done.result

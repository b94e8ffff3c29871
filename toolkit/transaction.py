"""
Transactions as users write them: the decorator, and the settings of a call.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection
from types import CodeType, FunctionType
from typing import Any, Final, Generic, ParamSpec, TypeVar, overload

import msgspec

from toolkit._calls import Calls
from toolkit._checks import check_op_id, name_of
from toolkit._inside import in_body
from toolkit._tx import AsyncTransaction, BaseTransaction, Transaction
from toolkit.core.policy import RetryPolicy
from toolkit.core.transaction import Isolation, Options

__all__ = ["AsyncTransaction", "Settings", "Transaction", "Transactional", "transactional"]

P = ParamSpec("P")
R = TypeVar("R")

ISOLATIONS: Final = ("serializable", "read_committed")
RESERVED: Final = ("op_id", "isolation", "retry", "record_errors")
# The code of bodies that were found fit to be run again.
_FIT: Final[set[CodeType]] = set()
_MOST_FIT: Final = 1024


class JoinError(TypeError, RuntimeError):
    """
    A body that was to join another got a store: the wrong argument, and a write beside ``tx``.
    """


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
        return Transactional(self.fn, settings_of(op_id, isolation, retry, record_errors).over(self.settings))

    def __call__(self, target: Any, /, *args: Any, **kwargs: Any) -> R:
        if isinstance(target, BaseTransaction):
            joined: R = self._join(target, args, kwargs)
            return joined
        transact = getattr(target, "transact", None)
        if in_body.get() is not None and transact is not None:
            raise JoinError(
                f"{name_of(self.fn)} is called with {target!r} inside the transaction body {in_body.get()}: a body joins by "
                f"being called with tx, and no transaction spans two stores"
            )
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
        if inspect.iscoroutinefunction(self.fn) and isinstance(tx, Transaction):
            raise TypeError(
                f"{name_of(self.fn)} is async and cannot join a plain body: nobody would await it"
            )
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
    settings = settings_of(None, isolation, retry, record_errors, name)
    if fn is not None:
        return Transactional(fn, settings)

    def decorate(body: Callable[..., Any]) -> Transactional[..., Any]:
        return Transactional(body, settings)

    return decorate


def settings_of(
    op_id: Any, isolation: Any, retry: Any, record_errors: Any, name: str | None = None
) -> Settings:
    """
    The settings of a call or a decoration, checked; one class of errors may stand for a tuple of it.

    Raises:
        TypeError: What was passed as ``op_id``, ``retry`` or ``record_errors`` is none.
        ValueError: There is no such isolation level.
    """
    if op_id is not None:
        check_op_id(op_id)
    if isolation is not None and isolation not in ISOLATIONS:
        raise ValueError(f"isolation must be one of {', '.join(ISOLATIONS)}, not {isolation!r}")
    if retry is not None and not isinstance(retry, RetryPolicy):
        raise TypeError(f"retry must be a RetryPolicy, not {retry!r}")
    kinds = (record_errors,) if isinstance(record_errors, type) else tuple(record_errors)
    for kind in kinds:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise TypeError(f"record_errors must be exception classes, not {kind!r}")
    return Settings(op_id, isolation, retry, kinds, name)


def check_body(fn: Any) -> None:
    """
    Refuse what cannot be re-run, and parameters that ``transact`` would take for its own.
    """
    if not callable(fn):
        raise TypeError(f"the body must be a function of tx, not {fn!r}")
    # Asked for each call: looking costs more than the rest of the checks, and a function's code never changes its nature.
    code = fn.__code__ if isinstance(fn, FunctionType) and not fn.__dict__ else None
    if code is not None and code in _FIT:
        return
    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise TypeError(f"{name_of(fn)} is a generator: a body must return, so that it can be run again")
    taken = [name for name in RESERVED if name in _parameters(fn)]
    if taken:
        raise TypeError(
            f"{name_of(fn)} has a parameter {taken[0]!r}, which transact takes for its own; rename it"
        )
    if code is not None:
        if len(_FIT) >= _MOST_FIT:
            _FIT.clear()
        _FIT.add(code)


def _parameters(fn: Any) -> Collection[str]:
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

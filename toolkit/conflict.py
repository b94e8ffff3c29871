"""
``retry_on_conflict``: the loop around an ETag for code that stays on the Dapr SDK, raw stubs or HTTP.
"""

from __future__ import annotations

import contextvars
import functools
import inspect
import logging
import random
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, ParamSpec, TypeVar, overload

import anyio

from toolkit._checks import name_of
from toolkit._disguises import is_conflict
from toolkit.core.events import Event
from toolkit.core.policy import RetryPolicy
from toolkit.errors import AttemptsExhaustedError
from toolkit.log import emit, listening

P = ParamSpec("P")
R = TypeVar("R")


class _Run:
    """
    One call of a decorated function: its attempts, and what it was seen to send.
    """

    def __init__(self, name: str, policy: RetryPolicy) -> None:
        self.name, self.policy = name, policy
        self.started = time.monotonic()
        self.attempts = self.conflicts = 0
        self.writes = self.guarded = 0

    def begin(self) -> float:
        self.attempts += 1
        self.writes = self.guarded = 0
        return time.monotonic()

    def lost(self, conflict: Exception, began: float) -> float:
        """
        Seconds to wait before the next attempt.

        Raises:
            AttemptsExhaustedError: There is none.
        """
        self.conflicts += 1
        now = time.monotonic()
        # Half a run: about the round trip of one of its two calls.
        wait = self.policy.wait(self.conflicts, (now - began) / 2, random.random())  # noqa: S311  jitter
        elapsed = now - self.started
        if self.policy.allows(self.attempts) and elapsed + wait < self.policy.deadline:
            return wait
        raise AttemptsExhaustedError(
            f"{self.name}: lost {self.conflicts} conflicts in {self.attempts} attempts over {elapsed:.3g} s; nothing was "
            f"written by the last one. Allow more with retry_on_conflict(policy=RetryPolicy(...)), or use "
            f"StateStore.update, which lets callers of one key share an attempt",
            key=getattr(conflict, "key", ""),
            attempt=self.attempts,
            conflicts=self.conflicts,
            attempts=self.attempts,
            elapsed=elapsed,
        ) from conflict


@overload
def retry_on_conflict(fn: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def retry_on_conflict(*, policy: RetryPolicy | None = None) -> Callable[[Callable[P, R]], Callable[P, R]]: ...


def retry_on_conflict(fn: Callable[..., Any] | None = None, /, *, policy: RetryPolicy | None = None) -> Any:
    """
    Re-run a function that uses the Dapr SDK whenever it loses an ETag.

    The function, ``def`` or ``async def``, has to read, decide and write with the ETag it read: it is run again from its
    first line, so whatever else it does happens again too. It is re-run on a conflict in any of its disguises, and on
    nothing else: not on a timeout, not on an ``AlreadyExistsError``, not on an ``AttemptsExhaustedError`` of a loop
    inside. When the policy ends, ``AttemptsExhaustedError`` is raised from the last conflict. Generators are refused.

    A function that succeeds without ever sending an ETag protects nothing; seen on an SDK client, this is logged once.

    **A lost reply may apply twice.** When a write took effect and its answer was lost, something below may send it
    again, and the repeat comes back as a conflict with oneself; the function then applies its change a second time.
    Nothing can tell from outside. Where that matters use ``store.update(key, change, op_id=...)`` for one key and
    ``store.transact(..., op_id=...)`` for several.

    Args:
        fn: The function.
        policy: How often and how long to try; the deadline bounds the start of an attempt, it does not cut one.

    >>> from toolkit import RetryPolicy, retry_on_conflict
    >>> @retry_on_conflict(policy=RetryPolicy(attempts=5))
    ... def rename(client, name):
    ...     state = client.get_state("statestore", "user-1")
    ...     client.save_state("statestore", "user-1", name, etag=state.etag)
    """
    if policy is not None and not isinstance(policy, RetryPolicy):
        raise TypeError(f"retry_on_conflict(policy={policy!r}): a RetryPolicy is needed")
    chosen = policy or RetryPolicy()
    return _decorate(fn, chosen) if fn is not None else functools.partial(_decorate, policy=chosen)


def _decorate(fn: Callable[..., Any], policy: RetryPolicy) -> Callable[..., Any]:
    if not callable(fn):
        raise TypeError(f"retry_on_conflict decorates a function, not {fn!r}; a policy is passed as policy=")
    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise TypeError(
            f"{name_of(fn)} is a generator: what it has yielded cannot be taken back, so it cannot be re-run"
        )
    say_once = _Once()
    call = getattr(fn, "__call__", None)  # noqa: B004  looks at the method of callable objects
    if inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(call):
        return _asynchronous(fn, policy, say_once)
    return _synchronous(fn, policy, say_once)


def _synchronous(fn: Callable[..., Any], policy: RetryPolicy, say_once: _Once) -> Callable[..., Any]:
    @functools.wraps(fn)
    def retried(*args: Any, **kwargs: Any) -> Any:
        run = _Run(name_of(fn), policy)
        _watch_sdk()
        while True:
            began = run.begin()
            token = _running.set(run)
            try:
                result = fn(*args, **kwargs)
            except Exception as error:
                if not is_conflict(error):
                    raise
                wait = run.lost(error, began)
            else:
                say_once.unguarded(run)
                return result
            finally:
                _running.reset(token)
            time.sleep(wait)

    return retried


def _asynchronous(
    fn: Callable[..., Awaitable[Any]], policy: RetryPolicy, say_once: _Once
) -> Callable[..., Any]:
    @functools.wraps(fn)
    async def retried(*args: Any, **kwargs: Any) -> Any:
        run = _Run(name_of(fn), policy)
        _watch_sdk()
        while True:
            began = run.begin()
            token = _running.set(run)
            try:
                result = await fn(*args, **kwargs)
            except Exception as error:
                if not is_conflict(error):
                    raise
                wait = run.lost(error, began)
            else:
                say_once.unguarded(run)
                return result
            finally:
                _running.reset(token)
            await anyio.sleep(wait)

    return retried


class _Once:
    """
    The advice about a function that protects nothing, given once for each function.
    """

    def __init__(self) -> None:
        self.said = False

    def unguarded(self, run: _Run) -> None:
        if self.said or not run.writes or run.guarded:
            return
        self.said = True
        advice = (
            f"{run.name} succeeded without ever sending an ETag: retry_on_conflict protects nothing there. "
            f"Pass etag= of the read to the write, or use StateStore.update (said once)"
        )
        if listening():
            emit(Event("occ.warning", {"op": run.name, "message": advice}))
        else:
            logging.getLogger("occ").warning("%s", advice)


# -- what SDK clients send ---------------------------------------------------------------------------------------------
#
# An ETag can be seen where the SDK is called and nowhere else: clients are passed in, kept in globals, or made inside
# the function, and gRPC gives a client's interceptors no way in afterwards. So four methods of the two client classes
# note, while a decorated function runs, whether they were given an ETag; they pass everything on as it is.

_running: contextvars.ContextVar[_Run | None] = contextvars.ContextVar("occ_retry_on_conflict", default=None)
_CLIENTS: Final = (
    ("dapr.clients.grpc.client", "DaprGrpcClient"),
    ("dapr.aio.clients.grpc.client", "DaprGrpcClientAsync"),
)
_watched: set[str] = set()
_watching = threading.Lock()


def _watch_sdk() -> None:
    """
    Let those client classes that are loaded by now take notes; each once.
    """
    for module, name in _CLIENTS:
        if module in _watched or (loaded := sys.modules.get(module)) is None:
            continue
        with _watching:
            client = getattr(loaded, name, None)
            if module not in _watched and client is not None:
                _watched.add(module)
                for method, etags in _ETAGS.items():
                    setattr(client, method, _noting(getattr(client, method), etags))


def _noting(
    method: Callable[..., Any], etags: Callable[[dict[str, Any]], Iterable[Any]]
) -> Callable[..., Any]:
    signature = inspect.signature(method)

    def note(args: Any, kwargs: Any) -> None:
        run = _running.get()
        if run is None:
            return
        try:
            given = signature.bind(*args, **kwargs).arguments
        except TypeError:
            return  # the method itself is about to say so
        run.writes += 1
        run.guarded += any(etags(given))

    if inspect.iscoroutinefunction(method):

        @functools.wraps(method)
        async def noted_async(*args: Any, **kwargs: Any) -> Any:
            note(args, kwargs)
            return await method(*args, **kwargs)

        return noted_async

    @functools.wraps(method)
    def noted(*args: Any, **kwargs: Any) -> Any:
        note(args, kwargs)
        return method(*args, **kwargs)

    return noted


def _own(given: dict[str, Any]) -> Iterable[Any]:
    # First-write without an ETag is a create: it protects too.
    return given.get("etag"), _first_write(given.get("options"))


def _each(items: str) -> Callable[[dict[str, Any]], Iterable[Any]]:
    def etags(given: dict[str, Any]) -> Iterable[Any]:
        for item in given.get(items) or ():
            yield getattr(item, "etag", None)
            yield _first_write(getattr(item, "options", None))

    return etags


def _first_write(options: Any) -> bool:
    concurrency = getattr(options, "concurrency", None)
    return getattr(concurrency, "value", concurrency) == 1


_ETAGS: Final[dict[str, Callable[[dict[str, Any]], Iterable[Any]]]] = {
    "save_state": _own,
    "delete_state": _own,
    "save_bulk_state": _each("states"),
    "execute_state_transaction": _each("operations"),
}

"""
Cancel a coroutine at its first suspension, at its second, and so on, until it ends uncut.

A ``finally`` that forgets to shield, a half transfer, a lock never given back show up at one of the cuts::

    async for cut in cancel_everywhere(lambda: transfer(store)):
        assert await total(store) == 100

Works on asyncio and on trio. At each cut the scope around the coroutine is cancelled, so the suspension point itself
and every later one, shielded ones apart, raise as they do in production.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from dataclasses import dataclass
from typing import Any

import anyio


@dataclass(frozen=True, slots=True)
class Cut:
    """
    One run of the coroutine.

    Attributes:
        at: The suspension, counted from 1, at which the scope was cancelled; ``None`` for the last, uncut run.
        cancelled: Whether the cancellation came out of the coroutine; one that swallowed it ended by itself.
        result: What it returned, when it did.
        error: The exception it raised, when it did.
    """

    at: int | None
    cancelled: bool
    result: Any = None
    error: Exception | None = None


async def cancel_everywhere(
    make_coroutine: Callable[[], Coroutine[Any, Any, Any]], *, limit: int = 10_000, errors: bool = True
) -> AsyncGenerator[Cut]:
    """
    Run a new coroutine once for each suspension of the one before, cut there; the last one runs to its end.

    Check after each cut what must hold, and put back what the next run starts from. Close the generator (``aclosing``)
    when you leave early.

    Args:
        limit: More suspensions than this are a RuntimeError: the coroutine never ends.
        errors: Give exceptions of the coroutine as ``Cut.error``; False lets the first one out.
    """
    for at in range(1, limit + 1):
        cut = await _run(make_coroutine(), at, errors=errors)
        yield cut
        if cut.at is None:
            return
    raise RuntimeError(f"the coroutine was still suspended at point {limit}: does it end at all?")


async def _run(work: Coroutine[Any, Any, Any], at: int, *, errors: bool) -> Cut:
    result: Any = None
    error: Exception | None = None
    ended = False
    scope = anyio.CancelScope()
    counter = _Counter(work, at, scope.cancel)
    with scope:
        try:
            result = await counter
        except Exception as failure:
            if not errors:
                raise
            error = failure
        ended = True
    return Cut(at if counter.fired else None, not ended, result, error)


class _Counter:
    """
    Drives a coroutine by hand and fires at one of its suspensions.
    """

    def __init__(self, work: Coroutine[Any, Any, Any], at: int, fire: Callable[[], None]) -> None:
        self._work, self._at, self._fire = work, at, fire
        self.fired = False

    def __await__(self) -> Generator[Any, Any, Any]:
        count = 0
        step = _sender(self._work, None)
        while True:
            try:
                waits_for = step()
            except StopIteration as stop:
                return stop.value
            count += 1
            if count == self._at:
                self.fired = True
                self._fire()
            try:
                answer = yield waits_for
            except BaseException as raised:  # noqa: BLE001 - it goes on into the coroutine, whatever it is
                step = _thrower(self._work, raised)
            else:
                step = _sender(self._work, answer)


def _sender(work: Coroutine[Any, Any, Any], answer: Any) -> Callable[[], Any]:
    return lambda: work.send(answer)


def _thrower(work: Coroutine[Any, Any, Any], raised: BaseException) -> Callable[[], Any]:
    return lambda: work.throw(raised)

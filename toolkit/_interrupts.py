"""
What an interrupt leaves behind in code that cannot be changed, and an event inside of which none can strike.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from functools import partial
from queue import Empty, SimpleQueue
from types import CodeType
from typing import Any, Final

_Generator: Final[Any] = contextlib._GeneratorContextManager  # noqa: SLF001  named only to be recognised
_RLOCK: Final = type(threading.RLock())


class Signal:
    """
    An event between threads, ``set`` by code that is written in C: whoever is interrupted there has set it or not.

    ``threading.Event`` takes a lock in Python code. One that is struck between taking it and giving it back leaves it
    taken, and who waits for the event then waits for that lock, whatever its timeout.
    """

    __slots__ = ("_tokens", "set")

    def __init__(self) -> None:
        self._tokens: SimpleQueue[None] = SimpleQueue()
        self.set: Callable[[], None] = partial(self._tokens.put, None)

    def wait(self, timeout: float | None = None) -> bool:
        """
        Whether it was set within so many seconds; it stays so.
        """
        try:
            self._tokens.get(timeout=timeout)
        except Empty:
            return False
        self.set()
        return True

    def clear(self) -> None:
        """
        Be as it was made.
        """
        with contextlib.suppress(Empty):
            while True:
                self._tokens.get_nowait()


def disguised(error: RuntimeError) -> bool:
    """
    Whether this is what Python makes of an interrupt inside of ``Condition.wait``, as in starting a thread.
    """
    return str(error) == "release unlocked lock"


def let_go(error: BaseException) -> None:
    """
    Give back what an interrupt has left held on its way.

    The handler of a signal may raise at the first instruction of an ``__exit__`` that is written in Python, which then gives back
    nothing, or at the last one of an ``__enter__``, whose block is never entered: any other thread would wait for that
    lock without end, or until the exception is forgotten. grpc takes such locks around the start and the end of each
    call, in C, so that a signal which comes meanwhile strikes just there: 68 of 200 times in a loop of calls.
    """
    at = error.__traceback__
    while at is not None:
        again = _AGAIN.get(at.tb_frame.f_code)
        if again is not None:
            again(at.tb_frame.f_locals["self"], first=not at.tb_lasti)
        at = at.tb_next


def _left(condition: Any, *, first: bool) -> None:
    if first:
        with contextlib.suppress(RuntimeError):
            condition.release()


def _entered(condition: Any, *, first: bool) -> None:
    # Whether it got that far, only a lock that knows its owner can tell.
    if not first and isinstance(condition.acquire.__self__, _RLOCK):
        with contextlib.suppress(RuntimeError):
            condition.release()


def _closed(context: Any, *, first: bool) -> None:  # noqa: ARG001
    context.gen.close()


_AGAIN: Final[dict[CodeType, Any]] = {
    threading.Condition.__exit__.__code__: _left,
    threading.Condition.__enter__.__code__: _entered,
    _Generator.__exit__.__code__: _closed,
    _Generator.__enter__.__code__: _closed,
}

"""
What an interrupt leaves behind in code that cannot be changed.
"""

from __future__ import annotations

import contextlib
import threading
from types import CodeType
from typing import Any, Final

_Generator: Final[Any] = contextlib._GeneratorContextManager  # noqa: SLF001  named only to be recognised
_RLOCK: Final = type(threading.RLock())


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

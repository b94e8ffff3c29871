"""
What an interrupt leaves behind in code that cannot be changed.
"""

from __future__ import annotations

import contextlib
import threading
from typing import Final

_CONDITION: Final = threading.Condition.__exit__.__code__
# Named only to be recognised.
_GENERATOR: Final = contextlib._GeneratorContextManager.__exit__.__code__  # noqa: SLF001  # pyright: ignore[reportUnknownMemberType]


def let_go(error: BaseException) -> None:
    """
    Give back what an interrupt has left held on its way.

    The handler of a signal may raise at the first instruction of an ``__exit__`` that is written in Python, which then gives back
    nothing: any other thread would wait for that lock without end, or until the exception is forgotten. grpc takes such
    locks around the start and the end of each call, in C, so that a signal which comes meanwhile strikes just there: 68
    of 200 times in a loop of calls.
    """
    at = error.__traceback__
    while at is not None:
        code, first = at.tb_frame.f_code, not at.tb_lasti
        if first and code is _CONDITION:
            with contextlib.suppress(RuntimeError):
                at.tb_frame.f_locals["self"].release()
        elif first and code is _GENERATOR:
            at.tb_frame.f_locals["self"].gen.close()
        at = at.tb_next

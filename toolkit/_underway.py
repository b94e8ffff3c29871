"""
Calls under way: a store that is being closed takes no new ones and waits for these.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import anyio

from toolkit._interrupts import Signal

R = TypeVar("R")


class UnderWay:
    """
    The calls of a sync store, but for those in the queues of their keys; safe for any number of threads.

    Attributes:
        calls: One entry for each. They come and go by functions written in C: an interrupt that strikes at the door of an
            ``__exit__`` would leave a call counted for good.
    """

    def __init__(self) -> None:
        self.calls: list[None] = []
        self._over = False
        self._idle = Signal()

    def during(self, call: Callable[..., R], *args: Any) -> R:
        """
        Make a call, unless the store has been closed.
        """
        try:
            self.calls.append(None)
            if self._over:
                raise RuntimeError("the store was closed when this call began")
            return call(*args)
        finally:
            self.calls.pop()
            if self._over and not self.calls:
                self._idle.set()

    def drain(self, timeout: float | None) -> None:
        """
        Let nobody in any more, and wait until nobody is left, or for so many seconds.
        """
        self._over = True
        if self.calls:
            self._idle.wait(timeout)


class AsyncUnderWay:
    """
    The calls of an async store, but for those in the queues of their keys; one event loop, no locks.
    """

    def __init__(self) -> None:
        self._count = 0
        self._idle: anyio.Event | None = None

    def __enter__(self) -> None:
        self._count += 1

    def __exit__(self, *_: object) -> None:
        self._count -= 1
        if not self._count and self._idle is not None:
            self._idle.set()

    async def drain(self) -> None:
        """
        Wait until nobody is left.
        """
        if self._count:
            self._idle = anyio.Event()
            await self._idle.wait()

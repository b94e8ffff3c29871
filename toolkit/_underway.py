"""
Calls under way: a store that is being closed takes no new ones and waits for these.
"""

from __future__ import annotations

import threading

import anyio


class UnderWay:
    """
    The calls of a sync store, but for those in the queues of their keys; safe for any number of threads.
    """

    def __init__(self) -> None:
        # Taken by itself: a condition gives it back in Python code, in which an interrupt may strike first.
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._count = 0
        self._over = False

    def __enter__(self) -> None:
        with self._lock:
            if self._over:
                raise RuntimeError("the store was closed when this call began")
            self._count += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._count -= 1
            if not self._count:
                self._idle.notify_all()

    def drain(self, timeout: float | None) -> None:
        """
        Let nobody in any more, and wait until nobody is left, or for so many seconds.
        """
        with self._lock:
            self._over = True
            self._idle.wait_for(lambda: not self._count, timeout)


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

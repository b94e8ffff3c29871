"""
What differs between event loops: events, and what tells one loop from another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import sniffio


def event_maker() -> Callable[[], Any]:
    """
    The running library's own event: one is made for every waiting call, and anyio asks which library it is each time.
    """
    if sniffio.current_async_library() == "asyncio":
        return asyncio.Event
    return anyio.Event


def signal_maker() -> Callable[[], Any]:
    """
    What a call of one key waits on: it has one waiter, so on asyncio a future does.
    """
    if sniffio.current_async_library() == "asyncio":
        return Signals(asyncio.get_running_loop())
    import trio

    return trio.Event


class Signals:
    """
    Makes signals; ``call_soon`` runs a function once what was woken before it has run.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop, self.call_soon = loop, loop.call_soon

    def __call__(self) -> Signal:
        return Signal(self._loop)

    def bell(self) -> Bell:
        return Bell(loop=self._loop)


class Bell(asyncio.Future[None]):
    """
    A signal for those who wait once: thousands of calls may wait for one key, and this is one object for each.
    """

    __slots__ = ()

    def set(self) -> None:
        if not self.done():
            self.set_result(None)

    def wait(self) -> Awaitable[None]:
        return self


class Signal:
    """
    An event for a single task of one asyncio loop.
    """

    __slots__ = ("_future", "_is_set", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop, self._is_set = loop, False
        self._future: asyncio.Future[None] = loop.create_future()

    def set(self) -> None:
        self._is_set = True
        if not self._future.done():
            self._future.set_result(None)

    def wait(self) -> Awaitable[None]:
        """
        What to await; again after a cancellation, too.
        """
        if self._future.cancelled():
            self._future = self._loop.create_future()
            if self._is_set:
                self._future.set_result(None)
        return self._future


def loop_token() -> object:
    """
    What identifies the running event loop.
    """
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        import trio

        return trio.lowlevel.current_trio_token()

"""
An event loop on virtual time, which asks somebody what happens next whenever nothing is ready to run.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeAlias, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# Given the seconds to the next timer (``None``: there is none), makes something happen and returns how many to let pass.
Idle: TypeAlias = Callable[[float | None], float]

# Real seconds to wait for a thread, where nothing else can go on.
PATIENCE = 5.0


class VirtualLoop(asyncio.SelectorEventLoop):
    """
    Time stands still while anything can run, and passes only as ``idle`` says.
    """

    def __init__(self, idle: Idle) -> None:
        self.virtual = 0.0
        self._idle = idle
        self._rests = _Selector(self)
        super().__init__(self._rests)

    def time(self) -> float:
        """
        Virtual seconds since the loop was made.
        """
        return self.virtual

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """
        Run it here and now: when a thread is done is nobody's choice.
        """
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001  raised where the future is awaited
            future.set_exception(error)
        return future

    def wait_for_threads(self) -> bool:
        """
        Whether something outside the loop came in time.
        """
        return self._rests.wait_for_threads()

    def rest(self, timeout: float | None) -> None:
        """
        Nothing is ready.
        """
        self.virtual += self._idle(timeout)


class _Selector(selectors.DefaultSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready: list[Any] = super().select(0)
        if not ready and (timeout is None or timeout > 0):
            self._loop.rest(timeout)
        return ready

    def wait_for_threads(self) -> bool:
        """
        See the loop.
        """
        return bool(super().select(PATIENCE))

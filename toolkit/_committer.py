"""
Commits of the async colour, in tasks of the store: cancelling a caller cuts none.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from typing import Any

import anyio
from anyio.abc import TaskGroup

from toolkit._drive import CANCEL_GRACE, AsyncWorld, drive_async, marked, now
from toolkit._resting import ForCaller, Hands, work_for
from toolkit.core.transaction import Again, Finished, TxRun
from toolkit.log import emit


class Flight:
    """
    A commit under way in another task, and how it ended.
    """

    __slots__ = ("context", "done", "ended", "error", "outcome", "result", "run")

    def __init__(self, run: TxRun, result: Any, error: BaseException | None, done: Any) -> None:
        self.run, self.result, self.error, self.done = run, result, error, done
        self.context = copy_context()
        self.ended = False
        self.outcome: Finished | Again | Exception | None = None


class Committer:
    """
    The commits of one store.
    """

    def __init__(self, world: AsyncWorld, group: TaskGroup, make_signal: Callable[[], Any]) -> None:
        self.world, self.make_signal = AsyncWorld(world.port, ForCaller(world.hook)), make_signal
        self.hands: Hands[Flight] = Hands(group, make_signal, self._commit)

    async def end(self, run: TxRun, result: Any, error: BaseException | None) -> Finished | Again:
        """
        End an attempt of a transaction; a cancelled caller waits a moment for the verdict, then leaves a receipt behind.
        """
        flight = Flight(run, result, error, self.make_signal())
        self.hands.give(flight)
        try:
            await flight.done.wait()
        except BaseException:
            with anyio.move_on_after(CANCEL_GRACE, shield=True):
                await flight.done.wait()
            event = None if flight.ended else run.told_unknown(now())
            if event is not None:
                emit(event)
            raise
        if isinstance(flight.outcome, Exception):
            raise flight.outcome
        assert flight.outcome is not None
        return flight.outcome

    async def _commit(self, flight: Flight) -> None:
        work_for(flight.context)
        try:
            steps = marked(flight.run.end(flight.result, flight.error), "commit")
            flight.outcome = await drive_async(steps, self.world)
        except Exception as failure:  # noqa: BLE001  handed to the caller
            flight.outcome = failure
        finally:
            flight.ended = True
            flight.done.set()

    def stop(self) -> None:
        """
        Send the resting tasks home; those at work end with their commit.
        """
        self.hands.stop()

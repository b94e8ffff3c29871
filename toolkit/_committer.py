"""
Commits of the async colour, in tasks of the store: cancelling a caller cuts none.

A task that has committed stays for the next commit: starting one costs as much as half of a commit's own work.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context, ContextVar, copy_context
from typing import Any, Final

import anyio
from anyio.abc import TaskGroup

from toolkit._drive import AsyncWorld, drive_async, marked, now
from toolkit.core.events import Event
from toolkit.core.transaction import Again, Finished, TxRun
from toolkit.log import emit

# Seconds a cancelled caller waits for the verdict of a commit that is under way.
CANCEL_GRACE: Final = 1.0
# Tasks kept waiting for the next commit; a burst starts more, which end with it.
MOST_RESTING: Final = 64

# For whom a task commits: its lines of the log are bound as its caller is.
_caller: ContextVar[Context | None] = ContextVar("occ_committer", default=None)


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


class Hand:
    """
    A task that waits for a commit to make; woken without one it ends.
    """

    __slots__ = ("flight", "signal")

    def __init__(self, signal: Any) -> None:
        self.signal = signal
        self.flight: Flight | None = None


class Committer:
    """
    The tasks of one store; one event loop, no locks.
    """

    def __init__(self, world: AsyncWorld, group: TaskGroup, make_signal: Callable[[], Any]) -> None:
        self.hook, self.world = world.hook, AsyncWorld(world.port, self._note)
        self.group, self.make_signal = group, make_signal
        self.resting: list[Hand] = []
        self.stopped = False

    async def end(self, run: TxRun, result: Any, error: BaseException | None) -> Finished | Again:
        """
        End an attempt of a transaction; a cancelled caller waits a moment for the verdict, then leaves a receipt behind.
        """
        flight = Flight(run, result, error, self.make_signal())
        if self.resting:
            hand = self.resting.pop()
            hand.flight = flight
            hand.signal.set()
        else:
            self.group.start_soon(self._work, flight)
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

    def _note(self, event: Event) -> None:
        context = _caller.get()
        if context is None:
            self.hook(event)
        else:
            context.run(self.hook, event)

    async def _work(self, first: Flight) -> None:
        flight: Flight | None = first
        with anyio.CancelScope(shield=True):
            while flight is not None:
                _caller.set(flight.context)
                await self._commit(flight)
                if self.stopped or len(self.resting) >= MOST_RESTING:
                    return
                hand = Hand(self.make_signal())
                self.resting.append(hand)
                # What has ended is kept by nobody while the task rests.
                flight = None
                await hand.signal.wait()
                flight = hand.flight

    async def _commit(self, flight: Flight) -> None:
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
        self.stopped = True
        for hand in self.resting:
            hand.signal.set()
        self.resting.clear()

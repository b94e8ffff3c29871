"""
A transaction's way through the line and through batches, in the async colour; ``_turns`` is the same for threads.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Generator
from typing import TYPE_CHECKING, Any

import anyio

from toolkit._batch import Batch, Place
from toolkit._drive import CANCEL_GRACE, LATE, LOOK, AsyncWorld, drive_async, marked, now
from toolkit._merge import Line
from toolkit._turns import Turns
from toolkit.core.transaction import Finished, TxRun
from toolkit.errors import StateError

if TYPE_CHECKING:
    from toolkit._base import BaseStateStore


class AsyncKeyTurns(Turns):
    """
    The async colour, on one event loop.
    """

    def __init__(self, store: BaseStateStore, line: Line, run: TxRun, world: AsyncWorld) -> None:
        super().__init__(store, line, run)
        self.world = world
        # Calls of ``tx`` under way: while there is one, the body waits for nothing else.
        self.inside = 0

    def __enter__(self) -> None:
        self.inside += 1

    def __exit__(self, *_: object) -> None:
        self.inside -= 1

    async def touch(self, keys: tuple[str, ...]) -> None:
        """
        See ``KeyTurns.touch``.
        """
        if self.seat.place is Place.TURN:
            await self._load(frozenset(keys))
        elif not self._idle(keys):
            self.line.wait(self.seat, self.seat.known.union(keys))
            self.line.form()
            await self._wait()
            self._resume()
            await self._load(frozenset(keys))

    async def _load(self, keys: frozenset[str]) -> None:
        missing, seat, working = self._missing(keys), self.seat, self.run.working
        if not missing or seat.batch is None or working is None:
            return
        if not self.line.admit(seat.batch, missing):
            self._ask_for(missing)
            return
        started = time.monotonic()
        rows = await drive_async(working.fetch(missing), self.world)
        seat.began += time.monotonic() - started
        if seat.place is Place.TURN:
            working.add(rows)

    async def settle(self, result: Any, error: BaseException | None) -> Finished | bool:
        """
        See ``KeyTurns.settle``.
        """
        seat, run = self.seat, self.run
        if seat.place is Place.TURN:
            try:
                await self._load(run.keys)
            except StateError:
                self.line.leave(seat)
            self._fold(result, error)
        if seat.place in (Place.RAN, Place.WAITING, Place.OUT, Place.DONE):
            await self._wait()
            return self._verdict() or True
        if error is None and run.writes:
            if self.line.ask(seat, run.keys) and not self.line.stale(seat):
                return False
            await self._wait()
            run.waited()
            return True
        return False

    async def _wait(self) -> None:
        seat = self.seat
        try:
            while not self._settled:
                left = max(self.run.deadline - time.monotonic(), 0.0) + LATE
                with anyio.move_on_after(left if left > LATE else LOOK):
                    await seat.event.wait()
                    continue
                if seat.place is Place.WAITING:
                    self.line.leave(seat)
                    seat.solo = True
                    return
                error = self._late() if seat.place is Place.RAN else None
                if error is not None:
                    raise error
        except BaseException as error:
            if not isinstance(error, StateError):
                await self._cut()
            raise

    async def _cut(self) -> None:
        """
        A cancelled caller leaves the line; once its commit is under way it gives the verdict a moment.
        """
        if self.seat.place is Place.RAN:
            with anyio.move_on_after(CANCEL_GRACE, shield=True):
                await self.seat.event.wait()
        self._tell()
        self.seat.gone = True

    def suspended(self) -> None:
        """
        The body waits for something that is not ``tx``: it is not to hold up others, now or later.
        """
        if not self.inside:
            seat = self.seat
            seat.solo = True
            if seat.place is Place.TURN and seat.batch is not None:
                seat.batch.take_out(seat)

    def leave(self) -> None:
        """
        See ``KeyTurns.leave``.
        """
        if self.seat.place is not Place.FREE:
            self.seat.gone = True
            self.line.leave(self.seat)


async def lead_async(batch: Batch, line: Line, world: AsyncWorld, later: Callable[[Any], None]) -> None:
    """
    See ``lead``; runs in a task of the store, which no caller's cancellation reaches.
    """
    merged = batch.merged
    with anyio.CancelScope(shield=True):
        try:
            await drive_async(merged.open(), world)
            batch.pass_on()
            await batch.ran.wait()
            await drive_async(marked(merged.settle(), "commit"), world)
        except Exception as failure:  # noqa: BLE001  handed to the callers
            merged.broke(failure, now())
        finally:
            merged.broke(RuntimeError("the commit was interrupted"), now())
            line.end(batch)
            later(merged)


class Watched:
    """
    Awaits a body and tells when it waits for something else than its transaction.
    """

    __slots__ = ("body", "turns")

    def __init__(self, body: Awaitable[Any], turns: AsyncKeyTurns) -> None:
        self.body, self.turns = body, turns

    def __await__(self) -> Generator[Any, Any, Any]:
        steps = self.body.__await__()
        send: Any = getattr(steps, "send", None)
        if send is None:
            return (yield from steps)
        try:
            wanted = send(None)
            while True:
                self.turns.suspended()
                try:
                    got = yield wanted
                except BaseException as error:  # noqa: BLE001  thrown into the body, and out of it
                    wanted = steps.throw(error)
                else:
                    wanted = send(got)
        except StopIteration as stop:
            return stop.value

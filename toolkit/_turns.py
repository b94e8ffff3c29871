"""
A transaction's way through the line and through batches, in both colours (``_merge`` has the rules).

Each body runs in the thread or task of its own caller, with its context; in a batch the turn is handed on like a baton.
The commit of a batch is led by nobody's caller: by a thread of its own, or a task of the store.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from toolkit._batch import TURN_TIME, Batch, Place, Seat
from toolkit._drive import CANCEL_GRACE, LATE, LOOK, World, drive, marked, now
from toolkit._merge import Line
from toolkit.core.events import Event
from toolkit.core.model import Access
from toolkit.core.notes import tx_gave_up_fields
from toolkit.core.share import Alone
from toolkit.core.transaction import Finished, TxRun, unknown_error
from toolkit.errors import StateError
from toolkit.log import emit, listening

if TYPE_CHECKING:
    from toolkit._base import BaseStateStore


class Turns:
    """
    What both colours share.
    """

    def __init__(self, store: BaseStateStore, line: Line, run: TxRun) -> None:
        self.store, self.line, self.run, self.seat = store, line, run, Seat(run)

    def begins(self) -> bool:
        """
        Begin an attempt if it is to be made in a batch, where the operation record was read already; says whether it is.
        """
        if self.seat.place is not Place.TURN:
            self.seat.since = self.line.releases
            return False
        self.seat.began = time.monotonic()
        self.run.start(self.seat.began)
        return True

    def ahead(self, keys: frozenset[str]) -> tuple[str, ...]:
        """
        Those of these keys that can be read before the body asks: none where it may have to wait for one, and read anew.
        """
        return () if self.line.busy(keys) else tuple(sorted(keys))

    def _idle(self, keys: tuple[str, ...]) -> bool:
        """
        Whether the body goes on by itself: only before its first read can it wait, and only if it may write those keys.
        """
        seat = self.seat
        if seat.place is not Place.FREE or seat.solo or self.run.buffer.reads or not self.line.busy(keys):
            return True
        store = self.store
        return store.access is not Access.ALL and not all(
            Access.WRITE in store._allowed(key)  # noqa: SLF001  one package
            for key in keys
        )

    def _resume(self) -> None:
        """
        A body that waited in the middle goes on in its turn, unless it has read something beside the batch meanwhile.
        """
        seat = self.seat
        seat.since = self.line.releases
        if seat.place is Place.TURN:
            seat.began = time.monotonic()
            if self.run.buffer.reads and seat.batch is not None:
                seat.batch.take_out(seat)

    def _ask_for(self, missing: frozenset[str]) -> None:
        """
        Leave a batch that cannot have these keys, for one that has them from the start.
        """
        seat = self.seat
        assert seat.batch is not None
        seat.known |= self.run.keys | missing
        seat.batch.take_out(seat, solo=False)

    def _missing(self, keys: frozenset[str]) -> frozenset[str]:
        seat = self.seat
        if seat.place is not Place.TURN or self.run.working is None:
            return frozenset()
        return keys.difference(self.run.working.rows)

    def _fold(self, result: Any, error: BaseException | None) -> None:
        seat = self.seat
        if seat.place is not Place.TURN or seat.batch is None:
            return
        seat.event = self.line.make_event()
        if time.monotonic() - seat.began > TURN_TIME:
            seat.batch.take_out(seat)
        else:
            seat.batch.fold(seat, result, error)

    def _verdict(self) -> Finished | None:
        """
        What the caller is told; ``None``: the body is to run again.
        """
        seat = self.seat
        if seat.place is Place.OUT:
            seat.place = Place.FREE
            self.run.waited()
            return None
        if seat.place is not Place.DONE or seat.share is None:
            return None
        seat.place = Place.FREE
        verdict = seat.share.verdict
        if isinstance(verdict, Alone):
            seat.solo = True
            self.run.waited()
            return None
        if isinstance(verdict, Finished):
            return verdict
        assert isinstance(verdict, Exception)
        raise verdict

    def _late(self) -> StateError | None:
        """
        The error of a caller whose deadline has passed while its commit is under way, or while its turn has not come.
        """
        seat = self.seat
        if seat.batch is None or seat.share is None:
            return None
        plan = seat.batch.merged.plan
        if plan is None and not seat.share.ended:
            return self._given_up()
        receipt = seat.batch.merged.receipt(seat.share, now())
        if receipt is None or plan is None:
            return None
        seat.gone = True
        return unknown_error(self.run.options.label, receipt, plan.parts)

    def _given_up(self) -> StateError:
        self.seat.gone = True
        run, moment = self.run, now()
        error = run.given_up(moment, self.seat.keys)
        if listening():
            fields = tx_gave_up_fields(run, "deadline", error, moment)
            emit(Event("occ.gave_up", {"store": self.store.name, **fields}))
        return error

    def _tell(self) -> None:
        """
        Log the receipt of a caller that was cut while its commit is under way.
        """
        seat = self.seat
        if seat.place is Place.RAN and seat.batch is not None and seat.share is not None:
            event = seat.batch.merged.told_unknown(seat.share, now())
            if event is not None:
                emit(event)

    @property
    def _settled(self) -> bool:
        return self.seat.place not in (Place.WAITING, Place.RAN)


class KeyTurns(Turns):
    """
    The sync colour; safe for any number of threads.
    """

    def __init__(
        self, store: BaseStateStore, line: Line, run: TxRun, lock: threading.Lock, world: World
    ) -> None:
        super().__init__(store, line, run)
        self.lock, self.world = lock, world

    def touch(self, keys: tuple[str, ...]) -> None:
        """
        Before the body reads: wait if somebody else is about to commit these keys; in a batch make sure they are loaded.
        """
        if self.seat.place is Place.TURN:
            self._load(frozenset(keys))
        elif not self._idle(keys):
            with self.lock:
                if self._idle(keys):
                    return
                self.line.wait(self.seat, self.seat.known.union(keys))
                self.line.form()
            self._wait()
            with self.lock:
                self._resume()
            self._load(frozenset(keys))

    def _load(self, keys: frozenset[str]) -> None:
        missing, seat, working = self._missing(keys), self.seat, self.run.working
        if not missing or seat.batch is None or working is None:
            return
        with self.lock:
            if seat.place is not Place.TURN:
                return
            if not self.line.admit(seat.batch, missing):
                self._ask_for(missing)
                return
            seat.loading = True
        started = time.monotonic()
        try:
            rows = drive(working.fetch(missing), self.world)
        finally:
            with self.lock:
                seat.loading = False
                seat.began += time.monotonic() - started
        with self.lock:
            if seat.place is Place.TURN:
                working.add(rows)

    def settle(self, result: Any, error: BaseException | None) -> Finished | bool:
        """
        After the body: its end, or whether it is to be run again; else the attempt is the caller's to commit.
        """
        seat, run = self.seat, self.run
        if seat.place is Place.TURN:
            try:
                self._load(run.keys)
            except StateError:
                with self.lock:
                    self.line.leave(seat)
            with self.lock:
                self._fold(result, error)
        if seat.place in (Place.RAN, Place.WAITING, Place.OUT, Place.DONE):
            self._wait()
            return self._verdict() or True
        if error is None and run.writes:
            with self.lock:
                if self.line.ask(seat, run.keys) and not self.line.stale(seat):
                    return False
            self._wait()
            run.waited()
            return True
        return False

    def _wait(self) -> None:
        seat = self.seat
        try:
            while not self._settled:
                left = max(self.run.deadline - time.monotonic(), 0.0) + LATE
                if seat.event.wait(left if left > LATE else LOOK):
                    continue
                with self.lock:
                    if seat.place is Place.WAITING:
                        self.line.leave(seat)
                        seat.solo = True
                        return
                    error = self._late() if seat.place is Place.RAN else None
                if error is not None:
                    raise error
        except BaseException as error:
            if not isinstance(error, StateError):
                self._cut()
            raise

    def _cut(self) -> None:
        """
        KeyboardInterrupt and the like in a waiting caller: give a commit under way a moment, then leave.
        """
        if self.seat.place is Place.RAN:
            self.seat.event.wait(CANCEL_GRACE)
        with self.lock:
            self._tell()
            self.seat.gone = True

    def leave(self) -> None:
        """
        Let the others in.
        """
        if self.seat.place is not Place.FREE:
            with self.lock:
                self.seat.gone = True
                self.line.leave(self.seat)


def lead(batch: Batch, line: Line, lock: threading.Lock, world: World, later: Callable[[Any], None]) -> None:
    """
    Carry a batch from its reads to its verdicts; runs in a thread of its own.
    """
    merged = batch.merged
    with lock:
        if batch.void:
            merged.close()
            return
        batch.led = True
    try:
        drive(merged.open(), world)
        with lock:
            batch.pass_on()
        while not batch.ran.wait(TURN_TIME):
            with lock:
                seat = batch.current
                slow = seat is not None and seat.began and not seat.loading
                if seat is not None and slow and time.monotonic() - seat.began > TURN_TIME:
                    batch.take_out(seat)
        drive(marked(merged.settle(), "commit"), world)
    except Exception as failure:  # noqa: BLE001  handed to the callers
        merged.broke(failure, now())
    finally:
        merged.broke(RuntimeError("the commit was interrupted"), now())
        with lock:
            line.end(batch)
        later(merged)

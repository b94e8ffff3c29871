"""
Transactions of one process that share keys: who holds which keys, who waits for them, and whom one commit can carry.

A transaction that touches a key which another one is about to commit gets in line. When the keys come free, those in
line that are connected by shared keys form a batch (``core.merge``): their bodies run in turn, in order of arrival, and
one commit carries them all. A lone one just gets its keys. This is politeness, not safety: a wait ends with the
deadline, and compare-and-set protects the keys whatever the line does.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from typing import Any, Final

from toolkit.core.merge import MergedRun
from toolkit.core.share import Alone, Retry, Share
from toolkit.core.site import Site
from toolkit.core.steps import Instant
from toolkit.core.transaction import TxRun
from toolkit.core.working import MOST_KEYS

# The most transactions one commit carries.
MOST_MEMBERS: Final = 256
# Seconds a body may take in its turn, while others wait for theirs.
TURN_TIME: Final = 0.005
# Keys of which the line remembers when they were let go.
_MOST_RELEASED: Final = 4096


class Place(enum.Enum):
    """
    Where a transaction stands: FREE it has no keys; WAITING in line; HELD it has its keys to itself; TURN its body runs
    in a batch; RAN its body has, the commit has not; OUT it was taken out of its turn; DONE its verdict is there.
    """

    FREE = "free"
    WAITING = "waiting"
    HELD = "held"
    TURN = "turn"
    RAN = "ran"
    OUT = "out"
    DONE = "done"


class Seat:
    """
    One transaction, over all its attempts.

    Attributes:
        keys: What it waits for, or holds.
        known: What it is known to need besides what it asks for, from a batch that could not have it.
        solo: It is never merged again: its body took too long, or waits for something else.
        gone: Its caller has left.
        since: How many releases of keys the line had seen when the body began to read.
    """

    __slots__ = (
        "batch",
        "began",
        "event",
        "gone",
        "keys",
        "known",
        "loading",
        "place",
        "run",
        "share",
        "since",
        "solo",
    )

    def __init__(self, run: TxRun) -> None:
        self.run = run
        self.keys: frozenset[str] = frozenset()
        self.known: frozenset[str] = frozenset()
        self.place = Place.FREE
        self.event: Any = None
        self.batch: Batch | None = None
        self.share: Share | None = None
        self.solo = self.gone = self.loading = False
        self.began = 0.0
        self.since = 0

    def wake(self) -> None:
        if self.event is not None:
            self.event.set()


class Batch:
    """
    Members in order of arrival, and whose turn it is.
    """

    def __init__(self, site: Site, seats: list[Seat], keys: set[str], ran: Any) -> None:
        self.seats, self.keys, self.ran = seats, keys, ran
        self.merged = MergedRun(site, [seat.run for seat in seats], frozenset(keys))
        self.at = -1
        for seat, share in zip(seats, self.merged.shares, strict=True):
            seat.batch, seat.share, seat.place = self, share, Place.RAN

    @property
    def current(self) -> Seat | None:
        return self.seats[self.at] if 0 <= self.at < len(self.seats) else None

    def pass_on(self) -> None:
        """
        The next one's turn; after the last the leader's.
        """
        while self.at + 1 < len(self.seats):
            self.at += 1
            seat = self.seats[self.at]
            assert seat.share is not None
            if seat.gone:
                seat.share.verdict = Alone()
            if seat.share.verdict is not None:
                continue
            if self.merged.full():
                seat.share.verdict = Retry()
                continue
            seat.place, seat.began = Place.TURN, 0.0
            seat.run.working = self.merged.working
            seat.wake()
            return
        self.at = len(self.seats)
        self.ran.set()

    def take_out(self, seat: Seat, *, solo: bool = True) -> None:
        """
        Go on without a member whose turn it is; what it did leaves no trace.
        """
        assert seat.share is not None
        seat.share.verdict = Alone()
        seat.place, seat.run.working = Place.OUT, None
        seat.solo = seat.solo or solo
        self.pass_on()

    def fold(self, seat: Seat, result: Any, error: BaseException | None) -> None:
        """
        Keep what a body has left at the end of its turn, and go on.
        """
        assert seat.share is not None
        self.merged.fold(seat.share, result, error)
        seat.place, seat.run.working = Place.RAN, None
        self.pass_on()


class Line:
    """
    The bookkeeping of both colours; whoever uses it from several threads holds a lock.
    """

    def __init__(self, site: Site, make_event: Callable[[], Any], lead: Callable[[Batch], None]) -> None:
        self.site, self.make_event, self.lead = site, make_event, lead
        self.held: set[str] = set()
        self.wanted: Counter[str] = Counter()
        self.waiting: list[Seat] = []
        self.releases = 0
        self.released: dict[str, int] = {}

    def busy(self, keys: Iterable[str]) -> bool:
        """
        Whether somebody has or waits for one of these keys.
        """
        return any(key in self.held or key in self.wanted for key in keys)

    def stale(self, seat: Seat) -> bool:
        """
        Whether somebody here has let go of one of the seat's keys since its body began to read: most likely its commit
        would be refused.
        """
        return any(self.released.get(key, 0) > seat.since for key in seat.keys)

    def _release(self, keys: Collection[str]) -> None:
        self.held.difference_update(keys)
        self.releases += 1
        if len(self.released) > _MOST_RELEASED:
            self.released.clear()
        self.released.update(dict.fromkeys(keys, self.releases))

    def ask(self, seat: Seat, keys: frozenset[str]) -> bool:
        """
        Make these keys the seat's, on top of those it has; if they are not free it gets in line. Says whether it has them.
        """
        if seat.place is Place.HELD and keys <= seat.keys:
            return True
        more = keys - seat.keys if seat.place is Place.HELD else keys
        if not self.busy(more):
            seat.keys, seat.place = keys | seat.keys if seat.place is Place.HELD else keys, Place.HELD
            self.held |= more
            return True
        self.leave(seat)
        self.wait(seat, keys | seat.keys)
        self.form()
        return seat.place is Place.HELD

    def wait(self, seat: Seat, keys: frozenset[str]) -> None:
        """
        Get in line.
        """
        seat.keys, seat.place, seat.event = keys, Place.WAITING, self.make_event()
        self.waiting.append(seat)
        self.wanted.update(keys)

    def leave(self, seat: Seat) -> None:
        """
        Give the keys back, or leave the line; those whose turn it is now are woken.
        """
        if seat.place is Place.HELD:
            self._release(seat.keys)
        elif seat.place is Place.WAITING:
            self._remove([seat] if seat in self.waiting else [])
        elif seat.place is Place.TURN and seat.batch is not None:
            seat.batch.take_out(seat)
            return
        else:
            return
        self.form()
        seat.place = Place.FREE  # last: it is done again after an interrupt

    def admit(self, batch: Batch, keys: frozenset[str]) -> bool:
        """
        Let a batch have more keys, which its bodies have asked for.
        """
        new = keys - batch.keys
        if len(batch.keys | new) > MOST_KEYS or not self.held.isdisjoint(new):
            return False
        batch.keys |= new
        self.held |= new
        return True

    def end(self, batch: Batch) -> None:
        """
        Hand out the verdicts; those that are to try again go first in line.
        """
        self._release(batch.keys)
        again: list[Seat] = []
        for seat in batch.seats:
            assert seat.share is not None
            if seat.place is not Place.RAN:
                continue  # it was taken out, and goes its own way
            if isinstance(seat.share.verdict, Retry) and not seat.gone:
                seat.keys |= seat.run.keys
                seat.place = Place.WAITING
                again.append(seat)
                self.wanted.update(seat.keys)
            else:
                seat.place = Place.DONE
                seat.wake()
        self.waiting[:0] = again
        batch.merged.close()
        self.form()

    def form(self) -> None:
        """
        Start whoever can start now: nobody overtakes one that wants the same key.
        """
        blocked: set[str] = set()
        for head in list(self.waiting):
            if head.place is not Place.WAITING:
                continue
            if not (self.held.isdisjoint(head.keys) and blocked.isdisjoint(head.keys)):
                blocked |= head.keys
                continue
            group, keys = self._group(head, blocked)
            self._remove(group)
            self.held |= keys
            if len(group) == 1:
                head.place = Place.HELD
                head.wake()
            else:
                self._start(Batch(self.site, group, keys, self.make_event()))

    def _start(self, batch: Batch) -> None:
        try:
            self.lead(batch)
        except RuntimeError as failure:  # no thread or task can be had any more
            batch.merged.broke(failure, Instant(0.0, 0.0))
            self.end(batch)

    def _group(self, head: Seat, blocked: set[str]) -> tuple[list[Seat], set[str]]:
        """
        Those that can go with the first in line, connected by shared keys, and all their keys.
        """
        members, keys = {id(head): head}, set(head.keys)
        ops = {head.run.options.op_id} - {None}
        grew = not head.solo and len(keys) <= MOST_KEYS
        while grew:
            grew, ahead = False, set(blocked)
            for seat in self.waiting:
                if id(seat) in members:
                    continue
                new = seat.keys - keys
                op = seat.run.options.op_id
                if seat.solo or len(new) == len(seat.keys):
                    ahead |= seat.keys if seat.solo else set()
                elif self._fits(new, keys, ahead) and len(members) < MOST_MEMBERS and self._op_fits(op, ops):
                    members[id(seat)] = seat
                    keys |= new
                    ops |= {op} - {None}
                    grew = grew or bool(new)
                else:
                    ahead |= seat.keys
        return [seat for seat in self.waiting if id(seat) in members], keys

    def _fits(self, new: frozenset[str], keys: set[str], ahead: set[str]) -> bool:
        return len(keys) + len(new) <= MOST_KEYS and self.held.isdisjoint(new) and ahead.isdisjoint(new)

    def _op_fits(self, op: str | None, ops: set[Any]) -> bool:
        """
        An operation is in one batch once; on intents one record decides, so there a batch has one operation id at most.
        """
        if op is None:
            return True
        most = self.site.profile.max_operations
        if most and len(ops) + MOST_KEYS >= most:
            return False
        return op not in ops and (not ops or self.site.path == "native")

    def _remove(self, seats: list[Seat]) -> None:
        out = {id(seat) for seat in seats}
        self.waiting = [seat for seat in self.waiting if id(seat) not in out]
        for seat in seats:
            self.wanted.subtract(seat.keys)
            for key in seat.keys:
                if not self.wanted[key]:
                    del self.wanted[key]

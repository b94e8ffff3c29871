"""
Transactions of one process that share keys: who holds which keys, who waits for them, and whom one commit can carry.

A transaction that touches a key which another one is about to commit gets in line. When the keys come free, those in
line that are connected by shared keys form a batch (``core.merge``): their bodies run in turn, in order of arrival, and
one commit carries them all. A lone one just gets its keys. This is politeness, not safety: a wait ends with the
deadline, and compare-and-set protects the keys whatever the line does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from itertools import chain
from typing import Any, Final

from toolkit._batch import Batch, Place, Seat
from toolkit._interrupts import disguised
from toolkit.core.share import Retry
from toolkit.core.site import Site
from toolkit.core.steps import Instant
from toolkit.core.working import MOST_KEYS

# The most transactions one commit carries.
MOST_MEMBERS: Final = 256
# Keys of which the line remembers when they were let go.
_MOST_RELEASED: Final = 4096


class Line:
    """
    The bookkeeping of both colours; whoever uses it from several threads holds a lock.
    """

    def __init__(self, site: Site, make_event: Callable[[], Any], lead: Callable[[Batch], None]) -> None:
        self.site, self.make_event, self.lead = site, make_event, lead
        self.held: set[str] = set()
        self.wanted: Counter[str] = Counter()
        self.waiting: list[Seat] = []
        # Those of whom a batch is just being made, and the batch.
        self.forming: list[Seat] = []
        self.starting: Batch | None = None
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
        elif seat.place in (Place.RAN, Place.OUT) and seat.batch is not None:
            seat.batch.go_on(seat)
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
        if self.forming:
            self._form_again()
        blocked: set[str] = set()
        for head in list(self.waiting):
            if head.place is not Place.WAITING:
                if head.place is Place.HELD:
                    self._let_in(head)  # an interrupt has struck when it was given its keys
                continue
            if not (self.held.isdisjoint(head.keys) and blocked.isdisjoint(head.keys)):
                blocked |= head.keys
                continue
            group, keys = self._group(head, blocked)
            if len(group) == 1:
                self.held |= keys
                head.place = Place.HELD
                self._let_in(head)
            else:
                self._start(group, keys)

    def _form_again(self) -> None:
        """
        An interrupt has struck while a batch was made: its members wait as before, unless somebody leads it already.
        """
        group, batch = self.forming, self.starting
        if batch is not None and batch.led:
            self._remove(group)
        else:
            if batch is not None:
                batch.void = True
                self.held.difference_update(batch.keys)
            for seat in group:
                seat.place, seat.batch, seat.share = Place.WAITING, None, None
        self.forming, self.starting = [], None

    def _let_in(self, head: Seat) -> None:
        head.wake()
        self._remove([head])

    def _start(self, group: list[Seat], keys: set[str]) -> None:
        failed: RuntimeError | None = None
        self.forming = group
        batch = self.starting = Batch(self.site, group, keys, self.make_event())
        self.held |= keys
        try:
            self.lead(batch)
        except RuntimeError as failure:  # no thread or task can be had any more
            if disguised(failure):
                raise
            failed = failure
        self._remove(group)
        self.forming, self.starting = [], None
        if failed is not None:
            batch.merged.broke(failed, Instant(0.0, 0.0))
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
        waiting = [seat for seat in self.waiting if id(seat) not in out]
        wanted = Counter(chain.from_iterable([seat.keys for seat in waiting]))
        # Both or none: an interrupt strikes at calls.
        self.waiting, self.wanted = waiting, wanted

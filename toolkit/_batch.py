"""
A batch of transactions that one commit carries: its members, each in its place, and whose turn it is.
"""

from __future__ import annotations

import enum
from typing import Any, Final

from toolkit.core.merge import MergedRun
from toolkit.core.share import Alone, Retry, Share
from toolkit.core.site import Site
from toolkit.core.transaction import TxRun

# Seconds a body may take in its turn, while others wait for theirs.
TURN_TIME: Final = 0.005


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

    Attributes:
        led: Whoever is to lead it is at work; ``void``: it need not begin.
    """

    led = void = False

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
            seat = self.seats[self.at + 1]
            assert seat.share is not None
            if seat.gone:
                seat.share.verdict = Alone()
            elif seat.share.verdict is None and self.merged.full():
                seat.share.verdict = Retry()
            if seat.share.verdict is not None:
                self.at += 1
                continue
            seat.run.working, seat.began = self.merged.working, 0.0
            self.at, seat.place = self.at + 1, Place.TURN
            seat.wake()
            return
        self.at = len(self.seats)
        self.ran.set()

    def take_out(self, seat: Seat, *, solo: bool = True) -> None:
        """
        Go on without a member whose turn it is; what it did leaves no trace.
        """
        assert seat.share is not None
        if seat.share.ended:  # an interrupt has struck since
            self._ran(seat)
            return
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
        self._ran(seat)

    def _ran(self, seat: Seat) -> None:
        seat.place, seat.run.working = Place.RAN, None
        self.pass_on()

    def go_on(self, seat: Seat) -> None:
        """
        Pass on once more what an interrupt may have struck while one who leaves passed it on.
        """
        current = self.current
        if current is seat:
            self.pass_on()
        elif current is not None:
            current.wake()

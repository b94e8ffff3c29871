"""
The virtual clock: it stands still while anything is ready or under way.

It moves to the next moment something is due when nothing is and somebody waits for an instance, or asks for time to pass.
One lock guards the whole hub; every change wakes whoever waits.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from toolkit.testing.taskhub.work import Calendar, Work


class VirtualClock:
    """
    What is due when, what is ready for the worker now, and what it works on.
    """

    def __init__(self, start: datetime, *, skip_always: bool) -> None:
        self.changed = threading.Condition(threading.RLock())
        self.now = start if start.tzinfo is not None else start.replace(tzinfo=UTC)
        self.streams = 0
        self.closed = False
        self._skip_always = skip_always
        self._ready: list[Work] = []
        self._flying: dict[str, Work] = {}
        self._calendar = Calendar()
        self._waiters: list[Callable[[], bool]] = []

    def wait(self, until: Callable[[], bool], active: Callable[[], bool], *, skip: bool) -> bool:
        """
        Wait until something holds; meanwhile, with ``skip``, time may skip. False when the caller went away first.
        """
        with self.changed:
            if skip:
                self._waiters.append(until)
            try:
                self._move()
                while not until():
                    if self.closed or not active():
                        return False
                    # Woken by every change; the limit is for a caller that goes away without a word.
                    self.changed.wait(0.2)
            finally:
                if skip:
                    self._waiters.remove(until)
            return True

    def advance(self, by: timedelta, timeout: float) -> None:
        """
        Let virtual time pass, and everything happen that is due meanwhile.
        """
        end = time.monotonic() + timeout
        with self.changed:
            target = self.now + by
            while True:
                if not self.changed.wait_for(self._idle, end - time.monotonic()):
                    raise TimeoutError(f"not idle within {timeout:g} s: {self.under_way()}")
                moment = self._calendar.next()
                if moment is None or moment > target:
                    break
                self._skip_to(moment)
            self.now = max(self.now, target)
            self.changed.notify_all()

    def under_way(self) -> str:
        """
        What keeps time from skipping, in words.
        """
        with self.changed:
            flying = [f"{work.kind} {work.name!r}" for work in self._flying.values()]
            ready = [f"{work.kind} {work.name!r}" for work in self._ready]
        told = f"the worker works on {', '.join(flying) or 'nothing'}; {', '.join(ready) or 'nothing'} is ready for it"
        return told if self.streams else f"no worker is connected; {told}"

    def _idle(self) -> bool:
        return not self._ready and not self._flying

    def _move(self) -> None:
        """
        After every change: skip while time may, then wake everybody.
        """
        # A waiter that has what it waits for keeps the clock where it is, though it may not have run yet.
        while self._idle() and (self._skip_always or any(not until() for until in self._waiters)):
            moment = self._calendar.next()
            if moment is None:
                break
            self._skip_to(moment)
        self.changed.notify_all()

    def _skip_to(self, moment: datetime) -> None:
        self.now = max(self.now, moment)
        for act in self._calendar.pop(moment):
            act()
        self.changed.notify_all()

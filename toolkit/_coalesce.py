"""
Concurrent reads of different keys as bulk reads, between the driver and the port; the core knows nothing of it.

A read goes out by itself while few are under way. Once many are, further ones gather until one of those comes back;
then all that wait go out as one ``GetBulkState``, the oldest of them leading, two such calls at a time at most. A key
that several wait for is asked for once: the read starts after all of them asked, so it is as fresh for each. Nobody
waits for a timer, and a lone key goes as a plain call.

A transaction that reads a few keys at once takes part with all of them; what the shared read is not sure of it is told so.

A bulk read is only taken at its word where it is sure. A key it does not return, or returns an error for, is read by
itself, and so is every key of a bulk read that failed. It has no consistency option, so it is used only where the
store's reads are strong without one. Writes are not gathered: see ADR 16.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from toolkit._interrupts import Signal
from toolkit.core.model import Reply, Row
from toolkit.ports import AsyncStatePort, StatePort
from toolkit.stores import Profile

R = TypeVar("R")

# Reads under way before further ones gather: below that, waiting for one another costs more than it saves.
FREE: Final = 8
# Keys in one bulk read, and bulk reads under way.
MOST_KEYS: Final = 64
MOST_BULKS: Final = 2
# Keys that somebody may read at once and still share the call.
MOST_SHARED: Final = 16
# Seconds without bulk reads after one of them failed.
SORE: Final = 1.0
OVERDUE: Final = Reply("DEADLINE_EXCEEDED", "the time was up while the read waited for others")
UNSURE: Final = Reply("UNAVAILABLE", "a read shared with others did not answer for this key")


def pays(profile: Profile) -> bool:
    """
    Whether a store answers many keys in one call, as strongly as one by one.

    >>> from toolkit.stores import find
    >>> pays(find("state.postgresql", "v2")), pays(find("state.redis", "v1"))
    (True, False)
    """
    return profile.bulk_pays and profile.linearizable and not profile.strong_reads


class Read:
    """
    A read that waits for others.

    Attributes:
        rows: What a bulk read returned; a key that is not there is to be read by itself.
        done: It was answered, or its caller is gone.
        event: Set when there is an answer, or the lead.
    """

    __slots__ = ("done", "event", "keys", "lead", "rows", "strong", "until")

    def __init__(self, keys: Sequence[str], until: float, event: Any, *, strong: bool) -> None:
        self.keys, self.until, self.event, self.strong = keys, until, event, strong
        self.rows: Mapping[str, Row] = {}
        self.lead = self.done = False


class Gathering:
    """
    Who reads at once and who waits; where there are threads the caller holds the lock, but for ``flying``.

    Attributes:
        flying: One entry for each read that goes by itself: ``append`` inside of a ``try`` and ``pop`` in its ``finally``,
            without a lock and in C, so that no interrupt leaves a read counted. Two threads at once may be one too many.
    """

    def __init__(self) -> None:
        self.waiting: deque[Read] = deque()
        self.flying: list[None] = []
        self.bulks = 0
        self.leader: Read | None = None
        self.sore_until = 0.0

    def free(self) -> bool:
        """
        Whether a read may go out at once; else it is to ``wait``.
        """
        return len(self.flying) < FREE or time.monotonic() < self.sore_until

    def wait(self, one: Read) -> None:
        """
        Wait for others. A read that comes back looks for those who wait; after the last of them there would be none.
        """
        self.waiting.append(one)
        if len(self.flying) < FREE:
            self.appoint()

    def appoint(self) -> None:
        """
        Give the lead to the oldest that waits; what else has gathered by the time it starts goes with it.
        """
        if self.waiting and self.leader is None and self.bulks < MOST_BULKS:
            leader = self.leader = self.waiting[0]
            self.bulks += 1
            leader.lead = True
            leader.event.set()

    def board(self, leader: Read, batch: list[Read]) -> None:
        """
        Put the leader and all that wait into a batch, up to so many keys.
        """
        self.waiting.remove(leader)
        batch.append(leader)
        keys = set(leader.keys)
        while self.waiting and len(keys.union(self.waiting[0].keys)) <= MOST_KEYS:
            keys.update(self.waiting[0].keys)
            batch.append(self.waiting[0])
            self.waiting.popleft()
        self.leader = None
        self.appoint()

    def answer(self, batch: Sequence[Read], keys: Sequence[str], rows: Sequence[Row | Reply]) -> None:
        """
        Hand out what was read: by a bulk read, or by a plain one for a lone key, which can also tell that it is missing.
        """
        lone = len(keys) == 1
        sure = {
            key: row
            for key, row in zip(keys, rows, strict=True)
            if isinstance(row, Row) and (lone or not row.missing)
        }
        if not lone and all(isinstance(row, Reply) for row in rows):
            self.sore_until = time.monotonic() + SORE
        for one in batch:
            one.rows, one.done = sure, True
            one.event.set()

    def leave(self, one: Read, batch: Sequence[Read]) -> None:
        """
        A caller has its answer, or is gone: then those it was to lead wait again, and another one leads.

        Where an interrupt strikes it is done again, so nothing here is a place to strike at but before and after a change.
        """
        waiting = self.waiting
        back = [
            other for other in reversed(batch) if not (other.done or other is one) and other not in waiting
        ]
        waits = one in waiting
        one.done = True
        if one.lead:
            one.lead = False
            self.bulks -= 1
            if self.leader is one:
                self.leader = None
            waiting.extendleft(back)
        if waits:
            waiting.remove(one)
        self.appoint()


def keys_of(batch: Sequence[Read]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(key for one in batch for key in one.keys))


def _told(mine: Read) -> tuple[Row | Reply, ...]:
    """
    What somebody who reads several keys learns from a shared read.
    """
    return tuple([mine.rows.get(key, UNSURE) for key in mine.keys])


class Coalescer:
    """
    A port whose concurrent reads share calls; safe for any number of threads.
    """

    def __init__(self, port: StatePort) -> None:
        self.port, self.gathering, self.lock = port, Gathering(), threading.Lock()
        self.connect, self.close = port.connect, port.close
        self.get_all = port.get_all
        self.put, self.put_all, self.multi = port.put, port.put_all, port.multi

    def get(self, key: str, *, strong: bool, timeout: float) -> Row | Reply:
        if self.gathering.free():
            return self._alone(self.port.get, key, strong=strong, timeout=timeout)
        mine = self._together((key,), timeout, strong=strong)
        row, left = mine.rows.get(key), mine.until - time.monotonic()
        if row is not None:
            return row
        return self.port.get(key, strong=strong, timeout=left) if left > 0 else OVERDUE

    def get_bulk(self, keys: Sequence[str], *, timeout: float) -> tuple[Row | Reply, ...]:
        """
        Several keys of one caller; what a shared read is not sure of comes as a failure.
        """
        if len(keys) > MOST_SHARED:
            return self.port.get_bulk(keys, timeout=timeout)
        if self.gathering.free():
            return self._alone(self.port.get_bulk, keys, timeout=timeout)
        return _told(self._together(keys, timeout, strong=True))

    def _alone(self, read: Callable[..., R], *args: Any, **settings: Any) -> R:
        """
        Read without the others.
        """
        flying = self.gathering.flying
        try:
            flying.append(None)
            return read(*args, **settings)
        finally:
            try:
                flying.pop()
                self._landed()
            except BaseException:
                self._landed()  # an interrupt has struck before those who wait were looked for
                raise

    def _landed(self) -> None:
        if self.gathering.waiting:
            with self.lock:
                self.gathering.appoint()

    def _together(self, keys: Sequence[str], timeout: float, *, strong: bool) -> Read:
        mine = Read(keys, time.monotonic() + timeout, Signal(), strong=strong)
        batch: list[Read] = []
        try:
            with self.lock:
                self.gathering.wait(mine)
            mine.event.wait(max(mine.until - time.monotonic(), 0.0))
            if mine.lead:
                self._lead(mine, batch)
        finally:
            try:
                self._left(mine, batch)
            except BaseException:
                self._left(mine, batch)
                raise
        return mine

    def _left(self, mine: Read, batch: list[Read]) -> None:
        with self.lock:
            self.gathering.leave(mine, batch)

    def _lead(self, mine: Read, batch: list[Read]) -> None:
        with self.lock:
            self.gathering.board(mine, batch)
        keys, left = keys_of(batch), mine.until - time.monotonic()
        if left <= 0:
            return
        if len(keys) == 1:
            rows: tuple[Row | Reply, ...] = (
                self.port.get(keys[0], strong=any(one.strong for one in batch), timeout=left),
            )
        else:
            rows = self.port.get_bulk(keys, timeout=left)
        with self.lock:
            self.gathering.answer(batch, keys, rows)


class AsyncCoalescer:
    """
    The same for one event loop.
    """

    def __init__(self, port: AsyncStatePort, make_event: Callable[[], Any]) -> None:
        self.port, self.gathering, self.make_event = port, Gathering(), make_event
        self.connect, self.close = port.connect, port.close
        self.get_all = port.get_all
        self.put, self.put_all, self.multi = port.put, port.put_all, port.multi

    async def get(self, key: str, *, strong: bool, timeout: float) -> Row | Reply:
        if self.gathering.free():
            try:
                self.gathering.flying.append(None)
                return await self.port.get(key, strong=strong, timeout=timeout)
            finally:
                self._landed()
        mine = await self._together((key,), timeout, strong=strong)
        row, left = mine.rows.get(key), mine.until - time.monotonic()
        if row is not None:
            return row
        return await self.port.get(key, strong=strong, timeout=left) if left > 0 else OVERDUE

    async def get_bulk(self, keys: Sequence[str], *, timeout: float) -> tuple[Row | Reply, ...]:
        """
        See ``Coalescer.get_bulk``.
        """
        if len(keys) > MOST_SHARED:
            return await self.port.get_bulk(keys, timeout=timeout)
        if self.gathering.free():
            try:
                self.gathering.flying.append(None)
                return await self.port.get_bulk(keys, timeout=timeout)
            finally:
                self._landed()
        return _told(await self._together(keys, timeout, strong=True))

    def _landed(self) -> None:
        self.gathering.flying.pop()
        if self.gathering.waiting:
            self.gathering.appoint()

    async def _together(self, keys: Sequence[str], timeout: float, *, strong: bool) -> Read:
        import anyio  # slow to import; the sync colour does without

        mine = Read(keys, time.monotonic() + timeout, self.make_event(), strong=strong)
        batch: list[Read] = []
        try:
            self.gathering.wait(mine)
            with anyio.move_on_after(mine.until - time.monotonic()):
                await mine.event.wait()
            if mine.lead:
                await self._lead(mine, batch)
        finally:
            self.gathering.leave(mine, batch)
        return mine

    async def _lead(self, mine: Read, batch: list[Read]) -> None:
        self.gathering.board(mine, batch)
        keys, left = keys_of(batch), mine.until - time.monotonic()
        if left <= 0:
            return
        if len(keys) == 1:
            rows: tuple[Row | Reply, ...] = (
                await self.port.get(keys[0], strong=any(one.strong for one in batch), timeout=left),
            )
        else:
            rows = await self.port.get_bulk(keys, timeout=left)
        self.gathering.answer(batch, keys, rows)


def coalesced(port: StatePort, profile: Profile) -> StatePort:
    """
    The port with shared reads, where they pay.
    """
    return Coalescer(port) if pays(profile) else port


def coalesced_async(port: AsyncStatePort, profile: Profile, make_event: Callable[[], Any]) -> AsyncStatePort:
    """
    The same for an event loop.
    """
    return AsyncCoalescer(port, make_event) if pays(profile) else port

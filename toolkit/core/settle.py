"""
Reading with patience, and finding out what became of a write.
"""

from __future__ import annotations

from typing import Final

import msgspec

from toolkit.core.compose import Content, body, conditional, content_of, garbage_ttl, successor
from toolkit.core.judge import Base, Fate, Receipt, judge
from toolkit.core.model import ABSENT, MISSING_ROW, UNSENT, Reply, Row, Write
from toolkit.core.seen import Seen, see
from toolkit.core.site import Site, refusal, rpc_timeout, unavailable
from toolkit.core.stamp import WriteId
from toolkit.core.steps import NOW, Chance, Get, Instant, Now, Pause, Put, Steps
from toolkit.core.sweep import Ghost
from toolkit.core.value import decode, encode
from toolkit.errors import CorruptValueError
from toolkit.stores import Call, Verdict, says_missing

# The part of a deadline kept back so that a fence can still be sent and answered.
FENCE_RESERVE: Final = 0.2
MAX_RESERVE: Final = 1.0
FENCE_TRIES: Final = 3


def read(site: Site, key: str, deadline: float, *, strong: bool = True) -> Steps[Seen]:
    """
    Read one key, trying again until the deadline.

    Raises:
        StoreUnavailableError: No answer within the deadline.
        CorruptValueError: The stored bytes cannot be read.
    """
    started = (yield from Now()).mono
    return (yield from read_since(site, key, started, deadline, strong=strong))[0]


def read_since(
    site: Site, key: str, started: float, deadline: float, *, strong: bool = True
) -> Steps[tuple[Seen, Instant]]:
    """
    ``read`` for a caller who has just looked at the clock, and will want to know when the answer came.
    """
    before = started
    tries = 0
    while True:
        answer: Row | Reply = yield Get(key, rpc_timeout(deadline, before), strong)
        now: Instant = yield NOW
        after = now.mono
        if not isinstance(answer, Reply):
            site.round_trip.add(after - before)
            return site.rows.see(key, answer), now
        if says_missing(site.profile, answer.code, answer.text):
            return site.rows.see(key, MISSING_ROW), now
        if site.judge_reply(Call.GET, answer, key) is Verdict.INVALID:
            raise refusal(site.store, key, answer)
        tries += 1
        wait = yield from backoff(tries)
        if after + wait >= deadline:
            raise unavailable(site.store, key, after - started, answer)
        yield from Pause(wait)
        before = (yield from Now()).mono


def backoff(failures: int) -> Steps[float]:
    """
    Seconds to wait after so many failures in a row that were no conflicts.
    """
    chance = yield from Chance()
    return min(0.5, 0.01 * 2.0 ** min(failures - 1, 10)) * (0.5 + chance / 2)


class Settled(msgspec.Struct, frozen=True):
    """
    What became of a write.

    Attributes:
        seen: The read that told, when there was one and it is still good to build on.
        reply: The last answer to the write itself.
        contended: Somebody else's write was seen (as opposed to an outage).
    """

    fate: Fate
    seen: Seen | None
    reply: Reply
    contended: bool = False


class Flight(msgspec.Struct, frozen=True):
    """
    What is under way: enough to hand a receipt to a caller that cannot wait for its end.
    """

    seen: Seen
    write: WriteId
    wall: float

    @property
    def receipt(self) -> Receipt:
        return Receipt(self.seen.key, self.write, Base.of(self.seen), self.wall)


class Sent(msgspec.Struct, frozen=True):
    """
    A write under way: what it was built on, its bytes, its id, the moment by which its fate must be known.
    """

    seen: Seen
    write: Write
    id: WriteId
    deadline: float
    budget: float = 10.0

    @property
    def call(self) -> Call:
        return call_of(self.seen)

    @property
    def bare(self) -> bool:
        """
        It is a list or scalar, which has no room for an id; an object always carries a stamp.
        """
        return not (self.write.data or b"").startswith(b"{")

    @property
    def fence_at(self) -> float:
        return self.deadline - min(MAX_RESERVE, FENCE_RESERVE * self.budget)


def call_of(seen: Seen) -> Call:
    """
    What a write built on this read is to the store.
    """
    return Call.CREATE if seen.row.missing else Call.CAS


def landed(site: Site, seen: Seen, reply: Reply) -> bool:
    """
    Whether this is a clean yes of a truthful store, which says it all.
    """
    lies = site.profile.lies
    return reply.code == "OK" and (not lies or call_of(seen) not in lies)


def settle(site: Site, sent: Sent, reply: Reply) -> Steps[Settled]:
    """
    Find out what became of a write whose first answer is at hand.

    Raises:
        StateError: The request was refused for good; nothing was written.
    """
    if landed(site, sent.seen, reply):
        return Settled(Fate.LANDED, None, reply)
    if reply.code == UNSENT:
        return Settled(Fate.LOST, sent.seen, reply)
    verdict = site.judge_reply(sent.call, reply, sent.write.key)
    if verdict is Verdict.INVALID:
        raise refusal(site.store, sent.write.key, reply, len(sent.write.data or b""))
    refused = verdict is Verdict.CONFLICT and (sent.bare or not site.profile.resends)
    ghost = Ghost(site, sent.write.key, sent.call)
    tries = 0
    while True:
        now = (yield from Now()).mono
        answer = yield from Get(sent.write.key, rpc_timeout(sent.deadline, now))
        now = (yield from Now()).mono
        seen = understand(sent.write.key, answer)
        if seen is not None:
            fate = _fate(site, sent, seen, refused=refused)
            if fate is not Fate.PENDING:
                return Settled(fate, seen, reply, contended=True)
        if now >= sent.fence_at:
            return (
                (yield from fence(site, sent, reply))
                if seen is not None
                else Settled(Fate.UNKNOWABLE, None, reply)
            )
        tries += 1
        wait = 0.0 if tries == 1 else (yield from backoff(tries - 1))
        if wait:
            yield from Pause(min(wait, max(sent.fence_at - now, 0.0)))
        if seen is None:
            continue
        yield from ghost.refused(verdict, rpc_timeout(sent.deadline, now))
        # The version it was built on still stands: send the very same bytes again; at most one copy can win. Whatever was
        # answered so far, a conflict it was not: from here on no answer proves a miss.
        refused = False
        now = (yield from Now()).mono
        reply = yield from Put(sent.write, rpc_timeout(sent.deadline, now))
        verdict = site.judge_reply(sent.call, reply, sent.write.key)
        if verdict is Verdict.COMMITTED and sent.call not in site.profile.lies:
            return Settled(Fate.LANDED, None, reply)


def _fate(site: Site, sent: Sent, seen: Seen, *, refused: bool) -> Fate:
    """
    What the read proves; equal ETags over other bytes are another life of the key on a store that repeats ETags.
    """
    counts = site.profile.etag_counts and not _may_be_mine(sent, seen)
    fate = judge(Base.of(sent.seen), sent.id, seen, refused=refused, counts=counts)
    if fate is Fate.PENDING and seen.row.data != sent.seen.row.data:
        return Fate.UNKNOWABLE
    return fate


def _may_be_mine(sent: Sent, seen: Seen) -> bool:
    """
    Whether what stands there can be a write that carries no id: only another value tells that it is not.
    """
    return sent.bare and seen.plain and seen.value == decode(sent.write.data or b"", sent.write.key)


def understand(key: str, answer: Row | Reply) -> Seen | None:
    """
    What a read after a write tells, if it tells anything; rubbish under the key is no reason to stop asking.
    """
    if not isinstance(answer, Row):
        return None
    try:
        return see(key, answer)
    except CorruptValueError:
        # A plain writer's rubbish: it is no evidence either way, and it is not ours to repair here.
        return Seen(key, answer, {}, ABSENT, None, valid=False, plain=True)


def fence_write(site: Site, seen: Seen, id: WriteId, wall: float) -> Write:
    """
    The same value again, on the same version: once it has landed, nothing built on that version can.
    """
    if seen.plain:
        return conditional(site.profile, seen, encode(seen.value, seen.key), None)
    gone = seen.value is ABSENT
    content = content_of(ABSENT, envelope=False) if gone else _as_it_is(seen)
    stamp = successor(seen, content, id, wall, kind="fence")
    ttl = garbage_ttl(gone, stamp.expires, wall, site.rules.op_window)
    return conditional(site.profile, seen, body(seen.key, content.members, stamp), ttl)


def _as_it_is(seen: Seen) -> Content:
    return Content(seen.members, envelope=seen.stamp is not None and seen.stamp.envelope)


def fence(site: Site, sent: Sent, reply: Reply) -> Steps[Settled]:
    """
    Make sure that a write which has not landed never will.

    Only a clean yes of the fence proves a miss; after any other answer the stored value is read again.
    """
    seen = sent.seen
    for _ in range(FENCE_TRIES):
        now = yield from Now()
        write = fence_write(site, seen, site.writers.fresh().next_id(), now.wall)
        answer = yield from Put(write, rpc_timeout(sent.deadline + MAX_RESERVE / 2, now.mono))
        verdict = site.judge_reply(sent.call, answer, sent.write.key)
        if verdict is Verdict.COMMITTED and sent.call not in site.profile.lies:
            return Settled(Fate.LOST, None, reply)
        now = yield from Now()
        after = understand(
            sent.write.key, (yield from Get(sent.write.key, rpc_timeout(sent.deadline, now.mono)))
        )
        if after is not None:
            fate = _fate(site, sent, after, refused=False)
            if fate is not Fate.PENDING:
                return Settled(fate, after, reply, contended=fate is Fate.LOST)
        if now.mono >= sent.deadline:
            break
    return Settled(Fate.UNKNOWABLE, None, reply)

"""
Whoever meets an intent finds out what became of its transaction, decides it if nobody will, and tidies up.

Safety never depends on leases or clocks: anybody may decide at any time, and everybody obeys the record. Leases and
age only say when it is polite.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import msgspec
import msgspec.structs
from msgspec.structs import replace

from toolkit.core.compose import Content, body, conditional, garbage_ttl, successor
from toolkit.core.intents import Intent, effective, finished, intent_of
from toolkit.core.model import Row, Write
from toolkit.core.records import OP_PREFIX, Record, abort, dump, load
from toolkit.core.seen import Seen
from toolkit.core.settle import backoff, read
from toolkit.core.site import Site, rpc_timeout, unavailable
from toolkit.core.stamp import MESSAGE_LIFE
from toolkit.core.steps import Chance, Get, Now, Pause, Put, Steps
from toolkit.stores import Call, Verdict, cas_write, create_write

_FINISH_TRIES: Final = 4
# Seconds to look again at an intent whose owner is expected to be alive.
_LOOK_AGAIN: Final = 0.25


class Age(msgspec.Struct, frozen=True):
    """
    Who goes first when two transactions want one key: the older, by first start and then by name (wound-wait).
    """

    started: float
    tx: str

    def before(self, intent: Intent) -> bool:
        return (self.started, self.tx) < (intent.started, intent.tx)


def read_record(site: Site, key: str, deadline: float) -> Steps[Record]:
    """
    Read a record, trying again until the deadline.
    """
    tries = 0
    while True:
        now = yield from Now()
        answer = yield from Get(key, rpc_timeout(deadline, now.mono))
        if isinstance(answer, Row):
            return load(key, answer)
        tries += 1
        wait = yield from backoff(tries)
        if now.mono + wait >= deadline:
            raise unavailable(site.store, key, 0.0, answer)
        yield from Pause(wait)


def record_write(site: Site, base: Record, new: Record) -> Write:
    """
    The conditional write that changes a record as it was read into another.

    A decision has no TTL until its keys are finished; an attempt that is merely aborted may carry one at once.
    """
    life: float | None = None
    if new.done or not new.committed:
        life = site.op_ttl if new.key.startswith(OP_PREFIX) else MESSAGE_LIFE
    ttl = math.ceil(life) if life is not None and site.rules.has_ttl else None
    if base.etag:
        return cas_write(site.profile, new.key, dump(new), base.etag, ttl)
    return create_write(site.profile, new.key, dump(new), ttl)


def status_of(site: Site, intent: Intent, deadline: float) -> Steps[bool | None]:
    """
    Whether an intent's transaction is committed (True), can never be (False), or is undecided (None).
    """
    known = site.decisions.get(intent.tx)
    if known is not None:
        return known
    record = yield from read_record(site, intent.record, deadline)
    decided = record.decides(intent.tx)
    if decided is not None:
        site.decisions.put(intent.tx, decided)
    return decided


def decide_abort(site: Site, record_key: str, tx: str, deadline: float) -> Steps[bool]:
    """
    Make sure that an attempt is decided, against it if it is still open; says what was decided.

    Any answer but a clean yes is settled by reading the record again: a mismatch here may be the other side's commit.
    """
    tries = 0
    while True:
        record = yield from read_record(site, record_key, deadline)
        decided = record.decides(tx)
        if decided is None:
            now = yield from Now()
            write = record_write(site, record, abort(record, tx, at=now.wall))
            reply = yield from Put(write, rpc_timeout(deadline, now.mono))
            call = Call.CAS if record.etag else Call.CREATE
            if (
                site.judge_reply(call, reply, record_key) is Verdict.COMMITTED
                and call not in site.profile.lies
            ):
                decided = False
            else:
                tries += 1
                wait = yield from backoff(tries)
                if now.mono + wait >= deadline:
                    raise unavailable(site.store, record_key, 0.0, reply)
                yield from Pause(wait if tries > 1 else 0.0)
        if decided is not None:
            site.decisions.put(tx, decided)
            return decided


def peek(site: Site, seen: Seen, deadline: float) -> Steps[Seen]:
    """
    The key as a reader sees it, without blocking: an undecided intent leaves the old value.

    Whatever became of the transaction, its process is taken for dead some time after its lease.
    """
    intent = intent_of(seen)
    if intent is None:
        return seen
    status = yield from status_of(site, intent, deadline)
    if (yield from Now()).wall > intent.lease + site.skew:
        site.left_behind(seen.key, intent.tx, intent.record)
    return effective(seen, intent, committed=bool(status))


def mend(
    site: Site, key: str, tx: str, record_key: str, deadline: float, may: Callable[[str], bool]
) -> Steps[None]:
    """
    Finish or undo what a dead transaction left on a key; if it has committed, on all its keys that *may* be written.
    """
    committed = yield from decide_abort(site, record_key, tx, deadline)
    record = yield from read_record(site, record_key, deadline)
    if record.committed == tx and all(may(each) for each in record.keys):
        yield from finish(site, record, tx, deadline)
    else:
        yield from finish_key(site, key, tx, committed=committed, deadline=deadline)


def clear(site: Site, seen: Seen, age: Age | None, deadline: float) -> Steps[Seen]:
    """
    The key as a writer may build on it: no undecided intent is left (rule R13).

    An older transaction decides a younger one's fate at once; a younger one, or a single-key update, first leaves the
    owner its lease.
    """
    waits = 0
    met: tuple[str, float] | None = None
    while True:
        intent = intent_of(seen)
        if intent is None:
            return seen
        status = yield from status_of(site, intent, deadline)
        if status is None:
            now = yield from Now()
            if met is None or met[0] != intent.tx:
                met = (intent.tx, now.mono)
            # By this clock too: the owner's may be ahead, and its lease would never seem to end.
            left = min(intent.lease - now.wall, met[1] + site.lease - now.mono)
            patience = 0.0 if age is not None and age.before(intent) else left
            if patience > 0 and now.mono < deadline:
                waits += 1
                chance = yield from Chance()
                unit = max(site.round_trip.seconds, 0.001) * 2.0 ** min(waits, 6)
                yield from Pause(
                    min(patience, _LOOK_AGAIN, unit * (0.5 + chance / 2), max(deadline - now.mono, 0.001))
                )
                seen = yield from read(site, seen.key, deadline)
                continue
            status = yield from decide_abort(site, intent.record, intent.tx, deadline)
        return effective(seen, intent, committed=status)


def finish_key(site: Site, key: str, tx: str, *, committed: bool, deadline: float) -> Steps[bool]:
    """
    Roll one key forward or back; says whether it is known to carry this transaction's intent no more.
    """
    for _ in range(_FINISH_TRIES):
        now = yield from Now()
        if now.mono >= deadline:
            return False
        seen = yield from read(site, key, deadline)
        write = _finishing(site, seen, tx, committed=committed, wall=now.wall)
        if write is None:
            return True
        reply = yield from Put(write, rpc_timeout(deadline, now.mono))
        if site.judge_reply(Call.CAS, reply, key) is Verdict.COMMITTED and Call.CAS not in site.profile.lies:
            return True
    return False


def _finishing(site: Site, seen: Seen, tx: str, *, committed: bool, wall: float) -> Write | None:
    intent = intent_of(seen)
    stamp = seen.stamp
    deleted = committed and intent is not None and intent.kind == "delete"
    if intent is not None and intent.tx == tx:
        members, after = finished(seen, intent, committed=committed)
    elif stamp is not None and stamp.intent is not None and stamp.intent.get("id") == tx:
        # A plain writer changed the members and kept the stamp: its fields stay, the void intent goes (rule R11).
        content = Content(seen.members, envelope=stamp.envelope)
        members = seen.members
        after = msgspec.structs.replace(
            successor(seen, content, site.writers.fresh().next_id(), wall), intent=None
        )
    else:
        return None
    life = max(site.op_ttl, MESSAGE_LIFE) if deleted else site.rules.op_window
    ttl = garbage_ttl(after.gone, after.expires, wall, life) if site.rules.has_ttl else None
    return conditional(site.profile, seen, body(seen.key, members, after), ttl)


def finish(site: Site, record: Record, tx: str, deadline: float) -> Steps[bool]:
    """
    Finish every key of a decided attempt, then let its record expire; says whether nothing is left.
    """
    committed = record.committed == tx
    clean = True
    for key in record.keys:
        clean = (yield from finish_key(site, key, tx, committed=committed, deadline=deadline)) and clean
    if not clean or not committed:
        return clean
    current = yield from read_record(site, record.key, deadline)
    if current.etag and not current.done and current.committed == tx:
        now = yield from Now()
        yield from Put(
            record_write(site, current, replace(current, done=True)), rpc_timeout(deadline, now.mono)
        )
    return True

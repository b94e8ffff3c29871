"""
The three ways to commit: one key by compare-and-set, the store's own transaction, or intents and a record.

``single`` and ``native`` are decided by the store; what became of them is read from the slots in the stamps. ``intents``
is decided by one record:

1. Prepare: every key read or written gets an intent, by compare-and-set from the row that was read.
2. When each of them is known to be in place, create the record that commits. Nothing removes an intent but a decision,
   so no second look at the keys is needed: an attempt somebody has aborted finds its record there already.
3. Any answer to that but a clean yes: read the record and obey it; if it is absent, send the same create again.
4. Finishing the keys is for later, and for anybody.

If a prepare was refused and the winner is no younger transaction that may be pushed aside, the attempt aborts itself by
the same record. Each of these steps was checked by model (``docs/adr/0010-intents.md``, ``tests/model``).
"""

from __future__ import annotations

import enum
from typing import Any, Final, Literal, TypeAlias

import msgspec
import msgspec.structs
from msgspec.structs import replace

from toolkit.core.compose import (
    MESSAGE_LIMIT,
    Content,
    body,
    conditional,
    content_of,
    garbage_ttl,
    limit_of,
    successor,
)
from toolkit.core.intents import Intent, IntentKind, intent_of, prepared
from toolkit.core.judge import Base, Fate, judge
from toolkit.core.model import ABSENT, Reply, Row, Write
from toolkit.core.records import Record, commit, tx_key
from toolkit.core.recovery import Age, clear, decide_abort, read_record, record_write, status_of
from toolkit.core.seen import Seen, see
from toolkit.core.settle import Sent, Settled, backoff, fence, fence_write, settle
from toolkit.core.site import Site, refusal, rpc_timeout
from toolkit.core.stamp import Stamp, WriteId
from toolkit.core.steps import GetAll, Multi, Now, Pause, Put, PutAll, Steps
from toolkit.core.sweep import Ghost
from toolkit.core.value import encode
from toolkit.errors import StateError, TooManyOperationsError, ValueTooLargeError
from toolkit.stores import Call, Verdict

Path: TypeAlias = Literal["single", "native", "intents"]
# How often one attempt may push younger transactions aside before it starts over.
_PUSHES: Final = 3
_RESENDS: Final = 3


class Part(msgspec.Struct, frozen=True):
    """
    What a commit does to one key.

    Attributes:
        seen: The row to build on, without an undecided intent.
        kind: ``lock`` for a key that was only read.
        value: The new value for ``put``.
        version: The version the body saw; ``None`` when it saw none (a blind put).
    """

    key: str
    seen: Seen
    kind: IntentKind
    value: Any = ABSENT
    expires: float | None = None
    version: str | None = None


class Plan(msgspec.Struct, frozen=True):
    """
    One attempt to commit: its parts in key order, its id, and the record of its operation id, if any.
    """

    parts: tuple[Part, ...]
    id: WriteId
    age: Age
    deadline: float
    record: Record | None = None
    outcome: Record | None = None

    @property
    def tx(self) -> str:
        return str(self.id)


class Ending(enum.Enum):
    """
    How an attempt ended: COMMITTED; LOST to somebody else's write; FAILED without a rival (an outage); UNKNOWN.
    """

    COMMITTED = "committed"
    LOST = "lost"
    FAILED = "failed"
    UNKNOWN = "unknown"


class Ended(msgspec.Struct, frozen=True):
    """
    The end of an attempt.

    Attributes:
        rival: The read that shows who won, when somebody did.
        base: The part that lost.
        reply: The last answer of the store.
        record: The record that decided, with the keys to be finished; only on the path of intents.
        fresh: Reads made on the way, good to start the next attempt from.
    """

    ending: Ending
    reply: Reply
    rival: Seen | None = None
    base: Part | None = None
    record: Record | None = None
    fresh: tuple[Seen, ...] = ()


# -- what is written -----------------------------------------------------------------------------------------------


def _content(site: Site, part: Part) -> Content:
    if part.kind == "put":
        stamp = part.seen.stamp
        return content_of(part.value, envelope=site.rules.envelope or (stamp is not None and stamp.envelope))
    if part.kind == "delete" or part.seen.value is ABSENT:
        return Content({}, gone=True)
    stamp = part.seen.stamp
    return Content(part.seen.members, envelope=stamp is not None and stamp.envelope)


def _final(site: Site, part: Part, id: WriteId, wall: float) -> Write:
    """
    The write of one key on the paths that need no intent.
    """
    content = _content(site, part)
    if part.kind == "lock" and part.seen.plain:
        return conditional(site.profile, part.seen, encode(part.seen.value, part.key), None)
    if content.bare is not None:
        return _sized(site, conditional(site.profile, part.seen, encode(content.bare, part.key), None))
    stamp = successor(part.seen, content, id, wall, idle=site.writers.idle)
    if part.kind != "lock":
        stamp = msgspec.structs.replace(stamp, expires=part.expires)
    return _stamped(site, part, content.members, stamp, wall)


def _stamped(site: Site, part: Part, members: dict[str, Any], stamp: Stamp, wall: float) -> Write:
    life = site.op_ttl if part.kind == "delete" else site.rules.op_window
    ttl = garbage_ttl(stamp.gone, stamp.expires, wall, life) if site.rules.has_ttl else None
    return _sized(site, conditional(site.profile, part.seen, body(part.key, members, stamp), ttl))


def _sized(site: Site, write: Write) -> Write:
    size, limit = len(write.data or b""), limit_of(site.profile)
    if size > limit:
        raise ValueTooLargeError(
            f"key {write.key!r}: {size} bytes with the stamp (and, during a transaction, the old and the new value) are "
            f"over the {limit} bytes this store takes; store less under one key",
            key=write.key,
        )
    return write


# -- single --------------------------------------------------------------------------------------------------------


def commit_single(site: Site, plan: Plan) -> Steps[Ended]:
    """
    One key, one compare-and-set.
    """
    (part,) = plan.parts
    now = yield from Now()
    write = _final(site, part, plan.id, now.wall)
    sent = Sent(part.seen, write, plan.id, plan.deadline, site.policy.deadline)
    reply = yield from Put(write, rpc_timeout(plan.deadline, now.mono))
    settled = yield from settle(site, sent, reply)
    return _ended(settled, part)


def _ended(settled: Settled, part: Part) -> Ended:
    if settled.fate is Fate.LANDED:
        return Ended(Ending.COMMITTED, settled.reply)
    if settled.fate is Fate.LOST:
        ending = Ending.LOST if settled.contended else Ending.FAILED
        return Ended(ending, settled.reply, settled.seen, part)
    return Ended(Ending.UNKNOWN, settled.reply, base=part)


# -- native --------------------------------------------------------------------------------------------------------


def commit_native(site: Site, plan: Plan) -> Steps[Ended]:
    """
    The store's own transaction: written keys, read keys rewritten with their ETag, and the op record.
    """
    now = yield from Now()
    writes = [_final(site, part, plan.id, now.wall) for part in plan.parts]
    if plan.record is not None and plan.outcome is not None:
        keys_of = tuple(part.key for part in plan.parts)
        final = replace(commit(plan.outcome, plan.tx, keys_of, at=now.wall), done=True)
        writes.append(record_write(site, plan.record, final))
    _check_limits(site, writes)
    tries = 0
    while True:
        now = yield from Now()
        reply = yield from Multi(tuple(writes), rpc_timeout(plan.deadline, now.mono))
        keys = [write.key for write in writes]
        verdict = site.judge_reply(Call.MULTI, reply, *keys)
        if verdict is Verdict.COMMITTED and Call.MULTI not in site.profile.lies:
            return Ended(Ending.COMMITTED, reply)
        if verdict is Verdict.INVALID:
            raise refusal(site.store, keys[0], reply, sum(len(write.data or b"") for write in writes))
        refused = verdict is Verdict.CONFLICT and not site.profile.resends and tries == 0
        ended = yield from _look_native(site, plan, reply, refused=refused)
        if ended is None and verdict is Verdict.CONFLICT and site.profile.ghosts:
            ended = yield from _lay_stubs(site, plan, reply)
        if ended is not None:
            return ended
        tries += 1
        now = yield from Now()
        wait = yield from backoff(tries)
        if now.mono + wait >= plan.deadline - 1.0:
            return (yield from _fence_native(site, plan, reply))
        yield from Pause(wait if tries > 1 else 0.0)


def _check_limits(site: Site, writes: list[Write]) -> None:
    most = site.profile.max_operations
    if most and len(writes) > most:
        raise TooManyOperationsError(
            f"the transaction has {len(writes)} operations (every key it read counts), store {site.store!r} takes "
            f"{most}; read fewer keys, or use tx.peek for those that need no guard"
        )
    size = sum(len(write.data or b"") for write in writes)
    if size > MESSAGE_LIMIT:
        raise ValueTooLargeError(
            f"the transaction carries {size} bytes, one message takes {MESSAGE_LIMIT}; write less at once",
            key=writes[0].key,
        )


def _look_native(site: Site, plan: Plan, reply: Reply, *, refused: bool) -> Steps[Ended | None]:
    """
    Find out from the keys what became of an atomic transaction; ``None`` while it may still land.

    One key that carries the id proves all; one key that proves the opposite proves all, too.
    """
    now = yield from Now()
    keys = tuple(part.key for part in plan.parts)
    answers = yield from GetAll(keys, rpc_timeout(plan.deadline, now.mono))
    pending, unknowable = False, True
    lost: tuple[Part, Seen] | None = None
    fresh: list[Seen] = []
    for part, answer in zip(plan.parts, answers, strict=True):
        if isinstance(answer, Reply):
            pending = True
            continue
        seen = see(part.key, answer)
        fresh.append(seen)
        fate = judge(Base.of(part.seen), plan.id, seen, refused=refused)
        if fate is Fate.LANDED:
            return Ended(Ending.COMMITTED, reply)
        if fate is Fate.LOST:
            lost = lost or (part, seen)
        pending = pending or fate is Fate.PENDING
        unknowable = unknowable and fate is Fate.UNKNOWABLE
    if lost is not None:
        return Ended(Ending.LOST, reply, lost[1], lost[0], fresh=tuple(fresh))
    if plan.record is not None:
        record = yield from read_record(site, plan.record.key, plan.deadline)
        if record.committed == plan.tx:
            return Ended(Ending.COMMITTED, reply)
        if record.etag != plan.record.etag:
            return Ended(Ending.LOST, reply, None, plan.parts[0] if plan.parts else None)
    if unknowable and not pending and plan.parts:
        return Ended(Ending.UNKNOWN, reply, base=plan.parts[0])
    return None


def _lay_stubs(site: Site, plan: Plan, reply: Reply) -> Steps[Ended | None]:
    """
    The transaction was refused though every key is as it was read: an expired row stands where one seems absent.

    A stub on each such key sweeps it, and makes sure that this attempt, which is to create the key, never lands: the
    next one writes over the stubs.
    """
    laid: Part | None = None
    for part in plan.parts:
        if not part.seen.row.missing:
            continue
        now = yield from Now()
        mark = site.writers.fresh().next_id()
        write = fence_write(site, part.seen, mark, now.wall)
        stub = Sent(part.seen, write, mark, plan.deadline, site.policy.deadline)
        first = yield from Put(write, rpc_timeout(plan.deadline, now.mono))
        settled = yield from settle(site, stub, first)
        laid = part if settled.fate is Fate.LANDED else laid
    return None if laid is None else Ended(Ending.FAILED, reply, None, laid)


def _fence_native(site: Site, plan: Plan, reply: Reply) -> Steps[Ended]:
    """
    Make sure that a transaction that has not landed never will: one key moved is enough, it is atomic.
    """
    if not plan.parts:
        return Ended(Ending.UNKNOWN, reply)
    part = plan.parts[0]
    empty = Write(part.key, b"")
    settled = yield from fence(
        site, Sent(part.seen, empty, plan.id, plan.deadline, site.policy.deadline), reply
    )
    return _ended(settled, part)


# -- intents -------------------------------------------------------------------------------------------------------


def commit_intents(site: Site, plan: Plan) -> Steps[Ended]:
    """
    Intents on every key, then one record that decides.
    """
    record = plan.record if plan.record is not None else Record(tx_key(plan.tx))
    outcome = plan.outcome if plan.outcome is not None else record
    keys = tuple(part.key for part in plan.parts)
    try:
        stuck = yield from _prepare(site, plan, record.key)
    except StateError:
        yield from _abort(site, plan, record.key)
        raise
    if stuck is None:
        now = yield from Now()
        # Without keys there is nothing to finish: the record may expire from the start.
        final = replace(commit(outcome, plan.tx, keys, at=now.wall), done=not keys)
        return (yield from decide(site, plan, record, final))
    committed = yield from _abort(site, plan, record.key)
    ended = replace(undone(plan), committed=plan.tx if committed else "")
    return replace(stuck, record=ended, ending=Ending.COMMITTED if committed else stuck.ending)


def undone(plan: Plan) -> Record:
    """
    The decision against an attempt, with the keys to be cleaned up.
    """
    key = plan.record.key if plan.record is not None else tx_key(plan.tx)
    return Record(key, keys=tuple([part.key for part in plan.parts]))


def _abort(site: Site, plan: Plan, record_key: str) -> Steps[bool]:
    return (yield from decide_abort(site, record_key, plan.tx, plan.deadline + 1.0))


def _prepare(site: Site, plan: Plan, record_key: str) -> Steps[Ended | None]:
    """
    Put an intent on every key; ``None`` when all are known to be in place, else what stood in the way.
    """
    todo = plan.parts
    for push in range(_PUSHES + 1):
        now = yield from Now()
        writes = tuple([_intent_write(site, plan, part, record_key, now.wall) for part in todo])
        replies = yield from PutAll(writes, rpc_timeout(plan.deadline, now.mono))
        unclear: list[tuple[Part, Write, Reply]] = []
        for part, write, reply in zip(todo, writes, replies, strict=True):
            if not _clean(site, part, reply):
                unclear.append((part, write, reply))
        if not unclear:
            return None
        stuck, again = yield from _look(site, plan, unclear)
        if stuck is not None:
            return stuck
        if not again:
            return None
        if push == _PUSHES:
            return Ended(Ending.LOST, unclear[0][2], again[0].seen, again[0])
        todo = again
    return None


def _call_of(part: Part) -> Call:
    return Call.CREATE if part.seen.row.missing else Call.CAS


def _clean(site: Site, part: Part, reply: Reply) -> bool:
    call = _call_of(part)
    verdict = site.judge_reply(call, reply, part.key)
    if verdict is Verdict.INVALID:
        raise refusal(site.store, part.key, reply)
    return verdict is Verdict.COMMITTED and call not in site.profile.lies


def _intent_write(site: Site, plan: Plan, part: Part, record_key: str, wall: float) -> Write:
    content = _content(site, part)
    if content.bare is not None:
        content = Content({"value": content.bare}, envelope=True)
    intent = Intent(
        tx=plan.tx,
        record=record_key,
        kind=part.kind,
        started=plan.age.started,
        lease=round(wall + site.lease, 3),
        members=content.members if part.kind == "put" else None,
        envelope=content.envelope if part.kind == "put" else False,
        expires=part.expires if part.kind == "put" else None,
        old_expires=part.seen.expires if part.seen.exists(wall) else None,
    )
    members, stamp = prepared(part.seen, intent, plan.id, wall)
    ttl = garbage_ttl(False, None, wall, 0.0)
    return _sized(site, conditional(site.profile, part.seen, body(part.key, members, stamp), ttl))


def _look(
    site: Site, plan: Plan, unclear: list[tuple[Part, Write, Reply]]
) -> Steps[tuple[Ended | None, tuple[Part, ...]]]:
    """
    Read the keys whose prepare was not clearly taken; says what stands in the way, and which parts to prepare again.
    """
    again: list[Part] = []
    for part, write, first in unclear:
        reply, ghost = first, Ghost(site, part.key, _call_of(part))
        for attempt in range(_RESENDS):
            now = yield from Now()
            (answer,) = yield from GetAll((part.key,), rpc_timeout(plan.deadline, now.mono))
            if isinstance(answer, Row):
                seen = see(part.key, answer)
                intent = intent_of(seen)
                if intent is not None and intent.tx == plan.tx:
                    break
                # The bytes as well: some stores give a new life of a key the ETags of the old one.
                if seen.row != part.seen.row:
                    moved = yield from _push(site, plan, part, seen)
                    if moved is None:
                        return Ended(Ending.LOST, reply, seen, part), ()
                    again.append(moved)
                    break
            if attempt == _RESENDS - 1 or now.mono >= plan.deadline:
                return Ended(Ending.FAILED, reply, None, part), ()
            if attempt:
                yield from Pause((yield from backoff(attempt)))
            verdict = site.judge_reply(_call_of(part), reply, part.key)
            yield from ghost.refused(verdict, rpc_timeout(plan.deadline, now.mono))
            reply = yield from Put(write, rpc_timeout(plan.deadline, now.mono))
            if _clean(site, part, reply):
                break
    return None, tuple(again)


def _push(site: Site, plan: Plan, part: Part, seen: Seen) -> Steps[Part | None]:
    """
    The key moved: the part to prepare on the new row if the value is still the version the body saw, else ``None``.

    A younger transaction's undecided intent is decided against it; an older one wins.
    """
    intent = intent_of(seen)
    if intent is not None and not plan.age.before(intent):
        status = yield from status_of(site, intent, plan.deadline)
        if status is None:
            return None
    free = yield from clear(site, seen, plan.age, plan.deadline)
    now = yield from Now()
    if part.version is not None and version_of(free, now.wall) != part.version:
        return None
    return replace(part, seen=free)


def version_of(seen: Seen, wall: float) -> str:
    """
    The version a body saw, as text; empty for a key that is absent, whatever tombstone stands there.
    """
    return seen.version_text() if seen.exists(wall) else ""


def decide(site: Site, plan: Plan, record: Record, final: Record) -> Steps[Ended]:
    """
    Create the record that commits; obey whatever record is found there instead.
    """
    tries = 0
    while True:
        now = yield from Now()
        if now.mono >= plan.deadline:
            # Perhaps this process was stopped for so long that a record against it has come and gone: never send late.
            return (yield from _too_late(site, plan, final, Reply("DEADLINE_EXCEEDED"), sent=tries > 0))
        call = Call.CAS if record.etag else Call.CREATE
        reply = yield from Put(record_write(site, record, final), rpc_timeout(plan.deadline, now.mono))
        verdict = site.judge_reply(call, reply, final.key)
        if verdict is Verdict.COMMITTED and call not in site.profile.lies:
            break
        try:
            found = yield from read_record(site, final.key, plan.deadline)
        except StateError:
            return Ended(Ending.UNKNOWN, reply, record=final)
        decided = found.decides(plan.tx)
        if decided is not None:
            site.decisions.put(plan.tx, decided)
            ended = replace(final, committed=plan.tx if decided else "")
            return Ended(Ending.COMMITTED if decided else Ending.LOST, reply, record=ended)
        # Undecided still: others may have closed other attempts meanwhile; the same decision goes on top of theirs.
        record, final = found, replace(final, aborted=found.aborted)
        tries += 1
        wait = yield from backoff(tries)
        if now.mono + wait >= plan.deadline:
            return (yield from _too_late(site, plan, final, reply))
        yield from Pause(wait if tries > 1 else 0.0)
    site.decisions.put(plan.tx, True)
    return Ended(Ending.COMMITTED, reply, record=final)


def _too_late(site: Site, plan: Plan, final: Record, reply: Reply, *, sent: bool = True) -> Steps[Ended]:
    """
    The deadline has come with the record still absent: decide against oneself, and obey what is found.
    """
    try:
        committed = yield from decide_abort(site, final.key, plan.tx, plan.deadline + 1.0)
    except StateError:
        if not sent:
            return Ended(Ending.FAILED, reply, record=replace(final, committed=""))
        return Ended(Ending.UNKNOWN, reply, record=final)
    ended = replace(final, committed=plan.tx if committed else "")
    return Ended(Ending.COMMITTED if committed else Ending.FAILED, reply, record=ended)

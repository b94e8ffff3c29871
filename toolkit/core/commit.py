"""
The commit that needs no transaction of the store: intents on the keys, and one record that decides.

1. Prepare: every key read or written gets an intent, by compare-and-set from the row that was read.
2. When each of them is known to be in place, create the record that commits. Nothing removes an intent but a decision,
   so no second look at the keys is needed: an attempt somebody has aborted finds its record there already.
3. Any answer to that but a clean yes: read the record and obey it; if it is absent, send the same create again.
4. Finishing the keys is for later, and for anybody.

If a prepare was refused and the winner is no younger transaction that may be pushed aside, the attempt aborts itself by
the same record. Each of these steps was checked by model (``docs/adr/0010-intents-without-staging.md``, ``tests/model``).
"""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from toolkit.core.compose import Content, body, conditional, garbage_ttl
from toolkit.core.intents import Intent, intent_of, prepared
from toolkit.core.model import Reply, Row, Write
from toolkit.core.plan import Ended, Ending, Part, Plan, content, sized, version_of
from toolkit.core.records import Record, commit, tx_key
from toolkit.core.recovery import clear, decide_abort, read_record, record_write, status_of
from toolkit.core.seen import Seen, see
from toolkit.core.settle import backoff
from toolkit.core.site import Site, refusal, rpc_timeout
from toolkit.core.steps import GetAll, Now, Pause, Put, PutAll, Steps
from toolkit.core.sweep import Ghost
from toolkit.errors import StateError
from toolkit.stores import Call, Verdict

# How often one attempt may push younger transactions aside before it starts over.
_PUSHES: Final = 3
_RESENDS: Final = 3


def intents_of(site: Site, plan: Plan) -> Steps[tuple[Write, ...]]:
    """
    The intents a commit begins with; what is over a limit is refused here, before anything is sent.

    Raises:
        ValueTooLargeError: An intent or the record that decides is more than the store takes.
    """
    now = yield from Now()
    record = _record_of(plan)
    writes = tuple([_intent_write(site, plan, part, record.key, now.wall) for part in plan.parts])
    sized(site, record_write(site, record, _decision(plan, now.wall)))
    return writes


def _record_of(plan: Plan) -> Record:
    return plan.record if plan.record is not None else Record(tx_key(plan.tx))


def _decision(plan: Plan, wall: float) -> Record:
    keys = tuple(part.key for part in plan.parts)
    outcome = plan.outcome if plan.outcome is not None else _record_of(plan)
    # Without keys there is nothing to finish: the record may expire from the start.
    return replace(commit(outcome, plan.tx, keys, at=wall), done=not keys)


def commit_intents(site: Site, plan: Plan, intents: tuple[Write, ...]) -> Steps[Ended]:
    """
    Intents on every key, which ``intents_of`` has made, then one record that decides.
    """
    record = _record_of(plan)
    try:
        stuck = yield from _prepare(site, plan, record.key, intents)
    except StateError:
        yield from _abort(site, plan, record.key)
        raise
    if stuck is None:
        now = yield from Now()
        return (yield from decide(site, plan, record, _decision(plan, now.wall)))
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


def _prepare(site: Site, plan: Plan, record_key: str, writes: tuple[Write, ...]) -> Steps[Ended | None]:
    """
    Put an intent on every key; ``None`` when all are known to be in place, else what stood in the way.
    """
    todo = plan.parts
    for push in range(_PUSHES + 1):
        now = yield from Now()
        if push:
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
    what = content(site, part)
    if what.bare is not None:
        what = Content({"value": what.bare}, envelope=True)
    intent = Intent(
        tx=plan.tx,
        record=record_key,
        kind=part.kind,
        started=plan.age.started,
        lease=round(wall + site.lease, 3),
        members=what.members if part.kind == "put" else None,
        envelope=what.envelope if part.kind == "put" else False,
        expires=part.expires if part.kind == "put" else None,
        old_expires=part.seen.expires if part.seen.exists(wall) else None,
    )
    members, stamp = prepared(part.seen, intent, plan.id, wall)
    ttl = garbage_ttl(False, None, wall, 0.0)
    return sized(site, conditional(site.profile, part.seen, body(part.key, members, stamp), ttl))


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
            if isinstance(answer, Row):
                # A key that could not be read is not known to be missing: what stands there may be somebody's.
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

"""
The commits a store decides: one key by compare-and-set, and the store's own transaction.

What became of either is read from the slots in the stamps: an answer other than a clean yes proves nothing.
"""

from __future__ import annotations

from msgspec.structs import replace

from toolkit.core.compose import MESSAGE_LIMIT
from toolkit.core.judge import Base, Fate, judge
from toolkit.core.model import Reply, Write
from toolkit.core.plan import Ended, Ending, Part, Plan, final_write
from toolkit.core.records import commit
from toolkit.core.recovery import read_record, record_write
from toolkit.core.seen import Seen
from toolkit.core.settle import Sent, Settled, backoff, fence, fence_write, settle, understand
from toolkit.core.site import Site, refusal, rpc_timeout
from toolkit.core.steps import Get, GetAll, Multi, Now, Pause, Put, Steps
from toolkit.errors import StoreUnavailableError, TooManyOperationsError, ValueTooLargeError
from toolkit.stores import Call, Verdict


def commit_single(site: Site, plan: Plan) -> Steps[Ended]:
    """
    One key, one compare-and-set.
    """
    (part,) = plan.parts
    now = yield from Now()
    write = final_write(site, part, plan.id, now.wall)
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


def commit_native(site: Site, plan: Plan) -> Steps[Ended]:
    """
    The store's own transaction: written keys, read keys rewritten with their ETag, and the op record.
    """
    now = yield from Now()
    writes = [final_write(site, part, plan.id, now.wall) for part in plan.parts]
    keys_of = tuple(part.key for part in plan.parts)
    for record, outcome in plan.records:
        final = replace(commit(outcome, plan.tx, keys_of, at=now.wall), done=True)
        writes.append(record_write(site, record, final))
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
    keys, profile = tuple(part.key for part in plan.parts), site.profile
    bulk = len(keys) > 1 and profile.bulk_pays and profile.linearizable and not profile.strong_reads
    answers = yield from GetAll(keys, rpc_timeout(plan.deadline, now.mono), bulk=bulk)
    pending, unknowable = False, True
    lost: tuple[Part, Seen] | None = None
    fresh: list[Seen] = []
    for part, answer in zip(plan.parts, answers, strict=True):
        if bulk and (isinstance(answer, Reply) or answer.missing):
            # A bulk read may miss what is there, and this is to be a proof.
            seen = understand(part.key, (yield from Get(part.key, rpc_timeout(plan.deadline, now.mono))))
        else:
            seen = understand(part.key, answer)
        if seen is None:
            pending = True
            continue
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
    for read, _ in plan.records:
        try:
            record = yield from read_record(site, read.key, plan.deadline)
        except StoreUnavailableError:
            pending = True
            continue
        if record.committed == plan.tx:
            return Ended(Ending.COMMITTED, reply)
        if record.etag != read.etag:
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

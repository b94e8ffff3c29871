"""
What a batch of calls on one key makes of the value that was read.

``apply`` is pure but for the callers' own ``change`` functions: it runs every job in order on a working copy and says
what to write and what each caller is to be told if that write commits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

from toolkit.core.jobs import NO_DEFAULT, Batch, Done, Failed, Job, Result, Rules, Working, check_value
from toolkit.core.model import ABSENT, CLEAR, DELETE, KEEP, TTL, UNCHANGED, Absent, ETag
from toolkit.core.seen import Seen
from toolkit.core.stamp import MAX_IDS, Applied, OpId, keep_ops
from toolkit.core.value import Sealed, seal
from toolkit.errors import (
    AlreadyExistsError,
    ConflictError,
    InvalidValueError,
    NotFoundError,
    OperationIdReusedError,
    OperationWindowError,
    TTLUnsupportedError,
    UnsafeStoreError,
)


def apply(seen: Seen, jobs: Sequence[Job], now: float, rules: Rules) -> Batch:
    """
    Run the jobs in order on what was read.

    A job that fails leaves the working value as the one before it did. Answers hold only if the write commits: a later
    job has seen what an earlier one is about to write.
    """
    working = _opened(seen, jobs, now)
    results: list[Result] = []
    changed = firm = 0
    for job in jobs:
        try:
            after, result = _step(seen, working, job, now, rules)
        except KeyboardInterrupt:
            raise  # it is meant for whoever leads, not for the caller whose change is running
        except BaseException as error:  # noqa: BLE001  handed to its caller, SystemExit and the like too
            results.append(Failed(error))
            firm += not changed
            continue
        changed += after is not working
        working = after
        results.append(result)
        firm += not changed
    return Batch(working, tuple(results), changed, firm)


def _opened(seen: Seen, jobs: Sequence[Job], now: float) -> Working:
    """
    What the first of the jobs finds.
    """
    value, stamp, alive = seen.value, seen.stamp, seen.exists(now)
    version: ETag | Absent | None = None
    for job in jobs:
        if job.etag is not None:
            version = seen.version(now)
            break
    return Working(
        sealed=Sealed(None, value) if alive else ABSENT,
        bare=alive and type(value) is not dict,
        expires=stamp.expires if alive and stamp is not None else None,
        version=version,
        ops=stamp.ops if stamp is not None else (),
    )


def _step(seen: Seen, working: Working, job: Job, now: float, rules: Rules) -> tuple[Working, Result]:
    if job.op is not None:
        earlier = next((entry for entry in working.ops if entry.hash == job.op.hash), None)
        if earlier is not None:
            return working, _repeat(working, job, job.op, earlier)
        working_ops = _with_op(working, job, job.op, now, rules)
    else:
        working_ops = working
    after, result = _VERBS[job.verb](working_ops, job, now)
    if not after.dirty:
        return working, result
    if after.bare or after.expires is not None or seen.row.missing:
        _admit(seen, working, after, job, now, rules)
    return after, result


def _repeat(working: Working, job: Job, op: OpId, earlier: Applied) -> Result:
    if earlier.tag != op.tag:
        raise OperationIdReusedError(
            f"key {job.key!r}: op_id {job.op_id!r} already belongs to another operation than this {job.verb}; "
            f"make a new op_id for each intended effect"
        )
    if job.verb != "update" or working.sealed is ABSENT:
        return Done()
    return Done(working.sealed.copy(job.key))


def _with_op(working: Working, job: Job, op: OpId, now: float, rules: Rules) -> Working:
    kept = keep_ops(working.ops, now, rules.op_window, 1)
    if len(kept) + 1 > MAX_IDS:
        oldest = rules.op_window - (now - kept[0].at)
        raise OperationWindowError(
            f"key {job.key!r}: {len(kept)} operation ids of the last {rules.op_window:g} s are the most one value can "
            f"carry; the next place is free in {max(oldest, 1):.0f} s. Spread the ids over several keys, lower "
            f"op_window, or use store.transact(..., op_id=...), which keeps them in records of their own"
        )
    # Rounded up: an id is kept for the whole window.
    ops = (*kept, Applied(op.hash, math.ceil(now), op.tag))
    return Working(
        working.sealed, working.bare, working.expires, working.version, ops, working.fresh + 1, dirty=True
    )


def _admit(seen: Seen, before: Working, after: Working, job: Job, now: float, rules: Rules) -> None:
    """
    Refuse, before anything is sent, what this store or this form of value cannot keep.
    """
    if seen.row.missing and before.sealed is ABSENT and not rules.can_create:
        reasons = " ".join(rules.create_reasons)
        raise UnsafeStoreError(
            f"key {job.key!r}: this store has no safe way to create a key, nothing was sent. {reasons} "
            f"Create it by other means first, or use another store",
            reasons=rules.create_reasons,
        )
    if after.bare and not _enveloped(seen, rules):
        _admit_bare(job, after, now, rules)
    if after.expires is not None and not rules.has_ttl:
        raise TTLUnsupportedError(
            f"key {job.key!r}: this store has no expiry; leave out ttl= or choose another store"
        )


def _admit_bare(job: Job, after: Working, now: float, rules: Rules) -> None:
    cure = "open the store with StateStore(..., envelope=True), which stores {'_occ': …, 'value': …}"
    kind = type(after.value).__name__
    if any(now - entry.at < rules.op_window for entry in after.ops):
        raise InvalidValueError(
            f"key {job.key!r}: a bare {kind} cannot carry operation ids; {cure}", key=job.key
        )
    if after.expires is not None:
        raise InvalidValueError(f"key {job.key!r}: a bare {kind} cannot carry an expiry; {cure}", key=job.key)


def _enveloped(seen: Seen, rules: Rules) -> bool:
    return rules.envelope or (seen.stamp is not None and seen.stamp.envelope)


def _update(working: Working, job: Job, now: float) -> tuple[Working, Result]:
    change, sealed = job.change, working.sealed
    assert change is not None
    if sealed is not ABSENT:
        after = change(sealed.copy(job.key))
    elif job.default is not NO_DEFAULT:
        after = change(_sealed(job.default, job.key).copy(job.key))
    else:
        raise NotFoundError(
            f"key {job.key!r} does not exist; create it, or call update with default=", key=job.key
        )
    if after is UNCHANGED:
        return working, Done(sealed.copy(job.key) if sealed is not ABSENT else None)
    if after is DELETE:
        if job.may_remove is not None:
            job.may_remove()
        return _erase(working), Done(None)
    check_value(after, job.key, "change")
    return _put(working, seal(after, job.key), job.ttl, now), Done(after)


def _set(working: Working, job: Job, now: float) -> tuple[Working, Result]:
    return _put(working, _sealed(job.value, job.key), job.ttl, now), Done()


def _sealed(value: Any, key: str) -> Sealed:
    return value if type(value) is Sealed else seal(value, key)


def _create(working: Working, job: Job, now: float) -> tuple[Working, Result]:
    if working.sealed is not ABSENT:
        raise AlreadyExistsError(
            f"key {job.key!r} already exists; read it, or use update or set",
            key=job.key,
            attempt=job.attempts,
        )
    return _set(working, job, now)


def _compare_and_set(working: Working, job: Job, now: float) -> tuple[Working, Result]:
    _hold(working, job)
    return _set(working, job, now)


def _delete(working: Working, job: Job, _now: float) -> tuple[Working, Result]:
    if job.etag is not None:
        _hold(working, job)
    if working.sealed is ABSENT:
        return working, Done()
    return _erase(working), Done()


_VERBS: Final[dict[str, Callable[[Working, Job, float], tuple[Working, Result]]]] = {
    "update": _update,
    "set": _set,
    "create": _create,
    "compare_and_set": _compare_and_set,
    "delete": _delete,
}


def _hold(working: Working, job: Job) -> None:
    if working.version == job.etag:
        return
    expected = str(job.etag) if isinstance(job.etag, ETag) else "ABSENT"
    found = "another version" if working.sealed is not ABSENT else "no value"
    kind = AlreadyExistsError if job.etag is ABSENT else ConflictError
    raise kind(
        f"key {job.key!r}: expected version {expected} but found {found}; read it again and decide afresh",
        key=job.key,
        expected=None if job.etag is ABSENT else expected,
        attempt=max(job.attempts, 1),
    )


def _put(working: Working, sealed: Sealed, ttl: TTL, now: float) -> Working:
    if ttl is KEEP:
        expires = working.expires
    elif ttl is CLEAR:
        expires = None
    else:
        expires = round(now + float(ttl), 3)
    bare = type(sealed.peek()) is not dict
    return Working(sealed, bare, expires, None, working.ops, working.fresh, dirty=True)


def _erase(working: Working) -> Working:
    return Working(ABSENT, False, None, ABSENT, working.ops, working.fresh, dirty=True)

"""
What callers ask of one key, and what a batch of such requests makes of the value that was read.

``apply`` is pure but for the callers' own ``change`` functions: it runs every job in order on a working copy and says
what to write and what each caller is to be told if that write commits.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, TypeAlias

import msgspec
import msgspec.structs

from toolkit.core.model import ABSENT, CLEAR, DELETE, KEEP, TTL, UNCHANGED, Absent, ETag, Marker
from toolkit.core.seen import Seen
from toolkit.core.stamp import MAX_IDS, Applied, OpId, keep_ops
from toolkit.core.value import plain
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

Verb: TypeAlias = Literal["update", "set", "create", "delete", "compare_and_set"]


class _NoDefault:
    def __repr__(self) -> str:
        return "<no default>"


NO_DEFAULT: Final = _NoDefault()


class Job(msgspec.Struct, eq=False):
    """
    One call on one key, with room for its answer.

    Attributes:
        change: The pure function of ``update``; may run more than once.
        value: What ``set``, ``create`` and ``compare_and_set`` write; a private copy.
        etag: What ``compare_and_set`` and ``delete`` expect; ``None`` when the call is unconditional.
        deadline: On the monotonic clock of the driver.
        label: Operation name for the log.
        attempts: Attempts made so far.
    """

    verb: Verb
    key: str
    deadline: float
    policy_attempts: int | None = None
    change: Callable[[Any], Any] | None = None
    value: Any = None
    default: Any = NO_DEFAULT
    etag: ETag | Absent | None = None
    ttl: TTL = KEEP
    op: OpId | None = None
    op_id: str | None = None
    label: str = ""
    call_id: str = ""
    started: float = 0.0
    attempts: int = 0
    conflicts: int = 0

    @property
    def minds_expiry(self) -> bool:
        """
        Whether the answer depends on the value being alive or not.
        """
        return self.verb in ("update", "create", "compare_and_set") or self.etag is not None


class Done(msgspec.Struct, frozen=True):
    """
    The caller is to be told this value.
    """

    value: Any = None


class Failed(msgspec.Struct, frozen=True):
    """
    The caller is to be told this error; its call has changed nothing.
    """

    error: BaseException


Result: TypeAlias = Done | Failed


class Working(msgspec.Struct, frozen=True):
    """
    The value between two jobs of a batch.

    Attributes:
        value: The caller's value or ``ABSENT``; never handed out, only copied.
        expires: Unix time, ``None`` for never.
        version: The version a compare-and-set is held against; ``None`` once the batch has changed the value.
        ops: Ids the stamp will carry.
        fresh: How many of them this batch has added.
        dirty: Something is to be written.
    """

    value: Any
    expires: float | None
    version: ETag | Absent | None
    ops: tuple[Applied, ...]
    fresh: int = 0
    dirty: bool = False


class Batch(msgspec.Struct, frozen=True):
    """
    The outcome of a batch on one read: the value to write, and each caller's answer should the write commit.

    Attributes:
        changed: How many jobs change something.
        firm: How many jobs come before the first of these: their answers hold whatever becomes of the write.
    """

    working: Working
    results: tuple[Result, ...]
    changed: int = 0
    firm: int = 0


class Rules(msgspec.Struct, frozen=True):
    """
    What of the store's profile and the store object's settings bears on applying a job.
    """

    can_create: bool = True
    create_reasons: tuple[str, ...] = ()
    has_ttl: bool = True
    envelope: bool = False
    op_window: float = 600.0


def apply(seen: Seen, jobs: Sequence[Job], now: float, rules: Rules) -> Batch:
    """
    Run the jobs in order on what was read.

    A job that fails leaves the working value as the one before it did. Answers hold only if the write commits: a later
    job has seen what an earlier one is about to write.
    """
    alive = seen.exists(now)
    working = Working(
        value=seen.value if alive else ABSENT,
        expires=seen.expires if alive else None,
        version=seen.version(now),
        ops=seen.stamp.ops if seen.stamp is not None else (),
    )
    results: list[Result] = []
    changed = firm = 0
    for job in jobs:
        try:
            after, result = _step(seen, working, job, now, rules)
        except Exception as error:  # noqa: BLE001  handed to its caller
            results.append(Failed(error))
            firm += not changed
            continue
        changed += after is not working
        working = after
        results.append(result)
        firm += not changed
    return Batch(working, tuple(results), changed, firm)


def _step(seen: Seen, working: Working, job: Job, now: float, rules: Rules) -> tuple[Working, Result]:
    if job.op is not None:
        earlier = next((entry for entry in working.ops if entry.hash == job.op.hash), None)
        if earlier is not None:
            return working, _repeat(working, job, job.op, earlier)
        working_ops = _with_op(working, job, job.op, now, rules)
    else:
        working_ops = working
    after, result = _VERBS[job.verb](working_ops, job, now)
    if after.dirty:
        _admit(seen, working, after, job, now, rules)
    return (after if after.dirty or after.fresh != working.fresh else working), result


def _repeat(working: Working, job: Job, op: OpId, earlier: Applied) -> Result:
    if earlier.tag != op.tag:
        raise OperationIdReusedError(
            f"key {job.key!r}: op_id {job.op_id!r} already belongs to another operation than this {job.verb}; "
            f"make a new op_id for each intended effect"
        )
    if job.verb != "update" or working.value is ABSENT:
        return Done()
    return Done(plain(working.value, job.key))


def _with_op(working: Working, job: Job, op: OpId, now: float, rules: Rules) -> Working:
    kept = keep_ops(working.ops, now, rules.op_window, 1)
    if len(kept) + 1 > MAX_IDS:
        oldest = rules.op_window - (now - kept[0].at)
        raise OperationWindowError(
            f"key {job.key!r}: {len(kept)} operation ids of the last {rules.op_window:g} s are the most one value can "
            f"carry; the next place is free in {max(oldest, 1):.0f} s. Spread the ids over several keys, lower "
            f"op_window, or use store.transact(..., op_id=...), which keeps them in records of their own"
        )
    return msgspec.structs.replace(
        working, ops=(*kept, Applied(op.hash, int(now), op.tag)), fresh=working.fresh + 1, dirty=True
    )


def _admit(seen: Seen, before: Working, after: Working, job: Job, now: float, rules: Rules) -> None:
    """
    Refuse, before anything is sent, what this store or this form of value cannot keep.
    """
    if seen.row.missing and before.value is ABSENT and not rules.can_create:
        reasons = " ".join(rules.create_reasons)
        raise UnsafeStoreError(
            f"key {job.key!r}: this store has no safe way to create a key. {reasons}".rstrip(),
            reasons=rules.create_reasons,
        )
    bare = after.value is not ABSENT and type(after.value) is not dict
    if bare and not _enveloped(seen, rules):
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
    if working.value is not ABSENT:
        current = plain(working.value, job.key)
    elif job.default is not NO_DEFAULT:
        current = plain(job.default, job.key)
    else:
        raise NotFoundError(
            f"key {job.key!r} does not exist; create it, or call update with default=", key=job.key
        )
    assert job.change is not None
    after = job.change(current)
    if after is UNCHANGED:
        return working, Done(plain(working.value, job.key) if working.value is not ABSENT else None)
    if after is DELETE:
        return _erase(working), Done(None)
    check_value(after, job.key, "change")
    value = plain(after, job.key)
    return _put(working, value, job.ttl, now), Done(after)


def _set(working: Working, job: Job, now: float) -> tuple[Working, Result]:
    return _put(working, plain(job.value, job.key), job.ttl, now), Done()


def _create(working: Working, job: Job, now: float) -> tuple[Working, Result]:
    if working.value is not ABSENT:
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
    if working.value is ABSENT:
        return working, Done()
    return _erase(working), Done()


_VERBS: Final = {
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
    found = "another version" if working.value is not ABSENT else "no value"
    kind = AlreadyExistsError if job.etag is ABSENT else ConflictError
    raise kind(
        f"key {job.key!r}: expected version {expected} but found {found}; read it again and decide afresh",
        key=job.key,
        expected=None if job.etag is ABSENT else expected,
        attempt=max(job.attempts, 1),
    )


def _put(working: Working, value: Any, ttl: TTL, now: float) -> Working:
    if ttl is KEEP:
        expires = working.expires
    elif ttl is CLEAR:
        expires = None
    else:
        expires = round(now + float(ttl), 3)
    return Working(value, expires, None, working.ops, working.fresh, dirty=True)


def _erase(working: Working) -> Working:
    return Working(ABSENT, None, ABSENT, working.ops, working.fresh, dirty=True)


_ORDINARY: Final = frozenset({dict, list, str, int, float, bool})


def check_value(value: Any, key: str, source: str) -> None:
    """
    Refuse what is most likely a mistake and would erase data.

    Raises:
        TypeError: None, a marker, or something awaitable where a value belongs.
    """
    if type(value) in _ORDINARY:
        return
    if value is None:
        what = "returned None" if source == "change" else "is None"
        raise TypeError(
            f"key {key!r}: the {source} {what}; return the new value, UNCHANGED to leave it, or DELETE to remove the key"
        )
    if isinstance(value, Marker):
        raise TypeError(f"key {key!r}: {value!r} is not a value; a change may return UNCHANGED or DELETE")
    if inspect.isawaitable(value):
        close = getattr(value, "close", None)
        if close is not None:
            close()
        raise TypeError(f"key {key!r}: the {source} is async; it must be a plain function without I/O")

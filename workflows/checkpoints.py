"""
Checkpoints: named state of a long job that outlives the run, its history and the code that wrote it.

A checkpoint belongs to the run that loaded it last: loading raises its epoch and names it anew, and a save under an older
name is refused in the same transaction that would have made it. So an older run that still goes on, or a late duplicate of one of its
activities, cannot overwrite what its successor saved. Loading and saving are effects: redelivered, they happen once.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator, Mapping
from datetime import UTC
from typing import Any, Final

import msgspec

from toolkit.errors import NotFoundError, RecordedError, ValueTooLargeError
from toolkit.store import StateStore
from workflows._checkpoint_record import (
    LOAD_EFFECT,
    REFUSALS,
    SAVE_EFFECT,
    Request,
    index_key,
    record_key,
)
from workflows._payload import plain
from workflows._run import continued, run_of
from workflows.effects import Escalation, call_effect
from workflows.errors import ContinuedAsNew
from workflows.ports import Context

Migrations = Mapping[int, Callable[[Any], Any]]

_NONE: Final = object()
# What an effect returns is recorded, up to 64 KiB: what is saved must come back from a load.
LIMIT: Final = 60_000
# A checkpoint is what a long job has: it is worth waiting for.
PATIENT: Final = Escalation(attempts=None)


class Checkpoint(msgspec.Struct, frozen=True):
    """
    A checkpoint as it was loaded or is to be saved.

    Attributes:
        name: Of the job.
        subject: What this one is about: a month, a customer, a file.
        version: Of the form of the data.
        seq: How often it was saved; every save counts one on.
        epoch: How often it was loaded; a save under an older epoch is refused.
        owner: The workflow instance that loaded it last.
        data: JSON; small: it travels through the engine's history.
        loaded: The ``seq`` it was loaded with.
        token: What its load was named; no two loads have one name, also when the epochs began again after a drop.
    """

    name: str
    subject: str
    version: int
    seq: int
    epoch: int
    owner: str
    data: Any
    loaded: int = 0
    token: str = ""

    def next(self, data: Any) -> Checkpoint:
        """
        The checkpoint that follows, to be saved.
        """
        return msgspec.structs.replace(self, seq=self.seq + 1, data=plain(data))


class CheckpointInfo(msgspec.Struct, frozen=True):
    """
    What a save left: its number, its epoch and its time (Unix seconds, of the workflow's clock).
    """

    seq: int
    epoch: int
    saved_at: float


def load_checkpoint(
    ctx: Context,
    name: str,
    subject: str,
    *,
    version: int = 1,
    migrate: Migrations | None = None,
    default: Any = _NONE,
    take_over: bool = True,
) -> Generator[Any, Any, Checkpoint]:
    """
    Load a checkpoint, or begin one, and make it this run's own.

    In a workflow: ``cp = yield from load_checkpoint(ctx, "rollup", "2026-10", default={"page": 0})``. It survives
    continue-as-new, the end and the purge of the run, and a change of the workflow's name and code. Data of an older
    version are brought up to date step by step; they are stored in the new form by the next save.

    Args:
        ctx: The workflow context.
        name: Of the job.
        subject: What this checkpoint is about.
        version: Of the form of the data that this code works with.
        migrate: For each older version the pure function that makes its data those of the next one.
        default: The data to begin with where there is no checkpoint; it is stored at once.
        take_over: Whether a checkpoint of another workflow instance is taken over; that one cannot save any more. Nothing is
            taken back: a run that was superseded stays so, also when it loads again or continues as new.

    Raises:
        CheckpointFencedError: It belongs to another instance and ``take_over=False``, or this run had it and was superseded.
        CheckpointVersionError: It was saved in a newer version, or a migration is missing; it was not taken over.
        NotFoundError: There is none, and no default.
    """
    run, key, migrations = run_of(ctx), record_key(name, subject), migrate or {}
    asked = Request(
        name=name,
        subject=subject,
        owner=ctx.instance_id,
        at=_now(ctx),
        version=version,
        data=None if default is _NONE else _small(plain(default), name, subject),
        oldest=_oldest(version, migrations),
        token=run.tokens.get(key, ""),
        take_over=take_over,
        create=default is not _NONE,
    )
    found = yield from _call(ctx, LOAD_EFFECT, asked)
    if found is None:
        raise NotFoundError(
            f"there is no checkpoint {name!r} of {subject!r}; give default= to begin one",
            key=key,
        )
    run.tokens[key] = found["token"]
    return Checkpoint(
        name,
        subject,
        version,
        found["seq"],
        found["epoch"],
        found["owner"],
        _migrated(found, version, migrations),
        loaded=found["seq"],
        token=found["token"],
    )


def save_checkpoint(ctx: Context, checkpoint: Checkpoint) -> Generator[Any, Any, CheckpointInfo]:
    """
    Save what ``checkpoint.next(data)`` gave.

    Raises:
        CheckpointFencedError: Another run has loaded it since, or it was dropped, or this number was saved before; nothing
            was saved.
        ValueTooLargeError: The data have more than 60,000 bytes; nothing was saved.
    """
    asked = Request(
        name=checkpoint.name,
        subject=checkpoint.subject,
        owner=ctx.instance_id,
        at=_now(ctx),
        version=checkpoint.version,
        data=_small(plain(checkpoint.data), checkpoint.name, checkpoint.subject),
        token=checkpoint.token,
        seq=checkpoint.seq,
    )
    saved = yield from _call(ctx, SAVE_EFFECT, asked)
    return CheckpointInfo(saved["seq"], saved["epoch"], saved["saved_at"])


def continue_with(
    ctx: Context, checkpoint: Checkpoint, *, every: int = 500, input: Any = _NONE
) -> Generator[Any, Any, CheckpointInfo]:
    """
    Save, and continue as new once this run has counted so far: its history begins anew.

    Nothing behind it runs then in this run, so it is the last thing a round of the workflow does. The next run loads the
    checkpoint as the first one did, unless another run has it by then; events that nobody waited for go with it. Works in
    workflows registered by ``WorkflowKit.workflow``.

    Args:
        ctx: The workflow context.
        checkpoint: What ``checkpoint.next(data)`` gave.
        every: After how many numbers to continue as new; each ``next`` counts one.
        input: Of the next run; by default that of this one.
    """
    if every < 1:
        raise ValueError(f"every must be at least 1, not {every}")
    run = run_of(ctx)
    if not run.kit:
        raise RuntimeError(
            "continue_with works in workflows registered by WorkflowKit.workflow: it ends the run there"
        )
    info = yield from save_checkpoint(ctx, checkpoint)
    if checkpoint.seq - checkpoint.loaded >= every:
        sdk: Any = ctx
        sdk.continue_as_new(continued(run, plain(run.input if input is _NONE else input)), save_events=True)
        raise ContinuedAsNew
    return info


def _call(ctx: Context, effect: str, asked: Request) -> Generator[Any, Any, Any]:
    try:
        return (yield from call_effect(ctx, effect, input=asked, policy=PATIENT))
    except RecordedError as error:
        for refusal in REFUSALS:
            if error.type == refusal.__name__:
                raise refusal(error.message) from error
        raise


def _now(ctx: Context) -> float:
    time = ctx.current_utc_datetime
    return (time if time.tzinfo is not None else time.replace(tzinfo=UTC)).timestamp()


def _small(data: Any, name: str, subject: str) -> Any:
    size = len(msgspec.json.encode(data))
    if size > LIMIT:
        raise ValueTooLargeError(
            f"checkpoint {name!r} of {subject!r}: the data have {size} bytes, {LIMIT} are possible, since they travel through "
            "the engine's history; keep what is large under keys of its own and only its place in the checkpoint"
        )
    return data


def _oldest(version: int, migrate: Migrations) -> int:
    """
    The oldest version that can be brought up to date step by step.
    """
    while version - 1 in migrate:
        version -= 1
    return version


def _migrated(found: dict[str, Any], version: int, migrate: Migrations) -> Any:
    data = copy.deepcopy(found["data"])
    for old in range(found["version"], version):
        data = migrate[old](data)
    return plain(data)


class Checkpoints:
    """
    The checkpoints of a store, seen from outside of workflows.

    >>> from toolkit import StateStore
    >>> from toolkit.testing import MemoryStore
    >>> with StateStore("s", port=MemoryStore()) as store:
    ...     checkpoints = Checkpoints(store)
    ...     checkpoints.list("rollup"), checkpoints.get("rollup", "2026-10"), checkpoints.drop("rollup", "2026-10")
    ([], None, False)
    """

    def __init__(self, store: StateStore) -> None:
        self.store = store

    def get(self, name: str, subject: str) -> dict[str, Any] | None:
        """
        The record: name, subject, version, seq, epoch, owner, data and saved_at; ``None`` where there is none.
        """
        found: dict[str, Any] | None = self.store.get(record_key(name, subject))
        return found

    def list(self, name: str) -> list[str]:
        """
        The subjects of a name, sorted.
        """
        index: dict[str, Any] = self.store.get(index_key(name), {"subjects": []})
        subjects: list[str] = index["subjects"]
        return subjects

    def drop(self, name: str, subject: str) -> bool:
        """
        Remove a checkpoint; a run that still has it is refused at its next save. Says whether it was there.
        """

        def body(tx: Any) -> bool:
            key, index = record_key(name, subject), index_key(name)
            there = tx.get(key) is not None
            if there:
                tx.delete(key)
            subjects: list[str] = tx.get(index, {"subjects": []})["subjects"]
            if subject in subjects:
                tx.put(index, {"subjects": [each for each in subjects if each != subject]})
            return there

        dropped: bool = self.store.transact(body)
        return dropped

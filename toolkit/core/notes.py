"""
What the log is told: the fields of each event, built only when somebody listens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from toolkit.core.intents import intent_of
from toolkit.core.jobs import Job
from toolkit.core.judge import Receipt
from toolkit.core.model import ABSENT
from toolkit.core.seen import Seen
from toolkit.core.settle import Settled
from toolkit.core.stamp import ABSENT_INCARNATION, WriteId
from toolkit.core.steps import Instant


class Attempt(msgspec.Struct):
    """
    The times of the attempt under way and the sums over those that were lost; seconds.
    """

    started: float = 0.0
    read_s: float = 0.0
    fn_s: float = 0.0
    write_s: float = 0.0
    lost_s: float = 0.0
    wait_s: float = 0.0
    bytes: int = 0

    def begin(self, started: float, read: float) -> None:
        self.started, self.read_s, self.fn_s, self.write_s = started, read - started, 0.0, 0.0

    def spent(self) -> float:
        return self.read_s + self.fn_s + self.write_s

    def lose(self, wait: float) -> None:
        self.lost_s += self.spent()
        self.wait_s += wait


def _who(jobs: Sequence[Job]) -> dict[str, Any]:
    first = jobs[0]
    fields: dict[str, Any] = {
        "op": first.label,
        "call_id": first.call_id,
        "key": first.key,
        "attempt": first.attempts,
    }
    if first.op_id is not None:
        fields["op_id"] = first.op_id
    if len(jobs) > 1:
        fields["combined"] = len(jobs)
    return fields


def _times(attempt: Attempt) -> dict[str, Any]:
    return {
        "read_s": round(attempt.read_s, 6),
        "fn_s": round(attempt.fn_s, 6),
        "write_s": round(attempt.write_s, 6),
    }


def base_fields(seen: Seen) -> dict[str, Any]:
    """
    The version a write was built on, as the log knows it.

    A create is one race per incarnation or tombstone that was seen, so that creators of one key in two lives of it are
    not taken for rivals.
    """
    if seen.row.missing:
        return {"base_etag": ABSENT_INCARNATION}
    if seen.value is ABSENT and seen.stamp is not None:
        return {"base_etag": seen.row.etag, "incarnation": seen.incarnation}
    return {"base_etag": seen.row.etag}


def winner_fields(seen: Seen | None) -> dict[str, Any]:
    """
    Who won, from the read that told of the loss.
    """
    if seen is None or seen.plain:
        # A bare list or scalar has no room for a stamp: whose it is, its race tells.
        return {}
    if seen.stamp is None or not (seen.valid or seen.later):
        return {"winner_kind": "foreign"}
    intent = intent_of(seen)
    if intent is not None:
        return {"winner": intent.tx, "winner_kind": "intent"}
    return {"winner": seen.stamp.last_write, "winner_kind": seen.stamp.kind or "committed"}


def conflict_fields(
    jobs: Sequence[Job], attempt: Attempt, base: Seen, settled: Settled, wait: float, sent: bytes
) -> dict[str, Any]:
    """
    One line per lost attempt; *sent* is what it tried to store.
    """
    first = jobs[0]
    fields = _who(jobs) | _times(attempt) | base_fields(base)
    fields |= {
        "lost_s": round(attempt.spent(), 6),
        "wait_s": round(wait, 6),
        "max_attempts": first.policy_attempts or 0,
        "cause": "exists" if base.value is ABSENT or first.verb == "create" else "etag_mismatch",
        "transport": "grpc",
        "status": settled.reply.code,
        "bytes": len(sent),
    }
    seen = settled.seen
    if seen is None:
        return fields
    fields["seen_etag"] = seen.row.etag or ABSENT_INCARNATION
    if seen.plain and seen.row.data == sent:
        # A stamp would have told whose write it is.
        fields["maybe_self"] = True
    return fields | winner_fields(seen)


def committed_fields(
    jobs: Sequence[Job], attempt: Attempt, base: Seen, write_id: WriteId | None, now: Instant
) -> dict[str, Any]:
    """
    One line per write, or per batch that had nothing to write.
    """
    first = jobs[0]
    fields = _who(jobs) | _times(attempt) | base_fields(base)
    fields |= {
        "path": "single",
        "conflicts": first.conflicts,
        "lost_s": round(attempt.lost_s, 6),
        "wait_s": round(attempt.wait_s, 6),
        "total_s": round(now.mono - first.started, 6),
        "combined": len(jobs),
    }
    if write_id is None:
        return fields | {"noop": True}
    return fields | {"write_id": str(write_id), "bytes": attempt.bytes}


def gave_up_fields(
    job: Job, attempt: Attempt, reason: str, error: BaseException, now: Instant
) -> dict[str, Any]:
    """
    One line per call that ended without its effect.
    """
    fields = _who([job]) | {
        "reason": reason,
        "error_type": type(error).__name__,
        "conflicts": job.conflicts,
        "max_attempts": job.policy_attempts or 0,
        "lost_s": round(attempt.lost_s, 6),
        "wait_s": round(attempt.wait_s, 6),
        "total_s": round(now.mono - job.started, 6),
    }
    if job.conflicts:
        fields["cause"] = "etag_mismatch"
    return fields


def unknown_fields(jobs: Sequence[Job], attempt: Attempt, receipt: Receipt, now: Instant) -> dict[str, Any]:
    """
    One line per write whose outcome nobody can prove now.
    """
    fields = _who(jobs) | _times(attempt)
    return fields | {
        "receipt": str(receipt),
        "write_id": str(receipt.write),
        "total_s": round(now.mono - jobs[0].started, 6),
    }


class Told(Protocol):
    """
    What a transaction run has to tell about itself.
    """

    @property
    def options(self) -> Any: ...
    @property
    def id(self) -> WriteId: ...
    @property
    def attempt(self) -> int: ...
    @property
    def losses(self) -> int: ...
    @property
    def lost_s(self) -> float: ...
    @property
    def wait_s(self) -> float: ...
    @property
    def started(self) -> float: ...
    @property
    def path(self) -> str: ...
    @property
    def buffer(self) -> Any: ...


def _who_tx(run: Told, keys: Sequence[str]) -> dict[str, Any]:
    options = run.options
    fields: dict[str, Any] = {
        "op": options.label,
        "call_id": options.call_id,
        "attempt": run.attempt,
        "isolation": options.isolation,
    }
    if options.op_id is not None:
        fields["op_id"] = options.op_id
    if len(keys) == 1:
        fields["key"] = keys[0]
    elif keys:
        fields["keys"] = list(keys)
    return fields


def _keys_of(run: Told) -> list[str]:
    return sorted({*run.buffer.reads, *run.buffer.writes, *run.buffer.guards})


def tx_conflict_fields(run: Told, ended: Any, spent: float, wait: float) -> dict[str, Any]:
    """
    One line per lost attempt of a transaction.
    """
    keys = [ended.base.key] if ended.base is not None else _keys_of(run)
    fields = _who_tx(run, keys)
    if ended.base is not None:
        fields |= base_fields(ended.base.seen)
    return (
        fields
        | {
            "path": run.path,
            "lost_s": round(spent, 6),
            "wait_s": round(wait, 6),
            "max_attempts": run.options.attempts or 0,
            "cause": "transaction_abort" if run.path != "single" else "etag_mismatch",
            "transport": "grpc",
            "status": ended.reply.code,
        }
        | winner_fields(ended.rival)
    )


def tx_committed_fields(run: Told, parts: Sequence[Any], now: Instant, *, noop: bool) -> dict[str, Any]:
    """
    One line per committed transaction.
    """
    fields = _who_tx(run, [part.key for part in parts] if parts else _keys_of(run))
    fields |= {
        "path": run.path,
        "conflicts": run.losses,
        "lost_s": round(run.lost_s, 6),
        "wait_s": round(run.wait_s, 6),
        "total_s": round(now.mono - run.started, 6),
        "combined": 1,
    }
    if len(parts) == 1:
        fields |= base_fields(parts[0].seen)
    elif parts:
        fields["base_etags"] = [base_fields(part.seen)["base_etag"] for part in parts]
    return fields | ({"noop": True} if noop else {"write_id": str(run.id)})


def tx_gave_up_fields(run: Told, reason: str, error: BaseException, now: Instant) -> dict[str, Any]:
    """
    One line per transaction that ended without its effect.
    """
    fields = _who_tx(run, _keys_of(run)) | {
        "reason": reason,
        "error_type": type(error).__name__,
        "conflicts": run.losses,
        "max_attempts": run.options.attempts or 0,
        "lost_s": round(run.lost_s, 6),
        "wait_s": round(run.wait_s, 6),
        "total_s": round(now.mono - run.started, 6),
    }
    return fields | ({"cause": "transaction_abort"} if run.losses else {})


def tx_unknown_fields(run: Told, parts: Sequence[Any], receipt: str, now: Instant) -> dict[str, Any]:
    """
    One line per transaction whose outcome nobody can prove now.
    """
    return _who_tx(run, [part.key for part in parts]) | {
        "receipt": receipt,
        "write_id": str(run.id),
        "total_s": round(now.mono - run.started, 6),
    }

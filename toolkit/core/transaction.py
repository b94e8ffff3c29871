"""
A transaction over several keys: what its body reads and buffers, and the loop around its attempts.

Theory of operation. The body runs on copies and writes into a buffer. When it returns, every key it read or wrote must
still be the version it saw; keys that were only read are guarded like written ones, which makes the outcome
serializable (write skew included). How the commit is made atomic is the business of ``commit``. A body that wrote
nothing commits by reading its keys again until two readings agree. An exception of the body is only believed when its
reads agree as well: else it has seen a mixture, and is run again.

With an operation id, a record of that id is read first and committed with the writes: a repeat finds it and returns the
recorded result. Attempts of one transaction are never under way at once: the next starts when the last is decided.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from msgspec.structs import replace

from toolkit.core.body import RESULT_LIMIT, Again, Finished, Isolation, Options
from toolkit.core.checked import CheckedRun
from toolkit.core.commit import commit_intents, intents_of, undone
from toolkit.core.events import Event
from toolkit.core.judge import Base, Receipt
from toolkit.core.model import Reply
from toolkit.core.native import commit_native, commit_single
from toolkit.core.notes import tx_committed_fields, tx_conflict_fields, tx_gave_up_fields, tx_unknown_fields
from toolkit.core.plan import Ended, Ending, Part, Plan
from toolkit.core.probe import choose_path
from toolkit.core.records import Record, tx_key
from toolkit.core.recovery import finish
from toolkit.core.settle import backoff
from toolkit.core.site import unavailable
from toolkit.core.steps import Chance, Instant, Now, Pause, Steps
from toolkit.core.txreceipt import TxReceipt
from toolkit.core.value import encode, plain
from toolkit.errors import (
    AlreadyExistsError,
    AttemptsExhaustedError,
    InvalidValueError,
    OutcomeUnknownError,
    RecordedError,
    ResultTooLargeError,
    StateError,
)

__all__ = ["FINISH_TIME", "Again", "Finished", "Isolation", "Options", "TxRun", "unknown_error"]

# Seconds for finishing in the background what a decided transaction has left on its keys.
FINISH_TIME: Final = 10.0


class TxRun(CheckedRun):
    """
    One call of ``transact`` with all its attempts.

    The driver calls ``begin``, runs the body, and calls ``end`` with what it returned or raised, until it gets
    ``Finished``. ``later`` holds what should be done afterwards by nobody in particular.
    """

    # -- an attempt ends -------------------------------------------------------------------------------------------

    def end(self, result: Any, error: BaseException | None) -> Steps[Finished | Again]:
        """
        Commit what the body left, or pass on its error; ``Again`` when it must be run once more.

        Raises:
            StateError: Nothing was written, or, for ``OutcomeUnknownError``, may have been.
        """
        buffer = self.buffer
        recorded = self.recordable(error)
        if error is not None:
            buffer.drop()
        if error is not None and not recorded:
            if (yield from self._agree()):
                return Finished(error=error)
            return (yield from self._mixture())
        try:
            outcome = self.outcome_of(result, error) if self.record is not None else None
        except StateError:
            if (yield from self._agree()):
                raise
            return (yield from self._mixture())
        if not buffer.writes and not buffer.guards:
            if not (yield from self._agree()):
                return (yield from self._mixture())
            if outcome is None:
                yield from self.note_committed((), noop=True)
                return Finished(result, after=tuple(buffer.after))
            parts: tuple[Part, ...] = ()
        else:
            try:
                ready = yield from self._parts()
            except AlreadyExistsError:
                # Like an error of the body: only to be believed if the body saw what stood together.
                if (yield from self._agree()):
                    raise
                ready = None
            if ready is None:
                return (yield from self._mixture())
            parts = ready
        ended = yield from self._commit(parts, outcome)
        return (yield from self._conclude(ended, parts, result, error if recorded else None))

    def recordable(self, error: BaseException | None) -> bool:
        """
        Whether an exception of the body is an outcome to be recorded.
        """
        return error is not None and self.record is not None and isinstance(error, self.options.record_errors)

    def outcome_of(self, result: Any, error: BaseException | None) -> Record:
        """
        What the operation record is to say.
        """
        assert self.record is not None
        base = replace(self.record, tag=self.options.label)
        if error is not None:
            said = recorded_form(error)
            self._check_size("text of the error", said, "raise it with less")
            return replace(base, error=said)
        private = plain(result, self.record.key) if result is not None else None
        self._check_size("result", private, "return less, such as a key under which the body stored it")
        return replace(base, result=private)

    def _check_size(self, what: str, value: Any, cure: str) -> None:
        assert self.record is not None
        size = len(encode(value, self.record.key))
        if size > RESULT_LIMIT:
            raise ResultTooLargeError(
                f"op_id {self.options.op_id!r}: the {what} has {size} bytes, {RESULT_LIMIT} can be recorded; {cure}"
            )

    # -- commit and after ------------------------------------------------------------------------------------------

    def _commit(self, parts: tuple[Part, ...], outcome: Record | None) -> Steps[Ended]:
        plan = self.plan = Plan(parts, self.id, self._age(), self.deadline, self.record, outcome)
        if len(parts) == 1 and outcome is None:
            self.path = "single"
            return (yield from commit_single(self.site, plan))
        for part in parts:
            if part.seen.plain and not self.site.rules.envelope:
                kind = type(part.seen.value).__name__
                raise InvalidValueError(
                    f"key {part.key!r}: a bare {kind} cannot take part in a transaction; open the store with "
                    f"StateStore(..., envelope=True)",
                    key=part.key,
                )
        self.path = yield from choose_path(self.site)
        if self.path == "native" and parts:
            return (yield from commit_native(self.site, plan))
        intents = yield from intents_of(self.site, plan)
        try:
            return (yield from commit_intents(self.site, plan, intents))
        except StateError:
            self._finish_later(Ended(Ending.FAILED, Reply(), record=undone(plan)))
            raise

    def _conclude(
        self, ended: Ended, parts: tuple[Part, ...], result: Any, recorded: BaseException | None
    ) -> Steps[Finished | Again]:
        self.last_reply = ended.reply
        self._finish_later(ended)
        if ended.ending is Ending.COMMITTED:
            yield from self.note_committed(parts)
            if recorded is not None:
                return Finished(error=RecordedError(*recorded_form(recorded)))
            return Finished(result, after=tuple(self.buffer.after))
        if ended.ending is Ending.UNKNOWN:
            yield from self._raise_unknown(ended, parts)
        if ended.ending is Ending.FAILED:
            self.failures += 1
            wait = yield from backoff(self.failures)
            return (yield from self._retry(wait))
        return (yield from self._lost(ended))

    def _finish_later(self, ended: Ended) -> None:
        record = ended.record
        if record is not None and record.keys and ended.ending is not Ending.UNKNOWN:
            site, tx = self.site, str(self.id)
            self.later.append(lambda mono: finish(site, record, tx, mono + FINISH_TIME))

    def told_unknown(self, now: Instant) -> Event | None:
        """
        The event for a caller that leaves while its commit is under way; ``None`` when nothing was sent for it.
        """
        plan = self.plan
        if plan is None:
            return None
        self.retired = True
        if self.path == "intents":
            record = plan.record.key if plan.record is not None else tx_key(plan.tx)
            receipt = str(TxReceipt(record, plan.tx, now.wall))
        else:
            part = plan.parts[0]
            receipt = str(Receipt(part.key, plan.id, Base.of(part.seen), now.wall))
        fields = tx_unknown_fields(self, plan.parts, receipt, now)
        return Event("occ.outcome_unknown", {"store": self.site.store, **fields, "reason": "cancelled"})

    def _raise_unknown(self, ended: Ended, parts: tuple[Part, ...]) -> Steps[None]:
        self.retired = True
        now = yield from Now()
        if ended.record is not None:
            receipt = str(TxReceipt(ended.record.key, str(self.id), now.wall))
        else:
            part = ended.base or parts[0]
            receipt = str(Receipt(part.key, self.id, Base.of(part.seen), now.wall))
        yield from self.site.note("occ.outcome_unknown", lambda: tx_unknown_fields(self, parts, receipt, now))
        raise unknown_error(self.options.label, receipt, parts)

    def _mixture(self) -> Steps[Again]:
        """
        The body saw keys that never stood so together, or that have changed since: a loss like any other.
        """
        moved, self.moved = self.moved, None
        rival, base = moved or (None, None)
        reply = Reply("OK", "the keys changed while the body ran")
        return (yield from self._lost(Ended(Ending.LOST, reply, rival, base)))

    def _lost(self, ended: Ended) -> Steps[Again]:
        losses = self.losses + 1
        now = yield from Now()
        chance = (yield from Chance()) if losses > 1 else 0.0
        wait = self.site.policy.wait(losses, self.site.round_trip.seconds, chance)
        spent = now.mono - self.attempt_started
        self.warm |= {seen.key: seen for seen in ended.fresh}
        self.missed(ended.reply, spent, wait, lost=True)
        yield from self.site.note("occ.conflict", lambda: tx_conflict_fields(self, ended, spent, wait))
        return (yield from self._retry(wait))

    def missed(self, reply: Reply, spent: float, wait: float, *, lost: bool) -> None:
        """
        Count an attempt that did not take effect: to a rival, or, where nobody was seen, to an outage.
        """
        self.last_reply = reply
        if not lost:
            self.failures += 1
            return
        self.losses += 1
        self.failures = 0
        self.lost_s += spent
        self.wait_s += wait

    def _retry(self, wait: float) -> Steps[Again]:
        yield from self.check_again(wait)
        if wait > 0:
            self.warm.clear()
            yield from Pause(wait)
        return Again()

    def check_again(self, wait: float) -> Steps[None]:
        """
        See whether there is time for another attempt after so many seconds.

        Raises:
            StateError: There is not, or all attempts are used up; nothing was written.
        """
        now = yield from Now()
        attempts = self.options.attempts
        if now.mono + wait >= self.deadline or (attempts is not None and self.attempt >= attempts):
            yield from self._give_up(
                "deadline" if attempts is None or self.attempt < attempts else "attempts"
            )

    def _give_up(self, reason: str) -> Steps[None]:
        now = yield from Now()
        error = self.given_up(now)
        yield from self.site.note("occ.gave_up", lambda: tx_gave_up_fields(self, reason, error, now))
        raise error

    def given_up(self, now: Instant, wanted: Collection[str] = ()) -> StateError:
        """
        The error for a caller whose time or attempts are used up; names the keys it *wanted* where it has read none.
        """
        elapsed = now.mono - self.started
        keys = sorted({*self.buffer.reads, *self.buffer.writes}) or sorted(wanted)
        if self.losses:
            return AttemptsExhaustedError(
                f"transaction {self.options.label}: lost {self.losses} conflicts in {self.attempt} attempts over "
                f"{elapsed:.3g} s on {', '.join(map(repr, keys[:5]))}; nothing was written. Allow more with RetryPolicy, "
                f"or read settings with tx.peek so that they do not conflict",
                key=keys[0] if keys else "",
                attempt=self.attempt,
                conflicts=self.losses,
                attempts=self.attempt,
                elapsed=elapsed,
            )
        return unavailable(self.site.store, keys[0] if keys else "", elapsed, self.last_reply)

    def note_committed(self, parts: tuple[Part, ...], *, noop: bool = False) -> Steps[None]:
        """
        Report the commit, or that there was nothing to write.
        """
        if self.site.observed():
            now = yield from Now()
            yield from self.site.note(
                "occ.committed", lambda: tx_committed_fields(self, parts, now, noop=noop)
            )

    def close(self) -> None:
        """
        Give the identity back unless a write of it is still of unknown outcome.
        """
        if not self.retired:
            self.site.writers.give_back(self.writer)


def recorded_form(error: BaseException) -> tuple[str, str]:
    """
    Class name and message, as they are recorded: JSON has no lone surrogates.
    """
    return type(error).__name__, str(error).encode("utf-8", "backslashreplace").decode()


def unknown_error(label: str, receipt: str, parts: tuple[Part, ...]) -> OutcomeUnknownError:
    """
    What a caller is told whose commit may or may not have taken effect.
    """
    return OutcomeUnknownError(
        f"transaction {label}: the commit was sent and nothing proves, by the deadline, whether it took effect; "
        f"ask store.resolve(error.receipt) later, or repeat the call with the same op_id",
        receipt=receipt,
        key=parts[0].key if parts else "",
    )

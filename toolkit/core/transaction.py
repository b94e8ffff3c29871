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

from collections.abc import Callable, Iterable
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec.structs import replace

from toolkit.core.commit import commit_intents, undone
from toolkit.core.events import Event
from toolkit.core.intents import intent_of
from toolkit.core.jobs import check_value
from toolkit.core.judge import Base, Receipt
from toolkit.core.model import ABSENT, CLEAR, KEEP, TTL, Reply
from toolkit.core.native import commit_native, commit_single
from toolkit.core.notes import tx_committed_fields, tx_conflict_fields, tx_gave_up_fields, tx_unknown_fields
from toolkit.core.plan import Ended, Ending, Part, Path, Plan, version_of
from toolkit.core.probe import choose_path
from toolkit.core.reading import visible
from toolkit.core.records import Record, op_key, tx_key
from toolkit.core.recovery import Age, clear, finish, peek, read_record
from toolkit.core.seen import Seen, see
from toolkit.core.settle import backoff, read
from toolkit.core.site import Site, rpc_timeout, unavailable
from toolkit.core.stamp import WriteId
from toolkit.core.steps import Chance, GetAll, Instant, Now, Pause, Steps
from toolkit.core.txreceipt import TxReceipt
from toolkit.core.value import encode, plain
from toolkit.errors import (
    AlreadyExistsError,
    AttemptsExhaustedError,
    InvalidValueError,
    OperationIdReusedError,
    OperationVoidedError,
    OutcomeUnknownError,
    RecordedError,
    ResultTooLargeError,
    StateError,
    UnsafeStoreError,
)

Isolation: TypeAlias = Literal["serializable", "read_committed"]
RESULT_LIMIT = 64 * 1024
_FINISH_TIME = 10.0


class Options(msgspec.Struct, frozen=True):
    """
    How a transaction is to be run.

    Attributes:
        op_id: The caller's name of the intended effect.
        tag: Name of the function, so that an id used for another one is noticed.
        record_errors: Exceptions that are recorded as the outcome.
    """

    label: str
    call_id: str = ""
    op_id: str | None = None
    isolation: Isolation = "serializable"
    attempts: int | None = None
    budget: float = 10.0
    record_errors: tuple[type[BaseException], ...] = ()


class Buffered(msgspec.Struct):
    """
    A pending write.
    """

    value: Any
    ttl: TTL = CLEAR
    must_be_new: bool = False


class Buffer(msgspec.Struct):
    """
    What one attempt of the body has read and means to write; a savepoint is a copy of the second half.
    """

    reads: dict[str, Seen] = msgspec.field(default_factory=dict[str, Seen])
    shown: dict[str, tuple[Seen, str]] = msgspec.field(default_factory=dict[str, tuple[Seen, str]])
    peeked: dict[str, Seen] = msgspec.field(default_factory=dict[str, Seen])
    writes: dict[str, Buffered] = msgspec.field(default_factory=dict[str, Buffered])
    guards: set[str] = msgspec.field(default_factory=set[str])
    after: list[Callable[[], Any]] = msgspec.field(default_factory=list[Callable[[], Any]])

    def save(self) -> tuple[dict[str, Buffered], set[str], list[Callable[[], Any]]]:
        return dict(self.writes), set(self.guards), list(self.after)

    def restore(self, saved: tuple[dict[str, Buffered], set[str], list[Callable[[], Any]]]) -> None:
        self.writes, self.guards, self.after = saved


class Finished(msgspec.Struct, frozen=True):
    """
    The transaction is over: its result, or an error of the body that its reads justify.
    """

    result: Any = None
    error: BaseException | None = None
    after: tuple[Callable[[], Any], ...] = ()


class Again:
    """
    The body is to be run again.
    """


class TxRun:
    """
    One call of ``transact`` with all its attempts.

    The driver calls ``begin``, runs the body, and calls ``end`` with what it returned or raised, until it gets
    ``Finished``. ``later`` holds what should be done afterwards by nobody in particular.
    """

    def __init__(
        self, site: Site, options: Options, now_wall: float, deadline: float, started: float
    ) -> None:
        self.site, self.options, self.deadline, self.started = site, options, deadline, started
        self.writer = site.writers.take()
        self.first_wall = round(now_wall, 6)
        self.buffer = Buffer()
        self.warm: dict[str, Seen] = {}
        self.id = WriteId(self.writer.name, 0)
        self.record: Record | None = None
        self.attempt = self.losses = self.failures = 0
        self.lost_s = self.wait_s = 0.0
        self.attempt_started = started
        self.last_reply: Reply | None = None
        self.retired = False
        self.later: list[Callable[[float], Steps[Any]]] = []
        self.path: Path = "single"
        self.plan: Plan | None = None

    # -- an attempt begins -----------------------------------------------------------------------------------------

    def begin(self) -> Steps[Finished | None]:
        """
        Start an attempt; with an operation id, first see whether it is done already.
        """
        now = yield from Now()
        self.attempt += 1
        self.attempt_started = now.mono
        self.id = self.writer.next_id()
        self.buffer, self.plan = Buffer(), None
        if self.options.op_id is None:
            return None
        self.record = yield from read_record(self.site, op_key(self.options.op_id), self.deadline)
        return self._recorded(self.record)

    def _recorded(self, record: Record) -> Finished | None:
        op_id, label = self.options.op_id, self.options.label
        if record.void:
            raise OperationVoidedError(f"op_id {op_id!r} was voided: this operation can never take effect")
        if not record.committed:
            return None
        if record.tag and record.tag != label:
            raise OperationIdReusedError(
                f"op_id {op_id!r} already belongs to {record.tag}, not to {label}; make a new op_id for each effect"
            )
        if record.error is not None:
            return Finished(error=RecordedError(*record.error))
        return Finished(record.result)

    # -- what the body does ----------------------------------------------------------------------------------------

    def read(self, key: str) -> Steps[Seen]:
        """
        Read a key once per attempt; another read returns the same.
        """
        seen = self.buffer.reads.get(key)
        if seen is None:
            seen = self.warm.pop(key, None) or (yield from read(self.site, key, self.deadline))
            self.buffer.reads[key] = seen
        return seen

    def value(self, key: str) -> Steps[Any]:
        """
        The value the body sees: its own write, else what it read; ``ABSENT`` when there is none.
        """
        own = self.buffer.writes.get(key)
        if own is not None:
            return own.value if own.value is ABSENT else plain(own.value, key)
        seen, version = yield from self._look(key)
        return plain(seen.value, key) if version else ABSENT

    def _look(self, key: str) -> Steps[tuple[Seen, str]]:
        """
        The key as a reader sees it and its version at that moment, kept so that the body sees one truth per attempt.
        """
        shown = self.buffer.shown.get(key)
        if shown is None:
            seen = yield from self.read(key)
            if intent_of(seen) is not None:
                seen = yield from peek(self.site, seen, self.deadline)
            shown = (seen, version_of(seen, (yield from Now()).wall))
            self.buffer.shown[key] = shown
        return shown

    def prefetch(self, keys: Iterable[str]) -> Steps[None]:
        """
        Read several keys in parallel, for ``get_many``.
        """
        missing = tuple(
            key for key in dict.fromkeys(keys) if key not in self.buffer.reads and key not in self.warm
        )
        if len(missing) < 2:
            return
        now = yield from Now()
        bulk = self.site.profile.bulk_pays and self.site.profile.linearizable
        answers = yield from GetAll(missing, rpc_timeout(self.deadline, now.mono), bulk=bulk)
        for key, answer in zip(missing, answers, strict=True):
            # Some bulk reads miss what is there: a key that seems absent is read again by itself.
            if not isinstance(answer, Reply) and not (bulk and answer.missing):
                self.warm[key] = see(key, answer)

    def peek(self, key: str) -> Steps[Any]:
        """
        Read without guarding: the outcome does not depend on the key staying as it is.
        """
        own = self.buffer.writes.get(key)
        if own is not None:
            return own.value if own.value is ABSENT else plain(own.value, key)
        if key in self.buffer.reads:
            return (yield from self.value(key))
        seen = self.buffer.peeked.get(key)
        if seen is None:
            seen = yield from visible(self.site, key, self.deadline)
            self.buffer.peeked[key] = seen
        wall = (yield from Now()).wall
        return plain(seen.value, key) if seen.exists(wall) else ABSENT

    def put(self, key: str, value: Any, ttl: TTL, *, create: bool = False) -> None:
        """
        Buffer a write.
        """
        check_value(value, key, "value")
        private = plain(value, key)
        encode(private, key)
        earlier = self.buffer.writes.get(key)
        if create and earlier is not None and earlier.value is not ABSENT:
            raise AlreadyExistsError(f"key {key!r} was already written in this transaction", key=key)
        new = (create and earlier is None) or (earlier is not None and earlier.must_be_new)
        self.buffer.writes[key] = Buffered(private, ttl, must_be_new=new)

    def delete(self, key: str) -> None:
        """
        Buffer a removal.
        """
        earlier = self.buffer.writes.get(key)
        self.buffer.writes[key] = Buffered(
            ABSENT, CLEAR, must_be_new=earlier is not None and earlier.must_be_new
        )

    @property
    def writes(self) -> bool:
        """
        Whether the body has anything to commit.
        """
        return bool(self.buffer.writes or self.buffer.guards)

    @property
    def keys(self) -> frozenset[str]:
        """
        Every key the commit depends on or changes.
        """
        return frozenset(self.buffer.reads) | frozenset(self.buffer.writes) | self.buffer.guards

    def waited(self) -> None:
        """
        The body was held up before its commit and is run again on fresh data: not an attempt, nothing was sent.
        """
        self.attempt -= 1
        self.warm.clear()

    # -- an attempt ends -------------------------------------------------------------------------------------------

    def end(self, result: Any, error: BaseException | None) -> Steps[Finished | Again]:
        """
        Commit what the body left, or pass on its error; ``Again`` when it must be run once more.

        Raises:
            StateError: Nothing was written, or, for ``OutcomeUnknownError``, may have been.
        """
        buffer = self.buffer
        recorded = self._recordable(error)
        if error is not None:
            buffer.restore(({}, set(), []))
        if error is not None and not recorded:
            if (yield from self._agree()):
                return Finished(error=error)
            return (yield from self._mixture())
        outcome = self._outcome(result, error) if self.record is not None else None
        if not buffer.writes and not buffer.guards:
            if not (yield from self._agree()):
                return (yield from self._mixture())
            if outcome is None:
                yield from self._note_committed((), noop=True)
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

    def _recordable(self, error: BaseException | None) -> bool:
        return error is not None and self.record is not None and isinstance(error, self.options.record_errors)

    def _outcome(self, result: Any, error: BaseException | None) -> Record:
        assert self.record is not None
        base = replace(self.record, tag=self.options.label)
        if error is not None:
            return replace(base, error=(type(error).__name__, str(error)))
        private = plain(result, self.record.key) if result is not None else None
        size = len(encode(private, self.record.key))
        if size > RESULT_LIMIT:
            raise ResultTooLargeError(
                f"op_id {self.options.op_id!r}: the result has {size} bytes, {RESULT_LIMIT} can be recorded; return less, "
                f"such as a key under which the body stored it"
            )
        return replace(base, result=private)

    def _agree(self) -> Steps[bool]:
        """
        Whether all keys the body read had the versions it saw at one moment (a double collect).
        """
        reads = self.buffer.reads
        if self.options.isolation == "read_committed" or not reads:
            return True
        if len(reads) == 1 and all(intent_of(seen) is None for seen in reads.values()):
            return True
        now = yield from Now()
        answers = yield from GetAll(tuple(reads), rpc_timeout(self.deadline, now.mono))
        agree = True
        for key, answer in zip(tuple(reads), answers, strict=True):
            again = (
                see(key, answer)
                if not isinstance(answer, Reply)
                else (yield from read(self.site, key, self.deadline))
            )
            shown = yield from peek(self.site, again, self.deadline)
            wall = (yield from Now()).wall
            _, before = yield from self._look(key)
            agree = agree and version_of(shown, wall) == before
            self.warm[key] = again
        return agree

    def _parts(self) -> Steps[tuple[Part, ...] | None]:
        """
        Every key to be written or guarded, in key order, on a row without undecided intents; ``None``: run again.
        """
        buffer = self.buffer
        keys = set(buffer.writes) | buffer.guards
        if self.options.isolation == "serializable":
            keys |= set(buffer.reads)
        blind = tuple(sorted(key for key in keys if key not in buffer.reads))
        yield from self.prefetch(blind)
        parts: list[Part] = []
        for key in sorted(keys):
            version = (yield from self._look(key))[1] if key in buffer.reads else None
            row = (
                buffer.reads.get(key)
                or self.warm.pop(key, None)
                or (yield from read(self.site, key, self.deadline))
            )
            free = yield from clear(self.site, row, self._age(), self.deadline)
            wall = (yield from Now()).wall
            if version is not None and version_of(free, wall) != version:
                return None
            waited = yield from self._wait_for_expiry(free, wall)
            if waited:
                return None
            parts.append(self._part(key, free, version, wall))
        return tuple(parts)

    def _part(self, key: str, free: Seen, version: str | None, wall: float) -> Part:
        own = self.buffer.writes.get(key)
        if free.row.missing and not self.site.rules.can_create:
            raise UnsafeStoreError(
                f"key {key!r}: this store has no safe way to create a key, which guarding an absent one needs too",
                reasons=self.site.rules.create_reasons,
            )
        if own is None:
            return Part(key, free, "lock", version=version)
        if own.must_be_new:
            if free.exists(wall):
                raise AlreadyExistsError(f"key {key!r} already exists", key=key, attempt=self.attempt)
            version = ""
        if own.value is ABSENT:
            return Part(key, free, "delete", version=version)
        kind = type(own.value).__name__
        if kind != "dict" and not self.site.rules.envelope and self._needs_envelope(free):
            raise InvalidValueError(
                f"key {key!r}: a bare {kind} cannot take part in a transaction; open the store with "
                f"StateStore(..., envelope=True)",
                key=key,
            )
        expires = self._expires(own.ttl, free, wall)
        return Part(key, free, "put", own.value, expires, version)

    def _needs_envelope(self, seen: Seen) -> bool:
        return not (seen.stamp is not None and seen.stamp.envelope)

    def _expires(self, ttl: TTL, seen: Seen, wall: float) -> float | None:
        if ttl is KEEP:
            return seen.expires if seen.exists(wall) else None
        return None if ttl is CLEAR else round(wall + float(ttl), 3)

    def _wait_for_expiry(self, seen: Seen, wall: float) -> Steps[bool]:
        """
        Wait where readers no longer see a value that a host with a slower clock still may; says whether it did.
        """
        expires = seen.expires
        if expires is None or seen.value is ABSENT or not expires <= wall < expires + self.site.skew:
            return False
        now = yield from Now()
        yield from Pause(min(expires + self.site.skew - wall + 0.001, max(self.deadline - now.mono, 0.0)))
        return True

    def _age(self) -> Age:
        return Age(self.first_wall, self.writer.name)

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
        try:
            return (yield from commit_intents(self.site, plan))
        except StateError:
            self._finish_later(Ended(Ending.FAILED, Reply(), record=undone(plan)))
            raise

    def _conclude(
        self, ended: Ended, parts: tuple[Part, ...], result: Any, recorded: BaseException | None
    ) -> Steps[Finished | Again]:
        self.last_reply = ended.reply
        self._finish_later(ended)
        if ended.ending is Ending.COMMITTED:
            yield from self._note_committed(parts)
            if recorded is not None:
                return Finished(error=RecordedError(type(recorded).__name__, str(recorded)))
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
            self.later.append(lambda mono: finish(site, record, tx, mono + _FINISH_TIME))

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
        raise OutcomeUnknownError(
            f"transaction {self.options.label}: the commit was sent and nothing proves, by the deadline, whether it took "
            f"effect; ask store.resolve(error.receipt) later, or repeat the call with the same op_id",
            receipt=receipt,
            key=parts[0].key if parts else "",
        )

    def _mixture(self) -> Steps[Again]:
        """
        The body saw keys that never stood so together, or that have changed since: a loss like any other.
        """
        return (yield from self._lost(Ended(Ending.LOST, Reply("OK", "the keys changed while the body ran"))))

    def _lost(self, ended: Ended) -> Steps[Again]:
        self.losses += 1
        self.failures = 0
        now = yield from Now()
        chance = (yield from Chance()) if self.losses > 1 else 0.0
        wait = self.site.policy.wait(self.losses, self.site.round_trip.seconds, chance)
        spent = now.mono - self.attempt_started
        self.warm |= {seen.key: seen for seen in ended.fresh}
        self.lost_s += spent
        self.wait_s += wait
        yield from self.site.note("occ.conflict", lambda: tx_conflict_fields(self, ended, spent, wait))
        return (yield from self._retry(wait))

    def _retry(self, wait: float) -> Steps[Again]:
        now = yield from Now()
        attempts = self.options.attempts
        if now.mono + wait >= self.deadline or (attempts is not None and self.attempt >= attempts):
            yield from self._give_up(
                "deadline" if attempts is None or self.attempt < attempts else "attempts"
            )
        if wait > 0:
            self.warm.clear()
            yield from Pause(wait)
        return Again()

    def _give_up(self, reason: str) -> Steps[None]:
        now = yield from Now()
        elapsed = now.mono - self.started
        keys = sorted({*self.buffer.reads, *self.buffer.writes})
        error: Exception
        if self.losses:
            error = AttemptsExhaustedError(
                f"transaction {self.options.label}: lost {self.losses} conflicts in {self.attempt} attempts over "
                f"{elapsed:.3g} s on {', '.join(map(repr, keys[:5]))}; nothing was written. Allow more with RetryPolicy, "
                f"or read settings with tx.peek so that they do not conflict",
                key=keys[0] if keys else "",
                attempt=self.attempt,
                conflicts=self.losses,
                attempts=self.attempt,
                elapsed=elapsed,
            )
        else:
            error = unavailable(self.site.store, keys[0] if keys else "", elapsed, self.last_reply)
        yield from self.site.note("occ.gave_up", lambda: tx_gave_up_fields(self, reason, error, now))
        raise error

    def _note_committed(self, parts: tuple[Part, ...], *, noop: bool = False) -> Steps[None]:
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

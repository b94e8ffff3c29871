"""
Several transactions of one process in one commit, because they share keys.

Theory of operation. A batch is a transaction whose body is the bodies of its members, one after another, on one working
copy: their order in the batch is their serial order, and the commit is one of those in ``commit`` and ``native``, with
nothing added. What it writes or depends on is the union of its members' keys; the operation records of all members are
written by the same transaction of the store. On intents one record decides, so there a batch carries one operation id at
most, whose record that is. A lost attempt is lost for all: their bodies run again, on fresh data.

What a member reports is true only once the commit is: a body that raised, or only read, saw what others in the batch
had made. If the commit covers every key it read, its answer is that of the commit; else it starts over by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from toolkit.core.body import Finished
from toolkit.core.commit import commit_intents, intents_of, undone
from toolkit.core.events import Event
from toolkit.core.judge import Base, Receipt
from toolkit.core.model import Reply, Row
from toolkit.core.native import commit_native, commit_single
from toolkit.core.notes import tx_committed_fields, tx_conflict_fields, tx_unknown_fields
from toolkit.core.plan import Ended, Ending, Moved, Part, Path, Plan, version_of
from toolkit.core.probe import choose_path
from toolkit.core.records import load, op_key, tx_key
from toolkit.core.recovery import Age, finish, read_record
from toolkit.core.settle import backoff
from toolkit.core.share import Alone, Retry, Share
from toolkit.core.site import Site, rpc_timeout
from toolkit.core.steps import Chance, GetAll, Instant, Now, Pause, Steps
from toolkit.core.transaction import FINISH_TIME, TxRun, unknown_error
from toolkit.core.txreceipt import TxReceipt
from toolkit.core.value import encode
from toolkit.core.working import Working
from toolkit.errors import CorruptValueError, StateError, StoreUnavailableError, UnsafeStoreError

# Bytes of results a batch may carry to operation records; what is over waits for the next batch.
MOST_RESULTS: Final = 1024 * 1024
# What the look for the fate of a commit may stumble over.
_UNCLEAR: Final = (CorruptValueError, StoreUnavailableError)


class MergedRun:
    """
    One attempt to commit several transactions at once.

    The driver calls ``open``, runs the bodies in turn (``fold`` after each), and then ``settle``, after which each share has
    its verdict.
    """

    def __init__(self, site: Site, runs: Sequence[TxRun], keys: frozenset[str]) -> None:
        self.site, self.keys = site, keys
        self.shares = [Share(run) for run in runs]
        self.deadline = max(run.deadline for run in runs)
        self.writer = site.writers.take()
        self.id = self.writer.next_id()
        first = min(runs, key=lambda run: run.first_wall)
        # The oldest member's: it stays a member until it is done, so a batch that keeps losing grows older, too.
        self.age = Age(first.first_wall, self.writer.name)
        self.working = Working(site, self.age, self.deadline)
        self.path: Path = "native"
        self.plan: Plan | None = None
        self.retired = False
        self.later: list[Callable[[float], Steps[Any]]] = []
        self.results = 0
        self.attempt_started = 0.0

    @property
    def _told(self) -> TxRun:
        return next((share.run for share in self.shares if share.writes), self.shares[0].run)

    def _tell(self, fields: dict[str, Any]) -> dict[str, Any]:
        carried = sum(share.writes for share in self.shares)
        return fields | {"path": self.path, "combined": max(carried, 1), "write_id": str(self.id)}

    def open(self) -> Steps[None]:
        """
        Read the keys, and again the operation records of those whose last attempt was lost.
        """
        now = yield from Now()
        self.attempt_started = now.mono
        self.working.add((yield from self.working.fetch(self.keys)))
        again = [share for share in self.shares if share.run.options.op_id is not None and share.run.losses]
        if again:
            names = tuple([op_key(share.run.options.op_id or "") for share in again])
            answers = yield from GetAll(names, rpc_timeout(self.deadline, now.mono))
            for share, name, answer in zip(again, names, answers, strict=True):
                yield from self._reread(share, name, answer)

    def _reread(self, share: Share, name: str, answer: Row | Reply) -> Steps[None]:
        run = share.run
        try:
            if isinstance(answer, Row):
                run.record = load(name, answer)
            else:
                run.record = yield from read_record(self.site, name, run.deadline)
            share.verdict = run.recorded(run.record)
        except StateError as error:
            share.verdict = error

    def fold(self, share: Share, result: Any, error: BaseException | None) -> None:
        """
        Take in what a member's body left, at the end of its turn.
        """
        run, buffer = share.run, share.run.buffer
        recorded = run.recordable(error)
        if error is not None:
            buffer.drop()
        share.result, share.error = result, error
        keys = frozenset(buffer.writes) | buffer.guards
        if run.options.isolation == "serializable" or not keys:
            keys |= frozenset(buffer.reads)
        share.needed = keys
        if not self.working.takes(buffer, keys):
            share.verdict = Alone()
            return
        if run.record is not None and (error is None or recorded):
            try:
                share.outcome = run.outcome_of(result, error)
            except StateError:
                share.verdict = Alone()
                return
            self.results += len(encode(share.outcome.result, run.record.key))
        # Both or none, and all of what it wrote: an interrupt strikes at calls.
        share.ended, self.working.made = True, self.working.with_writes(buffer)

    def broke(self, failure: Exception, now: Instant) -> None:
        """
        Settle what a failure of the machinery itself has left open.
        """
        for share in self.shares:
            if share.verdict is None:
                receipt = self.receipt(share, now)
                parts = self.plan.parts if self.plan is not None else ()
                label = share.run.options.label
                share.verdict = failure if receipt is None else unknown_error(label, receipt, parts)

    def full(self) -> bool:
        """
        Whether the operation records of another member may be too much for one message.
        """
        return self.results > MOST_RESULTS

    def settle(self) -> Steps[None]:
        """
        Commit what the bodies left and give every share its verdict.
        """
        now = yield from Now()
        open_ = [share for share in self.shares if share.verdict is None]
        needed = frozenset[str]().union(
            *[share.needed for share in open_ if share.writes and share.run.writes]
        )
        for share in open_:
            # Others must not have to guard what only this one has read.
            if needed and not share.needed <= needed:
                share.verdict = Alone()
        if not needed:
            yield from self._settle_reads(open_)
            return
        linger = self.working.lingers(needed, now.wall)
        if linger or self._expired(needed, now.wall):
            yield from Pause(min(linger, max(self.deadline - now.mono, 0.0)))
            yield from self._lost(Ended(Ending.LOST, Reply("OK", "a value has just expired")))
            return
        parts = self.working.parts(needed)
        try:
            ended = yield from self._commit(parts)
        except StateError as error:
            if self.path != "intents" and isinstance(error, _UNCLEAR):
                # It may have been sent by then.
                yield from self._unknown(parts)
                return
            self._give(Alone)  # refused as a whole, nothing was written: each will be told its own fault
            return
        yield from self._conclude(ended, parts)

    def _expired(self, keys: frozenset[str], wall: float) -> bool:
        rows, versions = self.working.rows, self.working.versions
        return any(version_of(rows[key], wall) != versions[key] for key in keys)

    def _give(self, verdict: type[Alone | Retry]) -> None:
        for share in self.shares:
            if share.verdict is None:
                share.verdict = verdict()

    def _settle_reads(self, open_: list[Share]) -> Steps[None]:
        """
        Nobody has written: all have seen the same, if only that stood together (a double collect).
        """
        moved = yield from self._moved(frozenset[str]().union(*[share.needed for share in open_]))
        if moved is not None:
            yield from self._lost(Ended(Ending.LOST, Reply("OK", "the keys changed meanwhile"), *moved))
            return
        for share in open_:
            if share.outcome is not None:
                share.verdict = Alone()
            elif share.error is not None:
                share.verdict = Finished(error=share.error)
            else:
                share.verdict = Finished(share.result, after=tuple(share.run.buffer.after))
                yield from share.run.note_committed((), noop=True)

    def _moved(self, keys: frozenset[str]) -> Steps[Moved | None]:
        if len(keys) < 2:
            return None
        again = Working(self.site, self.age, self.deadline)
        again.add((yield from again.fetch(keys)))
        return self.working.moved(again)

    def _commit(self, parts: tuple[Part, ...]) -> Steps[Ended]:
        records = [
            (share.run.record, share.outcome)
            for share in self.shares
            if share.verdict is None and share.outcome is not None and share.run.record is not None
        ]
        record, outcome = records[0] if records else (None, None)
        self.plan = Plan(parts, self.id, self.age, self.deadline, record, outcome, tuple(records[1:]))
        if len(parts) == 1 and not records:
            self.path = "single"
            return (yield from commit_single(self.site, self.plan))
        self.path = yield from choose_path(self.site)
        if self.path == "native":
            return (yield from commit_native(self.site, self.plan))
        if self.plan.others:
            raise UnsafeStoreError(
                "one record decides a transaction on intents, so it can have one operation id only"
            )
        intents = yield from intents_of(self.site, self.plan)
        try:
            return (yield from commit_intents(self.site, self.plan, intents))
        except StateError:
            self._finish_later(Ended(Ending.FAILED, Reply(), record=undone(self.plan)))
            raise

    def _finish_later(self, ended: Ended) -> None:
        record = ended.record
        if record is not None and record.keys and ended.ending is not Ending.UNKNOWN:
            site, tx = self.site, str(self.id)
            self.later.append(lambda mono: finish(site, record, tx, mono + FINISH_TIME))

    def _conclude(self, ended: Ended, parts: tuple[Part, ...]) -> Steps[None]:
        self._finish_later(ended)
        if ended.ending is Ending.COMMITTED:
            yield from self._note_committed(parts)
            for share in self.shares:
                if share.verdict is None:
                    share.verdict = share.truth()
        elif ended.ending is Ending.UNKNOWN:
            yield from self._unknown(parts)
        elif ended.ending is Ending.FAILED:
            yield from self._failed(ended)
        else:
            yield from self._lost(ended)

    def _note_committed(self, parts: tuple[Part, ...]) -> Steps[None]:
        if self.site.observed():
            now = yield from Now()
            told = self._told
            yield from self.site.note(
                "occ.committed", lambda: self._tell(tx_committed_fields(told, parts, now, noop=False))
            )

    def receipt(self, share: Share, now: Instant) -> str | None:
        """
        What names this attempt for a member that must leave before it is decided; ``None`` when nothing was sent.
        """
        plan = self.plan
        if plan is None or not share.writes or share.verdict is not None:
            return None
        self.retired = True
        if self.path == "intents":
            key = plan.record.key if plan.record is not None else tx_key(plan.tx)
            return str(TxReceipt(key, plan.tx, now.wall))
        part = next((part for part in plan.parts if part.key in share.needed), plan.parts[0])
        return str(Receipt(part.key, plan.id, Base.of(part.seen), now.wall))

    def told_unknown(self, share: Share, now: Instant) -> Event | None:
        """
        The event for a member whose caller leaves while the commit is under way.
        """
        receipt = self.receipt(share, now)
        if receipt is None or self.plan is None:
            return None
        fields = self._tell(tx_unknown_fields(share.run, self.plan.parts, receipt, now))
        return Event("occ.outcome_unknown", {"store": self.site.store, **fields, "reason": "cancelled"})

    def _unknown(self, parts: tuple[Part, ...]) -> Steps[None]:
        now = yield from Now()
        self.retired = True
        for share in self.shares:
            if share.verdict is not None:
                continue
            receipt = self.receipt(share, now)
            if receipt is None:
                share.verdict = Alone()
                continue
            run = share.run
            yield from self.site.note(
                "occ.outcome_unknown",
                lambda run=run, receipt=receipt: self._tell(tx_unknown_fields(run, parts, receipt, now)),  # type: ignore[misc]
            )
            share.verdict = unknown_error(run.options.label, receipt, parts)

    def _failed(self, ended: Ended) -> Steps[None]:
        failures = 1 + max(share.run.failures for share in self.shares)
        wait = yield from backoff(failures)
        yield from self._again(ended.reply, wait, lost=False)

    def _lost(self, ended: Ended) -> Steps[None]:
        losses = 1 + max(share.run.losses for share in self.shares)
        now = yield from Now()
        chance = (yield from Chance()) if losses > 1 else 0.0
        wait = self.site.policy.wait(losses, self.site.round_trip.seconds, chance)
        told, spent = self._told, now.mono - self.attempt_started
        yield from self.site.note(
            "occ.conflict", lambda: self._tell(tx_conflict_fields(told, ended, spent, wait))
        )
        yield from self._again(ended.reply, wait, lost=True)

    def _again(self, reply: Reply, wait: float, *, lost: bool) -> Steps[None]:
        """
        Everybody once more, but those who may not try again.
        """
        now = yield from Now()
        for share in self.shares:
            if share.verdict is not None:
                continue
            share.run.missed(reply, now.mono - self.attempt_started, wait, lost=lost)
            try:
                yield from share.run.check_again(wait)
            except StateError as error:
                share.verdict = error
            else:
                share.verdict = Retry()
        if wait > 0:
            yield from Pause(wait)

    def close(self) -> None:
        """
        Give the identity back unless a write of it is still of unknown outcome.
        """
        if not self.retired:
            self.site.writers.give_back(self.writer)

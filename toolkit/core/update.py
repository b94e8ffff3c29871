"""
Read-modify-write of one key, for every caller that waits for it.

One run: read; take the jobs that wait; apply them in order; write once, conditional on what was read; find out what
became of the write; on a conflict start over with the value that won, all jobs included. ``KeyWriter`` holds what must
survive an attempt; every decision is made by ``jobs.apply``, ``judge.judge`` and the policy.
"""

from __future__ import annotations

from collections.abc import Sequence

from toolkit.core.apply import apply
from toolkit.core.callers import Answers, Callers, Take, Tell
from toolkit.core.compose import compose
from toolkit.core.expiry import unclear
from toolkit.core.fairness import give_way, met_rivals, note_win
from toolkit.core.intents import intent_of
from toolkit.core.jobs import Batch, Failed, Job
from toolkit.core.judge import Fate, unknown_error
from toolkit.core.model import Reply, Write
from toolkit.core.notes import conflict_fields, unknown_fields
from toolkit.core.recovery import clear
from toolkit.core.seen import Seen
from toolkit.core.settle import Flight, Sent, Settled, backoff, landed, read_since, settle
from toolkit.core.site import Site, Writer, rpc_timeout, too_early
from toolkit.core.stamp import WriteId
from toolkit.core.steps import NOW, Chance, Instant, Now, Pause, Put, Steps
from toolkit.errors import StateError, StoreUnavailableError, ValueTooLargeError


class KeyWriter(Callers):
    """
    One run over one key; ``run`` is the generator, ``flight`` what a receipt can be made of meanwhile.

    Attributes:
        early: The row at hand was read before the callers asked: no answer may rest on it alone.
        started: When the first of the callers asked, for a run that begins at once.
    """

    writer: Writer
    flight: Flight | None = None
    started: float | None = None
    receipted = early = False
    losses = failures = 0

    def __init__(
        self, site: Site, key: str, deadline: float, take: Take, tell: Tell = lambda _job, _result: None
    ) -> None:
        super().__init__(site, key, deadline, take, tell)
        self.won = site.wins.take(key)

    def run(self) -> Steps[Answers]:
        """
        Serve every job that ``take`` hands over until none is left; each is answered exactly once.
        """
        self.writer = self.site.writers.take()
        try:
            if self.won is not None:
                yield from give_way(self.won, self.deadline)
                self.started = None  # what was given away is no part of a round trip
            over = False
            while not over:
                try:
                    yield from self._serve()
                    over = True
                except StoreUnavailableError as error:
                    over = yield from self._outlast(error)
        except StateError as error:
            self._take_more()
            jobs, self.jobs = self.jobs, []
            yield from self._fail(jobs, error)
        finally:
            if not self.receipted and self.flight is None:
                self.site.writers.give_back(self.writer)
        return self.answers

    def _serve(self) -> Steps[None]:
        seen: Seen | None = None
        fresh = False
        while True:
            self.making = False
            started, self.started = self.started, None
            if started is None:
                started = (yield from Now()).mono
            if not fresh:
                seen = self.site.ahead.take(self.key, started)
                self.early, fresh = seen is not None, True
            if seen is None:
                seen, now = yield from read_since(self.site, self.key, started, self.deadline)
                if intent_of(seen) is not None:
                    seen = yield from self._clear(seen)
                    now = yield from Now()
            else:
                now = yield from Now()
            self._take_more()
            for late in self._begin(now):
                yield from self._give_up(late, now)
            if not self.jobs:
                return
            self.attempt.begin(started, now.mono)
            if seen.expires is not None and (yield from self._wait_for_expiry(seen, now)):
                seen = None
                continue
            batch = self._apply(seen, self.jobs, now.wall)
            if not batch.working.dirty:
                if self.early:
                    self._start_over()
                    seen = None
                    continue
                yield from self._committed(self._answered(batch), batch, None, seen)
                return
            done, seen = yield from self._write(seen, batch, now)
            if done:
                return

    def _start_over(self) -> None:
        """
        Count the attempt for none: the row that was read early decided nothing.
        """
        self.early = False
        for job in self.jobs:
            job.attempts -= 1

    def _apply(self, seen: Seen, jobs: Sequence[Job], wall: float) -> Batch:
        """
        Run the callers' changes; a call on a store from inside one of them is refused.
        """
        try:
            self.site.running("change function")
            return apply(seen, jobs, wall, self.site.rules)
        finally:
            self.site.running(None)

    def _clear(self, seen: Seen) -> Steps[Seen]:
        if intent_of(seen) is None:
            return seen
        return (yield from clear(self.site, seen, None, self.deadline))

    def _wait_for_expiry(self, seen: Seen, now: Instant) -> Steps[bool]:
        """
        Wait until all hosts agree that a value has expired, which is no attempt; says whether there was such a wait.
        """
        wait, hasty = unclear(seen, self.jobs, now, self.site.skew)
        if not wait:
            return False
        self.making = False
        self.jobs = [job for job in self.jobs if job not in hasty]
        for job in hasty:
            self._answer(job, too_early(job, wait))
        for job in self.jobs:
            job.attempts -= 1
        if self.jobs:
            yield from Pause(wait)
        return True

    def _write(self, seen: Seen, batch: Batch, now: Instant) -> Steps[tuple[bool, Seen | None]]:
        """
        Write the batch and act on what became of it; says whether the run is over, else what to build on next.
        """
        if self.receipted:
            # Somebody holds a receipt for the slot of the last write: leave that slot alone.
            self.writer, self.receipted = self.site.writers.take(), False
        write_id = self.writer.next_id()
        write = compose(self.site, seen, batch.working, write_id, now.wall)
        if self.early and not isinstance(write, Write):
            self._start_over()
            return False, None
        if isinstance(write, ValueTooLargeError):
            self._too_large(seen, write_id, now)
            return not self.jobs, seen
        if write is None:
            yield from self._committed(self._answered(batch), batch, None, seen)
            return True, None
        clock: Instant = yield NOW
        self.attempt.fn_s = clock.mono - now.mono
        put = Put(write, rpc_timeout(self.deadline, clock.mono))
        self.flight = Flight(seen, write_id, now.wall)
        reply: Reply = yield put
        observed = self.site.observed()
        if observed:
            self.attempt.write_s = (yield from Now()).mono - clock.mono
        if not landed(self.site, seen, reply):
            sent = Sent(seen, write, write_id, self.deadline, self.site.policy.deadline)
            settled = yield from settle(self.site, sent, reply)
            self.last_reply = settled.reply
            if settled.fate is Fate.LOST:
                self.flight, self.making = None, False
                return False, (yield from self._lost(seen, settled, write))
            if settled.fate is not Fate.LANDED:
                yield from self._unknown(batch, now)
                return not self.jobs, None
        done = self._answered(batch)
        self.flight = None  # not before they are answered: an interrupt between the two would have their jobs done again
        if met_rivals(self.losses, self.won, seen):
            yield from note_win(self.site, self.key, write_id)
        if observed:
            self.attempt.bytes = len(write.data or b"")
            yield from self._committed(done, batch, write_id, seen)
        return True, None

    def _too_large(self, seen: Seen, write_id: WriteId, now: Instant) -> None:
        """
        Refuse the first job with which the batch outgrows the store; the others go on without it.
        """
        for count in range(1, len(self.jobs) + 1):
            batch = self._apply(seen, self.jobs[:count], now.wall)
            error = compose(self.site, seen, batch.working, write_id, now.wall)
            if isinstance(error, ValueTooLargeError):
                self.answers.append((self.jobs.pop(count - 1), Failed(error)))
                break
        for other in self.jobs:
            other.attempts -= 1

    def _lost(self, seen: Seen, settled: Settled, write: Write) -> Steps[Seen | None]:
        """
        Another write came first, or the store never took ours: wait as the policy says.
        """
        if self.early and settled.contended and settled.seen is not None:
            self.site.ahead.miss(self.key)
            self._start_over()
            return (yield from self._clear(settled.seen))
        now = yield from Now()
        if not settled.contended:
            self.failures += 1
            wait = yield from backoff(self.failures)
        else:
            self.losses += 1
            self.failures = 0
            for job in self.jobs:
                job.conflicts += 1
            chance = (yield from Chance()) if self.losses > 1 else 0.0
            wait = self.site.policy.wait(self.losses, self.site.round_trip.seconds, chance)
            attempt = self.attempt
            attempt.lose(wait)
            sent = write.data or b""
            yield from self.site.note(
                "occ.conflict", lambda: conflict_fields(self.jobs, attempt, seen, settled, wait, sent)
            )
        # Waiting past the deadline would only make the news late.
        wait = min(wait, max(self.deadline - now.mono, 0.0))
        if wait > 0:
            yield from Pause(wait)
            return None
        return (yield from self._clear(settled.seen)) if settled.seen is not None else None

    def _unknown(self, batch: Batch, now: Instant) -> Steps[None]:
        """
        Nobody knows whether the batch is stored; a job that was refused for what stands in it is to try once more.
        """
        assert self.flight is not None
        receipt, self.receipted = self.flight.receipt, True
        jobs, attempt = self.jobs, self.attempt
        self.jobs = []
        for index, (job, result) in enumerate(zip(jobs, batch.results, strict=True)):
            if index < batch.firm and not self.early:
                self.answers.append((job, result))
            elif isinstance(result, Failed) or index < batch.firm:
                self.jobs.append(job)
            else:
                self.answers.append((job, Failed(unknown_error(receipt))))
        self.flight = None
        yield from self.site.note("occ.outcome_unknown", lambda: unknown_fields(jobs, attempt, receipt, now))

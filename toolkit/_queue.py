"""
The queue of a key: the calls that wait for it, those that are being served, and what each is told.
"""

from __future__ import annotations

import copy
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextvars import Context
from typing import Any

from toolkit._drive import UnderWay
from toolkit.core.callers import Answers
from toolkit.core.events import Event
from toolkit.core.jobs import Failed, Job, Result
from toolkit.core.judge import unknown_error
from toolkit.core.site import Site, exhausted, unavailable
from toolkit.core.steps import Step
from toolkit.core.update import KeyWriter
from toolkit.errors import StateError


class Ticket(Job, eq=False):
    """
    A call in the queue of its key, and its answer.

    Attributes:
        event: Set when there is an answer, or the lead.
        context: What its caller has bound for the log; ``None`` when nobody listened.
        decode: From the stored form to the caller's, where there is a codec.
    """

    event: Any = None
    context: Context | None = None
    decode: Callable[[Any], Any] | None = None
    result: Result | None = None
    taken: bool = False
    lead: bool = False

    def withdraw(self) -> None:
        """
        Its caller is gone: a write under way is seen through, another attempt is not made.
        """
        self.deadline = 0.0

    def tell(self, result: Result) -> None:
        """
        Give the caller its answer.
        """
        self.result = result
        if self.event is not None:
            self.event.set()

    def answer(self) -> Any:
        """
        Return the caller's value, or raise its error.
        """
        result = self.result
        assert result is not None
        if isinstance(result, Failed):
            raise result.error
        value = result.value
        return value if self.decode is None or value is None else self.decode(value)


class KeyQueue:
    """
    The calls that wait for one key, and the run under way.

    Attributes:
        run: What the thread or task that leads drives.
        leader: Whose thread that is, in the sync colour; none while the background drives.
        told: Who had the last answers, for one that is interrupted before all of them are awake.
    """

    __slots__ = ("key", "leader", "run", "served", "told", "waiting", "writer")

    def __init__(self, key: str) -> None:
        self.key = key
        self.waiting: deque[Ticket] = deque()
        self.served: list[Ticket] = []
        self.told: Sequence[Ticket] = ()
        self.writer: KeyWriter | None = None
        self.run: UnderWay | None = None
        self.leader: Ticket | None = None

    def start(self, site: Site, take: Callable[[], Sequence[Job]]) -> KeyWriter:
        writer = self.writer = KeyWriter(site, self.key, self.waiting[0].deadline, take, _tell)
        return writer

    def take(self) -> Sequence[Job]:
        """
        All that waits, in order of arrival; called by the leader once its read is back.
        """
        if not self.waiting:
            return ()
        tickets = list(self.waiting)
        for ticket in tickets:
            ticket.taken = True
        self.served += tickets
        self.waiting.clear()  # last: an interrupt on the way leaves nobody in neither
        return tickets

    def answer(self, answers: Answers) -> list[Ticket]:
        """
        Hand the answers to their tickets; one error object for each caller.
        """
        errors: set[int] | None = None
        for job, result in answers:
            assert isinstance(job, Ticket)
            job.result = result
            if isinstance(result, Failed):
                errors = errors or set()
                if id(result.error) in errors and isinstance(result.error, StateError):
                    job.result = Failed(copy.copy(result.error))
                errors.add(id(result.error))
        served = self.told = self.served
        self.served, self.writer, self.run = [], None, None
        return served

    def shared(self) -> bool:
        """
        Whether a run serves several calls.
        """
        return len(self.served) > 1

    def unanswered(self) -> Iterator[Ticket]:
        """
        All whose callers are still there, in order of arrival.
        """
        present = itertools.chain(self.served, self.waiting)
        return (ticket for ticket in present if ticket.result is None and ticket.deadline)

    def leave(self, site: Site, ticket: Ticket) -> Exception | None:
        """
        The error with which a caller leaves at its deadline; ``None`` while its call is just being made into a write.
        """
        error: Exception | None = None
        if not ticket.taken:
            self.waiting.remove(ticket)
            return unavailable(site.store, self.key, site.policy.deadline, None)
        if self.writer is not None:
            error = self.receipt_error(ticket)
            if error is None and not self.writer.making:
                error = self._too_late(site, ticket)
        if error is not None:
            ticket.withdraw()
        return error

    def salvage(self, failure: Exception | None = None) -> Answers:
        """
        Answers when the protocol itself was interrupted: what was sent is unknown, the others wait again.

        A ``failure`` of the protocol itself is told to everybody instead.
        """
        writer, self.run = self.writer, None
        if writer is None:
            return []
        answers, told = list(writer.answers), {id(job) for job, _ in writer.answers}
        for ticket in reversed([one for one in self.served if id(one) not in told]):
            if failure is not None:
                answers.append((ticket, Failed(failure)))
            elif writer.flight is not None:
                answers.append((ticket, Failed(unknown_error(writer.flight.receipt))))
            elif ticket.deadline:
                ticket.taken = False
                self.served.remove(ticket)
                self.waiting.appendleft(ticket)
        return answers

    def over(self, step: Step[Any]) -> bool:
        """
        Whether a step may take longer than the caller who leads may wait, while others may.
        """
        writer, leader = self.writer, self.leader
        if writer is None or leader is None or writer.deadline <= leader.deadline:
            return False
        takes = getattr(step, "timeout", 0.0) or getattr(step, "seconds", 0.0)
        return leader.result is not None or (takes > 0.0 and time.monotonic() + takes > leader.deadline)

    def _too_late(self, site: Site, ticket: Ticket) -> Exception:
        """
        The error for a call of which nothing is under way.
        """
        elapsed = site.policy.deadline
        if ticket.conflicts:
            return exhausted(self.key, ticket.conflicts, ticket.attempts, elapsed)
        last = None if self.writer is None else self.writer.last_reply
        return unavailable(site.store, self.key, elapsed, last)

    def receipt_error(self, ticket: Ticket) -> Exception | None:
        """
        The error for a caller that leaves while its write is under way; ``None`` when nothing was sent for it.
        """
        writer = self.writer
        if writer is None or writer.flight is None or not ticket.taken or ticket.result is not None:
            return None
        writer.receipted = True
        return unknown_error(writer.flight.receipt)


def _tell(job: Job, result: Result) -> None:
    assert isinstance(job, Ticket)
    job.tell(result)


def note_unknown(site: Site, queue: KeyQueue, ticket: Ticket, hook: Callable[[Event], None]) -> None:
    error = queue.receipt_error(ticket)
    if error is not None and site.observed():
        fields = {
            "store": site.store,
            "key": queue.key,
            "op": ticket.label,
            "call_id": ticket.call_id,
        }
        receipt: str = getattr(error, "receipt", "")
        hook(Event("occ.outcome_unknown", {**fields, "receipt": receipt, "reason": "cancelled"}))

"""
The queue of a key: the calls that wait for it, those that are being served, and what each is told.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import Context
from typing import Any

from toolkit.core.events import Event
from toolkit.core.jobs import Failed, Job, Result
from toolkit.core.judge import unknown_error
from toolkit.core.site import Site, unavailable
from toolkit.core.update import Answers, KeyWriter
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
    """

    __slots__ = ("key", "served", "waiting", "writer")

    def __init__(self, key: str) -> None:
        self.key = key
        self.waiting: deque[Ticket] = deque()
        self.served: list[Ticket] = []
        self.writer: KeyWriter | None = None

    def start(self, site: Site, take: Callable[[], Sequence[Job]]) -> KeyWriter:
        self.writer = KeyWriter(site, self.key, self.waiting[0].deadline, take)
        return self.writer

    def take(self) -> Sequence[Job]:
        """
        All that waits, in order of arrival; called by the leader once its read is back.
        """
        if not self.waiting:
            return ()
        tickets = list(self.waiting)
        self.waiting.clear()
        for ticket in tickets:
            ticket.taken = True
        self.served += tickets
        return tickets

    def answer(self, answers: Answers) -> list[Ticket]:
        """
        Hand the answers to their tickets; one error object for each caller.
        """
        errors: set[int] = set()
        for job, result in answers:
            assert isinstance(job, Ticket)
            job.result = result
            if isinstance(result, Failed):
                if id(result.error) in errors and isinstance(result.error, StateError):
                    job.result = Failed(copy.copy(result.error))
                errors.add(id(result.error))
        served, self.served, self.writer = self.served, [], None
        return served

    def receipt_error(self, ticket: Ticket) -> Exception | None:
        """
        The error for a caller that leaves while its write is under way; ``None`` when nothing was sent for it.
        """
        writer = self.writer
        if writer is None or writer.flight is None or not ticket.taken or ticket.result is not None:
            return None
        writer.receipted = True
        return unknown_error(writer.flight.receipt)


def salvage(queue: KeyQueue, writer: KeyWriter, failure: Exception | None = None) -> Answers:
    """
    Answers when the interrupt struck inside the protocol itself: what was sent is unknown, the rest did not happen.

    A ``failure`` of the protocol itself is told to everybody instead.
    """
    flight = writer.flight
    done = {id(job) for job, _ in writer.answers}
    answers = list(writer.answers)
    for ticket in queue.served:
        if id(ticket) not in done:
            unclear = (
                unknown_error(flight.receipt)
                if flight
                else unavailable(writer.site.store, queue.key, 0.0, None)
            )
            answers.append((ticket, Failed(failure or unclear)))
    return answers


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

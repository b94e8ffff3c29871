"""
One read and one write for every update that waits for the same key in this process.

A FIFO per key. Whoever finds the key idle leads: it reads, takes all jobs that wait by then, writes once, answers
everyone. Sync: the first caller leads in its own thread; when it is done the next waiting caller leads. Async: a task
of the store's task group leads, so that no caller's cancellation can cut a write. Idle keys cost nothing.
"""

from __future__ import annotations

import copy
import inspect
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextvars import Context, ContextVar, copy_context
from typing import Any, Final

import anyio
from anyio.abc import TaskGroup

from toolkit._drive import AsyncWorld, Drive, World, drive_async
from toolkit.core.events import Event
from toolkit.core.jobs import Failed, Job, Result
from toolkit.core.site import Site, unavailable
from toolkit.core.update import Answers, KeyWriter, done_value, unknown_error
from toolkit.errors import StateError

# Seconds a cancelled caller waits for the verdict of a write that is under way.
CANCEL_GRACE: Final = 1.0
# Leaders kept waiting for the next key; a burst starts more, which end with it.
MOST_RESTING: Final = 64
# Seconds past a caller's deadline in which the leader of its batch may still bring the verdict.
LATE: Final = 0.25


# For whom a leader works: its lines of the log are bound as the first of its callers is.
_caller: ContextVar[Context | None] = ContextVar("occ_caller", default=None)


class Ticket:
    """
    A job in the queue of its key, and its answer.
    """

    __slots__ = ("context", "event", "job", "lead", "result", "taken")

    def __init__(self, job: Job) -> None:
        self.job = job
        self.result: Result | None = None
        self.taken = False
        self.lead = False
        self.event: Any = None
        self.context: Context | None = None

    def withdraw(self) -> None:
        """
        Its caller is gone: a write under way is seen through, another attempt is not made.
        """
        self.job.deadline = 0.0


class KeyQueue:
    """
    The jobs that wait for one key, and the run under way.
    """

    __slots__ = ("key", "taken", "waiting", "writer")

    def __init__(self, key: str) -> None:
        self.key = key
        self.waiting: deque[Ticket] = deque()
        self.taken: dict[int, Ticket] = {}
        self.writer: KeyWriter | None = None

    def start(self, site: Site) -> KeyWriter:
        self.writer = KeyWriter(site, self.key, self.waiting[0].job.deadline, self.take)
        return self.writer

    def take(self) -> Sequence[Job]:
        """
        All that waits, in order of arrival; called by the leader once its read is back.
        """
        jobs: list[Job] = []
        while self.waiting:
            ticket = self.waiting.popleft()
            ticket.taken = True
            self.taken[id(ticket.job)] = ticket
            jobs.append(ticket.job)
        return jobs

    def answer(self, answers: Answers) -> list[Ticket]:
        """
        Hand the answers to their tickets; one error object for each caller.
        """
        tickets: list[Ticket] = []
        errors: set[int] = set()
        for job, result in answers:
            ticket = self.taken.pop(id(job))
            ticket.result = result
            if isinstance(result, Failed):
                if id(result.error) in errors and isinstance(result.error, StateError):
                    ticket.result = Failed(copy.copy(result.error))
                errors.add(id(result.error))
            tickets.append(ticket)
        self.writer = None
        return tickets

    def receipt_error(self, ticket: Ticket) -> Exception | None:
        """
        The error for a caller that leaves while its write is under way; ``None`` when nothing was sent for it.
        """
        writer = self.writer
        if writer is None or writer.flight is None or id(ticket.job) not in self.taken:
            return None
        writer.receipted = True
        return unknown_error(writer.flight.receipt)


class Combiner:
    """
    The sync colour; safe for any number of threads.
    """

    def __init__(self, site: Site, world: World, background: Callable[[Callable[[], None]], None]) -> None:
        self.site, self.world, self.background = site, world, background
        self.lock = threading.Lock()
        self.idle = threading.Condition(self.lock)
        self.queues: dict[str, KeyQueue] = {}

    def submit(self, job: Job) -> Any:
        """
        Do a job and return its value.
        """
        ticket = Ticket(job)
        with self.lock:
            queue = self.queues.get(job.key)
            leads = queue is None
            if queue is None:
                queue = self.queues[job.key] = KeyQueue(job.key)
            else:
                ticket.event = threading.Event()
            queue.waiting.append(ticket)
        if leads or self._wait(queue, ticket):
            self._lead(queue)
        assert ticket.result is not None
        return done_value(ticket.result)

    def _wait(self, queue: KeyQueue, ticket: Ticket) -> bool:
        """
        Wait for the answer or for the lead; says whether to lead.
        """
        job = ticket.job
        try:
            ticket.event.wait(max(job.deadline - time.monotonic(), 0.0) + LATE)
            if ticket.result is None and not ticket.lead:
                self._leave(queue, ticket)
        except BaseException:
            self._interrupted(queue, ticket)
            raise
        return ticket.lead and ticket.result is None

    def _leave(self, queue: KeyQueue, ticket: Ticket) -> None:
        """
        The deadline has passed without an answer.
        """
        with self.lock:
            if ticket.lead or ticket.result is not None:
                return
            if not ticket.taken:
                queue.waiting.remove(ticket)
                raise unavailable(self.site.store, ticket.job.key, self.site.policy.deadline, None)
            error = queue.receipt_error(ticket)
        if error is not None:
            raise error
        ticket.event.wait()  # between two attempts: the leader drops late jobs before the next one

    def _interrupted(self, queue: KeyQueue, ticket: Ticket) -> None:
        """
        KeyboardInterrupt and the like in a waiting caller: leave if nothing was sent, else give the write a moment.
        """
        with self.lock:
            if ticket.result is not None:
                return
            if ticket.lead:
                self.background(lambda: self._lead(queue))
                return
            if not ticket.taken:
                if ticket in queue.waiting:
                    queue.waiting.remove(ticket)
                return
        ticket.withdraw()
        ticket.event.wait(CANCEL_GRACE)
        if ticket.result is None:
            _note_unknown(self.site, queue, ticket, self.world.hook)

    def _lead(self, queue: KeyQueue) -> None:
        with self.lock:
            if not queue.waiting:
                self._hand_on(queue)
                return
            writer = queue.start(self.site)
        run = Drive(writer.run(), self.world)
        try:
            answers = run.run()
        except BaseException:
            self.background(lambda: self._take_over(queue, writer, run))
            raise
        self._deliver(queue, answers)

    def _take_over(self, queue: KeyQueue, writer: KeyWriter, run: Drive) -> None:
        """
        Finish, in the background thread, a run whose leader was interrupted.
        """
        if not _is_suspended(run):
            self._deliver(queue, _salvage(queue, writer))
            return
        self._deliver(queue, run.resume())

    def _deliver(self, queue: KeyQueue, answers: Answers) -> None:
        with self.lock:
            tickets = queue.answer(answers)
            self._hand_on(queue)
        for ticket in tickets:
            if ticket.event is not None:
                ticket.event.set()

    def _hand_on(self, queue: KeyQueue) -> None:
        if queue.waiting:
            heir = queue.waiting[0]
            heir.lead = True
            heir.event.set()
        else:
            self.queues.pop(queue.key, None)
            if not self.queues:
                self.idle.notify_all()

    def drain(self, timeout: float | None) -> None:
        """
        Wait until no call is under way, or for so many seconds.
        """
        with self.lock:
            self.idle.wait_for(lambda: not self.queues, timeout)


def _is_suspended(run: Drive) -> bool:
    return not run.ended and inspect.getgeneratorstate(run.steps) == inspect.GEN_SUSPENDED


def _salvage(queue: KeyQueue, writer: KeyWriter) -> Answers:
    """
    Answers when the interrupt struck inside the protocol itself: what was sent is unknown, the rest did not happen.
    """
    flight = writer.flight
    done = {id(job) for job, _ in writer.answers}
    answers = list(writer.answers)
    for ticket in list(queue.taken.values()):
        if id(ticket.job) not in done:
            error = (
                unknown_error(flight.receipt)
                if flight
                else unavailable(writer.site.store, queue.key, 0.0, None)
            )
            answers.append((ticket.job, Failed(error)))
    return answers


def _note_unknown(site: Site, queue: KeyQueue, ticket: Ticket, hook: Callable[[Event], None]) -> None:
    error = queue.receipt_error(ticket)
    if error is not None and site.observed():
        fields = {
            "store": site.store,
            "key": queue.key,
            "op": ticket.job.label,
            "call_id": ticket.job.call_id,
        }
        receipt: str = getattr(error, "receipt", "")
        hook(Event("occ.outcome_unknown", {**fields, "receipt": receipt, "reason": "cancelled"}))


class Leader:
    """
    A task that waits for a key to lead; woken without one it ends.
    """

    __slots__ = ("event", "queue")

    def __init__(self, event: Any) -> None:
        self.event = event
        self.queue: KeyQueue | None = None


class AsyncCombiner:
    """
    The async colour; one event loop, no locks.

    Leaders are tasks of the store's group that stay for the next idle key: starting one costs as much as a third of a
    call.
    """

    def __init__(
        self, site: Site, world: AsyncWorld, group: TaskGroup, make_event: Callable[[], Any]
    ) -> None:
        self.site, self.group, self.make_event = site, group, make_event
        self.world, self.hook = AsyncWorld(world.port, self._note), world.hook
        self.queues: dict[str, KeyQueue] = {}
        self.resting: list[Leader] = []
        self.stopped = False

    async def submit(self, job: Job) -> Any:
        """
        Do a job and return its value.
        """
        ticket = Ticket(job)
        event, ticket.context = self.make_event(), copy_context()
        ticket.event = event
        queue = self.queues.get(job.key)
        if queue is None:
            queue = self.queues[job.key] = KeyQueue(job.key)
            queue.waiting.append(ticket)
            self._find_leader(queue)
        else:
            queue.waiting.append(ticket)
        try:
            await event.wait()
        except BaseException:
            await self._cancelled(queue, ticket)
            raise
        assert ticket.result is not None
        return done_value(ticket.result)

    def _note(self, event: Event) -> None:
        """
        Report an event with what is bound around the call, not around the one that once started the leader.
        """
        context = _caller.get()
        if context is None:
            self.hook(event)
        else:
            context.run(self.hook, event)

    async def _cancelled(self, queue: KeyQueue, ticket: Ticket) -> None:
        """
        A cancelled caller leaves the queue; once its write is under way it gives the verdict a moment.
        """
        if ticket.result is not None:
            return
        if not ticket.taken:
            queue.waiting.remove(ticket)
            return
        ticket.withdraw()
        with anyio.move_on_after(CANCEL_GRACE, shield=True):
            await ticket.event.wait()
        if ticket.result is None:
            _note_unknown(self.site, queue, ticket, self.world.hook)

    def _find_leader(self, queue: KeyQueue) -> None:
        if self.resting:
            leader = self.resting.pop()
            leader.queue = queue
            leader.event.set()
        else:
            self.group.start_soon(self._work, queue)

    async def _work(self, first: KeyQueue) -> None:
        """
        Lead one key after another; no caller's cancellation reaches this task.
        """
        queue: KeyQueue | None = first
        with anyio.CancelScope(shield=True):
            while queue is not None:
                await self._lead(queue)
                if self.stopped or len(self.resting) >= MOST_RESTING:
                    return
                leader = Leader(self.make_event())
                self.resting.append(leader)
                await leader.event.wait()
                queue = leader.queue

    async def _lead(self, queue: KeyQueue) -> None:
        """
        Serve the key until nobody waits.
        """
        while queue.waiting:
            _caller.set(queue.waiting[0].context)
            writer = queue.start(self.site)
            try:
                answers = await drive_async(writer.run(), self.world)
            except BaseException:
                _set(queue.answer(_salvage(queue, writer)))
                self.queues.pop(queue.key, None)
                raise
            _set(queue.answer(answers))
        self.queues.pop(queue.key, None)

    def stop(self) -> None:
        """
        Send the resting leaders home; those at work end with their key.
        """
        self.stopped = True
        for leader in self.resting:
            leader.event.set()
        self.resting.clear()


def _set(tickets: Iterable[Ticket]) -> None:
    for ticket in tickets:
        ticket.event.set()

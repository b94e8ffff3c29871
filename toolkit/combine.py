"""
One read and one write for every update that waits for the same key in this process.

A FIFO per key. Whoever finds the key idle leads: it reads, takes all jobs that wait by then, writes once, answers
everyone. Sync: the first caller leads in its own thread; when it is done the next waiting caller leads. Async: a task
of the store's task group leads, so that no caller's cancellation can cut a write. Idle keys cost nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Final

from toolkit._drive import CANCEL_GRACE, LATE, AsyncWorld, Drive, World, drive_async
from toolkit._queue import KeyQueue, Ticket, note_unknown, salvage
from toolkit._resting import ForCaller, Hands, work_for
from toolkit.core.jobs import Job
from toolkit.core.site import Site, unavailable
from toolkit.core.update import Answers, KeyWriter

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

# Callers of one batch from which on the first is woken ahead of the others.
MANY: Final = 8


class Combiner:
    """
    The sync colour; safe for any number of threads.
    """

    def __init__(self, site: Site, world: World, background: Callable[[Callable[[], None]], None]) -> None:
        self.site, self.world, self.background = site, world, background
        self.lock = threading.Lock()
        self.idle = threading.Condition(self.lock)
        self.queues: dict[str, KeyQueue] = {}
        self.draining = False

    def submit(self, ticket: Ticket) -> Any:
        """
        Do what a caller asks and return his value.
        """
        with self.lock:
            if self.draining:
                raise RuntimeError(f"store {self.site.store!r} was closed when this call began")
            queue = self.queues.get(ticket.key)
            leads = queue is None
            if queue is None:
                queue = self.queues[ticket.key] = KeyQueue(ticket.key)
            else:
                ticket.event = threading.Event()
            queue.waiting.append(ticket)
        if leads or self._wait(queue, ticket):
            self._lead(queue)
        return ticket.answer()

    def _wait(self, queue: KeyQueue, ticket: Ticket) -> bool:
        """
        Wait for the answer or for the lead; says whether to lead.
        """
        try:
            ticket.event.wait(max(ticket.deadline - time.monotonic(), 0.0) + LATE)
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
                raise unavailable(self.site.store, ticket.key, self.site.policy.deadline, None)
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
            note_unknown(self.site, queue, ticket, self.world.hook)

    def _take(self, queue: KeyQueue) -> Sequence[Job]:
        with self.lock:
            return queue.take()

    def _lead(self, queue: KeyQueue) -> None:
        with self.lock:
            if not queue.waiting:
                self._hand_on(queue)
                return
            writer = queue.start(self.site, lambda: self._take(queue))
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
            self._deliver(queue, salvage(queue, writer))
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
            if self.draining and not self.queues:
                self.idle.notify_all()

    def drain(self, timeout: float | None) -> None:
        """
        Wait until no call is under way, or for so many seconds.
        """
        with self.lock:
            self.draining = True
            self.idle.wait_for(lambda: not self.queues, timeout)


def _is_suspended(run: Drive) -> bool:
    import inspect  # slow to import, and hardly ever needed

    return not run.ended and inspect.getgeneratorstate(run.steps) == inspect.GEN_SUSPENDED


class AsyncCombiner:
    """
    The async colour; one event loop, no locks.
    """

    def __init__(
        self, site: Site, world: AsyncWorld, group: TaskGroup, make_event: Callable[[], Any]
    ) -> None:
        self.site = site
        self.world, self.hook = AsyncWorld(world.port, ForCaller(world.hook)), world.hook
        self.hands: Hands[KeyQueue] = Hands(group, make_event, self._lead)
        # On asyncio, where tasks run in the order in which they were woken.
        self.call_soon: Callable[..., Any] | None = getattr(make_event, "call_soon", None)
        self.make_bell: Callable[[], Any] = getattr(make_event, "bell", make_event)
        self.queues: dict[str, KeyQueue] = {}

    async def submit(self, ticket: Ticket) -> Any:
        """
        Do what a caller asks and return his value.
        """
        ticket.event = self.make_bell()
        if self.site.observed():
            ticket.context = copy_context()
        queue = self.queues.get(ticket.key)
        if queue is None:
            queue = self.queues[ticket.key] = KeyQueue(ticket.key)
            queue.waiting.append(ticket)
            self.hands.give(queue)
        else:
            queue.waiting.append(ticket)
        try:
            await ticket.event.wait()
        except BaseException:
            await self._cancelled(queue, ticket)
            raise
        return ticket.answer()

    async def _cancelled(self, queue: KeyQueue, ticket: Ticket) -> None:
        """
        A cancelled caller leaves the queue; once its write is under way it gives the verdict a moment.
        """
        if ticket.result is not None:
            return
        if not ticket.taken:
            queue.waiting.remove(ticket)
            return
        import anyio

        ticket.withdraw()
        ticket.event = self.make_bell()  # the one that was cancelled rings no more
        with anyio.move_on_after(CANCEL_GRACE, shield=True):
            await ticket.event.wait()
        if ticket.result is None:
            note_unknown(self.site, queue, ticket, self.world.hook)

    async def _lead(self, queue: KeyQueue) -> None:
        """
        Serve the key until nobody waits.
        """
        while queue.waiting:
            work_for(queue.waiting[0].context)
            writer = queue.start(self.site, queue.take)
            try:
                answers = await drive_async(writer.run(), self.world)
            except BaseException:
                _wake(queue.answer(salvage(queue, writer)))
                self.queues.pop(queue.key, None)
                raise
            await self._deliver(queue, queue.answer(answers))
        self.queues.pop(queue.key, None)

    async def _deliver(self, queue: KeyQueue, tickets: list[Ticket]) -> None:
        """
        Wake the callers; of many, the first one ahead of the others.

        Whoever calls again in a loop, as workers do, then has the next read under way while the others wake up: their
        share of the processor is spent while the store works.
        """
        if self.call_soon is None or len(tickets) < MANY:
            _wake(tickets)
            return
        import asyncio  # slow to import; the sync colour does without

        tickets[0].event.set()
        rest = tickets[1:]
        try:
            await asyncio.sleep(0)
        finally:
            if queue.waiting:
                self.call_soon(_wake, rest)
            else:
                _wake(rest)

    def stop(self) -> None:
        """
        Send the resting leaders home; those at work end with their key.
        """
        self.hands.stop()


def _wake(tickets: Sequence[Ticket]) -> None:
    for ticket in tickets:
        ticket.event.set()

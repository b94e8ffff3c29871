"""
One read and one write for every update that waits for the same key in this process.

A FIFO per key. Whoever finds the key idle leads: it reads, takes all jobs that wait by then, writes once, answers
everyone. Sync: the first caller leads in its own thread; when it is done the next waiting caller leads, and one whose
deadline is near lets the caller drive on who may wait longest. Async: a task of the store's task group leads, so that no
caller's cancellation can cut a write. Idle keys cost nothing.

A batch goes on until the latest deadline in it. Nobody waits past his own: who must leave while a write is under way for
him gets its receipt.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import anyio

from toolkit._drive import CANCEL_GRACE, LATE, LOOK, AsyncWorld, Drive, World, drive_async, marked
from toolkit._queue import KeyQueue, Ticket, note_unknown
from toolkit._resting import ForCaller, Hands, work_for
from toolkit.core.jobs import Failed, Job
from toolkit.core.site import Site, unavailable
from toolkit.core.update import Answers
from toolkit.errors import StateError

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
        run: Drive | None = None
        with self.lock:
            if self.draining:
                raise RuntimeError(f"store {self.site.store!r} was closed when this call began")
            queue = self.queues.get(ticket.key)
            if queue is None:
                queue = self.queues[ticket.key] = KeyQueue(ticket.key)
                queue.waiting.append(ticket)
                run = self._start(queue, ticket, ticket.started)
            else:
                ticket.event = threading.Event()
                queue.waiting.append(ticket)
        if run is not None:
            self._drive(queue, ticket, run)
        while ticket.result is None:
            if ticket.lead:
                self._lead(queue, ticket)
            else:
                self._wait(queue, ticket)
        return ticket.answer()

    def _wait(self, queue: KeyQueue, ticket: Ticket) -> None:
        """
        Wait for the answer or for the lead, but not past the deadline.
        """
        try:
            if not ticket.event.wait(max(ticket.deadline - time.monotonic(), 0.0) + LATE):
                self._leave(queue, ticket)
        except StateError:
            raise
        except BaseException:
            self._interrupted(queue, ticket)
            raise

    def _leave(self, queue: KeyQueue, ticket: Ticket) -> None:
        """
        The deadline has passed without an answer.
        """
        while True:
            with self.lock:
                if ticket.lead or ticket.result is not None:
                    return
                error = queue.leave(self.site, ticket)
            if error is not None:
                raise error
            ticket.event.wait(LOOK)

    def _interrupted(self, queue: KeyQueue, ticket: Ticket, run: Drive | None = None) -> None:
        """
        KeyboardInterrupt and the like in a caller, who may be driving a run: leave if nothing was sent, else give the
        write a moment.
        """
        with self.lock:
            if ticket.lead or run is not None:
                ticket.lead, ticket.event = False, threading.Event()
                self.background(
                    lambda: self._lead(queue, None) if run is None else self._take_over(queue, run)
                )
            if ticket.result is not None:
                return
            if not ticket.taken:
                if ticket in queue.waiting:
                    queue.waiting.remove(ticket)
                return
            ticket.withdraw()
        ticket.event.wait(CANCEL_GRACE)
        if ticket.result is None:
            note_unknown(self.site, queue, ticket, self.world.hook)

    def _start(self, queue: KeyQueue, leader: Ticket | None, started: float | None = None) -> Drive:
        """
        A run for those that wait; the caller holds the lock.
        """
        writer = queue.start(self.site, partial(self._take, queue))
        writer.started = started
        run = queue.run = Drive(marked(writer.run(), "single"), self.world)
        queue.leader = leader
        return run

    def _take(self, queue: KeyQueue) -> Sequence[Job]:
        with self.lock:
            tickets = queue.take()
            if queue.run is not None and len(queue.served) > 1:
                queue.run.until = queue.over
        return tickets

    def _lead(self, queue: KeyQueue, ticket: Ticket | None) -> None:
        """
        Serve those that wait, or go on where another thread stopped; the background does it for no ticket of its own.
        """
        with self.lock:
            if ticket is not None:
                ticket.lead = False
                if ticket.event is not None:
                    ticket.event.clear()
            run = queue.run
            if run is not None:
                queue.leader = ticket
            elif queue.waiting:
                run = self._start(queue, ticket)
            else:
                self._hand_on(queue)
                return
        self._drive(queue, ticket, run)

    def _drive(self, queue: KeyQueue, ticket: Ticket | None, run: Drive) -> None:
        """
        Drive a run to its end, or for as long as the caller who leads may wait.
        """
        try:
            answers = run.run()
        except BaseException:
            if ticket is None:
                self._deliver(queue, self._salvage(queue))
            else:
                self._interrupted(queue, ticket, run)
            raise
        if run.ended:
            self._deliver(queue, answers)
        elif ticket is not None:
            self._pass_on(queue, ticket)

    def _pass_on(self, queue: KeyQueue, ticket: Ticket) -> None:
        """
        Let the caller drive on who may wait longest, and wait oneself; the background where nobody may wait longer.
        """
        with self.lock:
            ticket.event = threading.Event()
            heir = max(queue.unanswered(), key=lambda one: one.deadline, default=ticket)
            if heir.deadline > ticket.deadline:
                heir.lead = True
                heir.event.set()
            else:
                self.background(lambda: self._lead(queue, None))

    def _take_over(self, queue: KeyQueue, run: Drive) -> None:
        """
        Finish, in the background thread, a run whose leader was interrupted.
        """
        queue.leader = None
        try:
            answers = run.resume() if run.suspended else self._salvage(queue)
        except BaseException:
            self._deliver(queue, self._salvage(queue))
            raise
        self._deliver(queue, answers)

    def _salvage(self, queue: KeyQueue) -> Answers:
        with self.lock:
            return queue.salvage()

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
        self.group, self.stopped = group, False
        self.idle: anyio.Event | None = None
        # Of the task that lets late callers go, while there is one.
        self.watch: anyio.CancelScope | None = None
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
        if self.watch is None:
            self.watch = anyio.CancelScope(shield=True)
            self.group.start_soon(self._watch, self.watch)
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
            steps = marked(queue.start(self.site, queue.take).run(), "single")
            try:
                answers = await drive_async(steps, self.world)
            except Exception as failure:  # noqa: BLE001  handed to the callers: the store goes on
                queue.take()
                answers = queue.salvage(failure)
            except BaseException:
                answers = queue.salvage()
                error = unavailable(self.site.store, queue.key, 0.0, None)
                left = list(queue.waiting)
                _wake(queue.answer([*answers, *((ticket, Failed(error)) for ticket in left)]))
                _wake(left)
                self._forget(queue)
                raise
            await self._deliver(queue, queue.answer(answers))
        self._forget(queue)

    def _forget(self, queue: KeyQueue) -> None:
        self.queues.pop(queue.key, None)
        if self.idle is not None and not self.queues:
            self.idle.set()
        if self.stopped and not self.queues and self.watch is not None:
            self.watch.cancel()

    async def _watch(self, scope: anyio.CancelScope) -> None:
        """
        Let callers go at their deadlines: one task for all of them, asleep until the first deadline there is.
        """
        with scope:
            while self.queues:
                first = [next(queue.unanswered(), None) for queue in self.queues.values()]
                until = min([ticket.deadline for ticket in first if ticket is not None], default=0.0)
                await anyio.sleep(max(until + LATE - time.monotonic(), LOOK))
                self._let_go(time.monotonic() - LATE)
        self.watch = None

    def _let_go(self, before: float) -> None:
        for queue in self.queues.values():
            for ticket in [one for one in queue.unanswered() if one.deadline <= before]:
                error = queue.leave(self.site, ticket)
                if error is not None:
                    ticket.tell(Failed(error))

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
                # One turn of the loop later than the read, which grpc sends from a task of its own.
                self.call_soon(self.call_soon, _wake, rest)
            else:
                _wake(rest)

    async def drain(self) -> None:
        """
        Wait until no call is under way.
        """
        if self.queues:
            self.idle = anyio.Event()
            await self.idle.wait()

    def stop(self) -> None:
        """
        Send the resting leaders home; those at work end with their key, and so does the one that watches deadlines.
        """
        self.stopped = True
        self.hands.stop()
        if not self.queues and self.watch is not None:
            self.watch.cancel()


def _wake(tickets: Sequence[Ticket]) -> None:
    for ticket in tickets:
        ticket.event.set()

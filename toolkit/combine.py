"""
One read and one write for every update that waits for the same key in this process.

A FIFO per key. Whoever finds the key idle leads: it reads, takes all jobs that wait by then, writes once, answers
everyone. Sync: the first caller leads in its own thread; when it is done the next waiting caller leads, and one whose
deadline is near lets the caller drive on who may wait longest. Async: a caller leads in its own task while it is alone;
for several a task of the store does, so that nobody's cancellation cuts what others wait for. Idle keys cost nothing.

A batch goes on until the latest deadline in it. Nobody waits past his own: who must leave while a write is under way for
him gets its receipt.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

import anyio

from toolkit._drive import (
    CANCEL_GRACE,
    LATE,
    LOOK,
    AsyncDrive,
    AsyncWorld,
    Drive,
    UnderWay,
    World,
    drive_async,
    marked,
)
from toolkit._interrupts import Signal, let_go
from toolkit._queue import KeyQueue, Ticket, note_unknown
from toolkit._resting import ForCaller, Hands, work_for
from toolkit.core.callers import Answers
from toolkit.core.jobs import Failed, Job
from toolkit.core.site import Site, unavailable

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
        queue: KeyQueue | None = None
        run: Drive | None = None
        try:
            with self.lock:
                if self.draining:
                    raise RuntimeError(f"store {self.site.store!r} was closed when this call began")
                queue = self.queues.get(ticket.key)
                if queue is None:
                    queue = self.queues[ticket.key] = KeyQueue(ticket.key)
                    queue.waiting.append(ticket)
                    run = self._start(queue, ticket, ticket.started)
                else:
                    ticket.event = Signal()
                    queue.waiting.append(ticket)
            if run is not None:
                self._drive(queue, ticket, run)
            while ticket.result is None:
                if ticket.lead:
                    self._lead(queue, ticket)
                elif not ticket.event.wait(max(ticket.deadline - time.monotonic(), 0.0) + LATE):
                    self._leave(queue, ticket)
        except BaseException as error:
            let_go(error)
            self._interrupted(ticket)
            if queue is not None:
                _wake(queue.told)  # it may have struck before all of them were
            raise
        return ticket.answer()

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
                    ticket.result = Failed(error)
                    return
            ticket.event.wait(LOOK)

    def _interrupted(self, ticket: Ticket) -> None:
        """
        KeyboardInterrupt and the like in a caller, at any place: leave if nothing was sent, else give the write a moment.
        Whatever it had to do for others is done by another thread.
        """
        self.site.running(None)  # it may have struck on the way out of a change
        with self.lock:
            queue = self.queues.get(ticket.key)
            if queue is None:
                return
            taken = ticket.taken and ticket.result is None
            if not taken and ticket in queue.waiting:
                queue.waiting.remove(ticket)
            if taken:
                ticket.withdraw()
                ticket.event = Signal()
            self._hand_over(queue, ticket)
        if taken:
            ticket.event.wait(CANCEL_GRACE)
            if ticket.result is None:
                note_unknown(self.site, queue, ticket, self.world.hook)

    def _hand_over(self, queue: KeyQueue, ticket: Ticket) -> None:
        """
        Another thread drives on, or leads next, where that was up to this caller; who leads next may not have been told.
        """
        heirs = [one for one in queue.unanswered() if one.lead and one is not ticket]
        if (
            ticket.lead
            or queue.leader is ticket
            or (queue.run is None and queue.leader is None and not heirs)
        ):
            ticket.lead, queue.leader, run = False, None, cast("Drive | None", queue.run)
            if run is not None:
                self.background(lambda: self._take_over(queue, run))
                return
            self._hand_on(queue)
        for heir in heirs:
            heir.event.set()

    def _start(self, queue: KeyQueue, leader: Ticket | None, started: float | None = None) -> Drive:
        """
        A run for those that wait; the caller holds the lock.
        """
        queue.leader = leader
        writer = queue.start(self.site, partial(self._take, queue))
        writer.started = started
        run = queue.run = Drive(marked(writer.run(), "single"), self.world)
        return run

    def _take(self, queue: KeyQueue) -> Sequence[Job]:
        with self.lock:
            tickets = queue.take()
            if queue.shared():
                cast("Drive", queue.run).until = queue.over
        return tickets

    def _lead(self, queue: KeyQueue, ticket: Ticket | None) -> None:
        """
        Serve those that wait, or go on where another thread stopped; the background does it for no ticket of its own.
        """
        with self.lock:
            queue.leader = ticket
            if ticket is not None:
                ticket.lead = False
                ticket.event.clear()
            run = cast("Drive | None", queue.run)
            if run is None:
                if not queue.waiting:
                    self._hand_on(queue)
                    return
                run = self._start(queue, ticket)
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
            ticket.event = Signal()
            heir = max(queue.unanswered(), key=lambda one: one.deadline, default=ticket)
            if heir.deadline > ticket.deadline:
                heir.lead, queue.leader = True, None
                heir.event.set()
            else:
                queue.leader = None
                self.background(lambda: self._lead(queue, None))

    def _take_over(self, queue: KeyQueue, run: Drive) -> None:
        """
        Finish, in the background thread, a run whose leader was interrupted.
        """
        queue.leader = None
        try:
            answers = run.run(run.lost()) if run.suspended else self._salvage(queue)
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
        _wake(tickets)

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
        # For a caller who leads himself, and for the store's tasks, which report for a caller.
        self.own_world, self.world = world, AsyncWorld(world.port, ForCaller(world.hook))
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
        queue = self.queues.get(ticket.key)
        lone = queue is None
        if queue is None:
            queue = self.queues[ticket.key] = KeyQueue(ticket.key)
        else:
            self._hang_bell(ticket)
        queue.waiting.append(ticket)
        if self.watch is None:
            self.watch = anyio.CancelScope(shield=True)
            self.group.start_soon(self._watch, self.watch)
        if lone:
            await self._lead_alone(queue, ticket)
        if ticket.result is None:
            try:
                await ticket.event.wait()
            except BaseException:
                await self._cancelled(queue, ticket)
                raise
        return ticket.answer()

    def _hang_bell(self, ticket: Ticket) -> None:
        """
        Have a caller wait for a task of the store, which reports as is bound here.
        """
        ticket.event = self.make_bell()
        if self.site.observed():
            ticket.context = copy_context()

    async def _lead_alone(self, queue: KeyQueue, ticket: Ticket) -> None:
        """
        Serve a key that nobody else wants, in the caller's own task: a task of the store goes on where others have joined.
        """
        writer = queue.start(self.site, queue.take)
        writer.started = ticket.started
        run = queue.run = AsyncDrive(marked(writer.run(), "single"))
        try:
            answers = await run.run(self.own_world, queue.shared)
        except Exception as failure:  # noqa: BLE001  handed to the callers: the store goes on
            queue.take()
            answers, run.ended = queue.salvage(failure), True
        except BaseException:
            await self._interrupted(queue, ticket, run)
            raise
        if not run.ended:
            self._hang_bell(ticket)
            self.hands.give(queue)
            return
        self._done(queue, answers)

    def _done(self, queue: KeyQueue, answers: Answers) -> None:
        _wake(queue.answer(answers))
        if queue.waiting:
            self.hands.give(queue)
        else:
            self._forget(queue)

    async def _interrupted(self, queue: KeyQueue, ticket: Ticket, run: AsyncDrive) -> None:
        """
        A caller who leads is cancelled: if he has no part in what is written he just leaves, else a task of the store goes
        on with the answer of the step that was cut for lost.
        """
        if run.suspended and ticket.taken:
            run.answer = run.lost()
            self._hang_bell(ticket)
            self.hands.give(queue)
            await self._cancelled(queue, ticket)
            return
        ticket.withdraw()
        if run.suspended:
            run.steps.close()
            queue.waiting.remove(ticket)
        self._done(queue, queue.salvage())

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
            note_unknown(self.site, queue, ticket, self.own_world.hook)

    async def _lead(self, queue: KeyQueue) -> None:
        """
        Serve the key until nobody waits; first what a caller has left behind.
        """
        while queue.waiting or queue.run is not None:
            run = queue.run
            if run is None:
                work_for(queue.waiting[0].context)
                run = UnderWay(marked(queue.start(self.site, queue.take).run(), "single"))
            else:
                work_for(queue.served[0].context)
            try:
                answers = await drive_async(run.steps, self.world, run.step, run.answer)
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
            # Who leads without a bell ends by himself.
            for ticket in [
                one for one in queue.unanswered() if one.deadline <= before and one.event is not None
            ]:
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
        if ticket.event is not None:
            ticket.event.set()

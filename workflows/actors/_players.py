"""
Who decides what happens next in a played run.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, Final

from dapr.actor import Actor
from dapr.actor.runtime._type_utils import get_dispatchable_attrs

from toolkit import AsyncStateStore
from toolkit.core.steps import Instant
from workflows.actors._stage import HostDiedError, PlayedHost, Wire
from workflows.actors._virtual import VirtualLoop
from workflows.actors.errors import ActorFencedError
from workflows.actors.fenced import FencedActor
from workflows.actors.mock import MemoryActorClient
from workflows.actors.state import without_mark

if TYPE_CHECKING:
    from workflows.actors.play import Call, Played, PlayedTurn, TurnHazards

# How often a caller who was refused, or a reminder that failed, tries again.
TRIES: Final = 50
# A host beside the one that has the actor, no third.
MOST_HOSTS: Final = 2
# The chance that time passes although something else could happen.
IMPATIENCE: Final = 0.05


class Director:
    """
    One run; see ``play_turns``.
    """

    def __init__(
        self,
        kind: type[Actor],
        actor_id: str,
        calls: list[Call],
        port: Any,
        random: Random,
        hazards: TurnHazards,
        played: Played,
    ) -> None:
        known = get_dispatchable_attrs(kind)
        for one in calls:
            name = one if isinstance(one, str) else one[0]
            if name not in known:
                raise TypeError(f"{kind.__name__} has no method {name!r}: {', '.join(sorted(known))}")
        self.kind, self.actor_id, self.port = kind, actor_id, port
        self.random, self.hazards, self.played = random, hazards, played
        named = [(one, None) if isinstance(one, str) else one for one in calls]
        self.waiting: list[tuple[str, Any, int]] = [(call, argument, 0) for call, argument in named]
        self.wire = Wire()
        self.shared = MemoryActorClient()
        self.hosts: list[PlayedHost[Any]] = []
        self.live: list[PlayedHost[Any]] = []
        self.firings: dict[str, tuple[Any, int]] = {}
        self.timers: set[tuple[int, str]] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self.step = 0
        self.closing = False
        self._base = Instant(time.time(), time.monotonic())

    # -- the run ---------------------------------------------------------------------------------------------------

    def make_loop(self) -> VirtualLoop:
        """
        The loop that asks this director.
        """
        self.loop = VirtualLoop(self.idle)
        return self.loop

    async def run(self) -> Played:
        """
        Wait for the end, and look at what is left.
        """
        self.over = asyncio.get_running_loop().create_future()
        try:
            await self.over
        finally:
            self.closing = True
            for task in self.tasks:
                task.cancel()
            await asyncio.gather(*self.tasks, return_exceptions=True)
            for host in self.hosts:
                self.wire.kill(host.number, delivered=False)
                await host.close()
        self.played.saved = {
            name: json.loads(data)
            for (_, actor_id, name), data in self.shared.state.items()
            if actor_id == self.actor_id
        }
        if issubclass(self.kind, FencedActor):
            async with AsyncStateStore("played", port=self.port) as store:
                value = await store.get(FencedActor.key(self.kind.__name__, self.actor_id))
            self.played.state = without_mark(value) if value is not None else None
        return self.played

    def clock(self) -> Instant:
        """
        Virtual time, told from the moment the run began.
        """
        passed = self.loop.virtual
        return Instant(self._base.wall + passed, self._base.mono + passed)

    # -- what happens next -----------------------------------------------------------------------------------------

    def idle(self, timeout: float | None) -> float:
        """
        Nothing can run: make one thing happen, or let time pass.
        """
        self.step += 1
        if self.closing or self._mishap():
            return 0.0
        choices: list[Callable[[], None]] = [
            partial(self._deliver, number) for number in range(len(self.wire.waiting))
        ]
        choices += self._starts()
        if timeout is not None and (not choices or self.random.random() < IMPATIENCE):
            return timeout
        if choices:
            self.random.choice(choices)()
        elif not self.tasks:
            self.over.set_result(None)
        elif not self.loop.wait_for_threads():
            self._stuck()
        return 0.0

    def _stuck(self) -> None:
        running = ", ".join(
            f"{turn.call} on host {turn.host}" for turn in self.played.turns if not turn.ended
        )
        self.over.set_exception(
            RuntimeError(
                f"seed {self.played.seed}: {running} waits for something that is neither the store, the actor client "
                f"nor asyncio.sleep: the scheduler cannot make it happen"
            )
        )

    def _mishap(self) -> bool:
        drawn, hazards = self.random.random(), self.hazards
        work = bool(self.waiting or self.tasks)
        if drawn < hazards.crash and self.live and work:
            host = self.random.choice(self.live)
            self.live.remove(host)
            delivered = self.random.random() < 0.5
            self._say(f"host {host.number} dies{', its request arrives' if delivered else ''}")
            self.wire.kill(host.number, delivered=delivered)
            if host.task is not None:
                host.task.cancel()
            return True
        drawn -= hazards.crash
        idle = [host for host in self.live if not host.busy and host.mock is not None and host.mock.actor]
        if 0 <= drawn < hazards.deactivate and idle:
            host = self.random.choice(idle)
            self._say(f"host {host.number} deactivates the actor")
            host.task = self._spawn(self._deactivate(host))
            return True
        drawn -= hazards.deactivate
        if 0 <= drawn < hazards.second and len(self.live) < MOST_HOSTS and work:
            self._start_host()
            return True
        return False

    def _deliver(self, number: int) -> None:
        message = self.wire.waiting.pop(number)
        self._say(f"host {message.host}: {message.what} is delivered")
        if not message.gone.done():
            message.gone.set_result(None)

    def _starts(self) -> list[Callable[[], None]]:
        """
        The turns that could begin.
        """
        hosts = [host for host in self.live if not host.busy and host.mock is not None]
        if not self.live and self._due():
            return [self._start_host]
        starts: list[Callable[[], None]] = []
        for host in hosts:
            if self.waiting:
                starts.append(partial(self._call, host))
            starts += [partial(self._remind, host, name) for name in self._reminders_due()]
            timers = [name for name in host.client.timers if (host.number, name) not in self.timers]
            starts += [partial(self._tick, host, name) for name in timers]
        return starts

    def _due(self) -> bool:
        return bool(self.waiting or self._reminders_due())

    def _reminders_due(self) -> list[str]:
        for name, body in self.shared.reminders.items():
            if name not in self.firings or self.firings[name][0] is not body:
                self.firings[name] = (body, 1 + self.random.randint(0, self.hazards.redeliver))
        return [name for name in self.shared.reminders if self.firings[name][1] > 0]

    # -- turns -----------------------------------------------------------------------------------------------------

    def _start_host(self) -> None:
        host: PlayedHost[Any] = PlayedHost(len(self.hosts), self.wire, self.shared)
        self.hosts.append(host)
        self.live.append(host)
        self._say(f"host {host.number} starts")
        self._spawn(host.open(self.kind, self.actor_id, self.port, self.clock, self.random.random))

    def _call(self, host: PlayedHost[Any]) -> None:
        call, argument, tries = self.waiting.pop(self.random.randrange(len(self.waiting)))

        def again() -> None:
            if tries < TRIES:
                self.waiting.append((call, argument, tries + 1))

        turn = self._begin(host, call, argument)
        host.task = self._spawn(self._turn(host, turn, lambda mock: mock.turn(call, argument), refused=again))

    def _remind(self, host: PlayedHost[Any], name: str) -> None:
        body, left = self.firings[name]
        self.firings[name] = (body, 0)

        def settle() -> None:
            ok = turn.error is None and not turn.unknown
            if self.firings.get(name, (None, 0))[0] is body and name in self.shared.reminders:
                self.firings[name] = (body, left - 1 if ok else left)

        turn = self._begin(host, f"reminder {name}", None)
        host.task = self._spawn(self._turn(host, turn, lambda mock: mock.fire_reminder(name), ended=settle))

    def _tick(self, host: PlayedHost[Any], name: str) -> None:
        self.timers.add((host.number, name))
        turn = self._begin(host, f"timer {name}", None)
        host.task = self._spawn(self._turn(host, turn, lambda mock: mock.fire_timer(name)))

    def _begin(self, host: PlayedHost[Any], call: str, argument: Any) -> PlayedTurn:
        from workflows.actors.play import PlayedTurn  # it imports this module

        turn = PlayedTurn(call, argument, host.number, self.step)
        host.busy = True
        self.played.turns.append(turn)
        self._say(f"host {host.number}: {call}({'' if argument is None else argument!r}) begins")
        return turn

    async def _turn(
        self,
        host: PlayedHost[Any],
        turn: PlayedTurn,
        run: Callable[[Any], Any],
        *,
        refused: Callable[[], None] = lambda: None,
        ended: Callable[[], None] = lambda: None,
    ) -> None:
        try:
            turn.answer = await run(host.mock)
        except (HostDiedError, asyncio.CancelledError):
            turn.unknown = True
        except Exception as error:  # noqa: BLE001  what its caller hears
            turn.error = error
        turn.ended, host.busy = self.step, False
        turn.unknown = turn.unknown or host.number in self.wire.dead
        refusal = isinstance(turn.error, ActorFencedError)
        answer = "refused" if refusal else repr(turn.error or turn.answer)
        heard = "nobody hears" if turn.unknown else answer
        self._say(f"host {host.number}: {turn.call} ends: {heard}")
        if refusal and not turn.unknown:
            refused()
        ended()

    async def _deactivate(self, host: PlayedHost[Any]) -> None:
        host.busy = True
        try:
            if host.mock is not None:
                await host.mock.deactivate()
        except (HostDiedError, asyncio.CancelledError):
            pass  # so is the activation
        finally:
            host.busy = False

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = self.loop.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    def _say(self, what: str) -> None:
        self.played.trace.append(f"{self.step:5} {what}")

"""
The engine of `toolkit.testing.simulate`: an agenda of virtual moments, processes, and messages.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Generic

from toolkit.core.events import Event
from toolkit.core.model import Reply
from toolkit.core.steps import Chance, Get, GetAll, Instant, Multi, Note, Now, Pause, Put, PutAll, Step, Steps
from toolkit.testing.interleave import Raised, Returned
from toolkit.testing.simulate import Cancelled, Ending, Hazards, Killed, Life, Network, Range, Run, Start, W

UNAVAILABLE: Final = Reply("UNAVAILABLE", "the simulated connection was lost")
DEADLINE: Final = Reply("DEADLINE_EXCEEDED", "the simulated answer came too late")
EPOCH: Final = 1_700_000_000.0


@dataclass(slots=True)
class _Process:
    name: str
    start: Start
    skew: float
    mono: float
    lives: int = 0
    restarts: int = 0
    generation: int = 0
    steps: Steps[Any] | None = None
    ending: Ending | None = None
    cancelled: BaseException | None = None


@dataclass(slots=True)
class _Call:
    """
    A step that waits for the answers of its parts.
    """

    process: _Process
    generation: int
    one: bool
    answers: list[Any] = field(default_factory=list[Any])
    missing: int = 0


class Simulation(Generic[W]):
    def __init__(self, seed: int, world: W, network: Network, hazards: Hazards) -> None:
        self.seed, self.random = seed, random.Random(seed)  # noqa: S311 - it replays, it keeps no secret
        self.world, self.network, self.hazards = world, network, hazards
        self.now = 0.0
        self.faults: Counter[str] = Counter()
        self.trace: list[tuple[float, str, str]] = []
        self.notes: list[tuple[str, Event]] = []
        self.abandoned: list[Generator[Any, Any, Any]] = []
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._ticket = itertools.count()

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (self.now + seconds, next(self._ticket), action))

    def run(self, processes: Mapping[str, Start], max_events: int) -> Run[W]:
        """
        Start everything, let it end, and tell what happened.
        """
        lives: list[_Process] = []
        for name, start in processes.items():
            skew = self.random.uniform(-self.hazards.skew, self.hazards.skew)
            lives.append(_Process(name, start, skew, mono=self.random.uniform(0, 1e6)))
        for process in lives:
            self.after(self.random.uniform(0.0, 0.01), partial(self.begin, process))
        try:
            self._work(max_events)
        finally:
            _bury(self.abandoned)
        words = "\n".join(f"{who} {what}" for _, who, what in self.trace)
        return Run(
            seed=self.seed,
            world=self.world,
            endings={process.name: process.ending or Killed() for process in lives},
            trace=tuple(self.trace),
            digest=hashlib.blake2b(words.encode(), digest_size=16).hexdigest(),
            faults=+self.faults,
            notes=tuple(self.notes),
            elapsed=self.now,
        )

    def _work(self, max_events: int) -> None:
        for count in itertools.count():
            if not self._agenda:
                return
            if count == max_events:
                raise RuntimeError(
                    f"no end after {max_events} events at {self.now:.1f} virtual s: a livelock?"
                )
            moment, _, action = heapq.heappop(self._agenda)
            if moment > self.now:
                self.world.advance(moment - self.now)
                self.now = moment
            action()

    # Processes -------------------------------------------------------------------------------------------------------

    def begin(self, process: _Process) -> None:
        life = Life(process.name, process.lives, lambda: round(self.now * 1e9), self.random)
        process.lives += 1
        process.generation += 1
        process.steps = process.start(life)
        self._tell(process, f"life {life.number}")
        self._resume(process, process.generation, None)

    def _resume(
        self, process: _Process, generation: int, answer: Any, error: BaseException | None = None
    ) -> None:
        if process.generation != generation or process.steps is None:
            return  # the answer is for a life that is over
        try:
            step = process.steps.send(answer) if error is None else process.steps.throw(error)
            while isinstance(step, (Now, Chance, Note)):
                step = process.steps.send(self._local(process, step))
        except StopIteration as stop:
            self._end(process, Returned(stop.value))
        except Exception as failure:  # noqa: BLE001 - how this process ended; the scenario judges it
            self._end(process, Raised(failure))
        except BaseException as failure:
            if failure is not process.cancelled:
                raise
            self._end(process, Cancelled())
        else:
            self._submit(process, step)

    def _local(self, process: _Process, step: Step[Any]) -> Any:
        match step:
            case Now():
                return Instant(wall=EPOCH + self.now + process.skew, mono=process.mono + self.now)
            case Chance():
                return self.random.random()
            case Note(event):
                self.notes.append((process.name, event))
                return None
            case _:
                raise TypeError(f"no answer for the step {step!r}")

    def _end(self, process: _Process, ending: Ending) -> None:
        process.steps, process.ending = None, ending
        process.generation += 1
        self._tell(process, type(ending).__name__)

    def _kill(self, process: _Process) -> None:
        self.faults["kill"] += 1
        if process.steps is not None:
            self.abandoned.append(process.steps)
        self._end(process, Killed())
        if process.restarts < self.hazards.restarts:
            process.restarts += 1
            self.after(self._within(self.hazards.restart_after), lambda: self.begin(process))

    def _submit(self, process: _Process, step: Step[Any]) -> None:
        hazards = self.hazards
        spared = hazards.restarts and process.restarts >= hazards.restarts
        dies = not spared and self._happens(hazards.kill)
        if dies and self._happens(0.5):
            self._kill(process)
            return
        if isinstance(step, Pause):
            call = _Call(process, process.generation, one=True, answers=[None], missing=1)
            self.after(max(step.seconds, 0.0), lambda: self._part(call, 0, None))
        else:
            call = self._send(process, step)
        if dies:
            self._kill(process)
        elif self._happens(hazards.cancel):
            self.faults["cancel"] += 1
            generation, error = process.generation, hazards.cancellation()
            self.after(self.random.uniform(0.0, 0.02), lambda: self._cut(call, generation, error))

    def _cut(self, call: _Call, generation: int, error: BaseException) -> None:
        if call.missing and call.process.generation == generation:
            call.missing = -1  # the answer, when it comes, finds nobody waiting
            call.process.cancelled = error
            self._tell(call.process, "cancelled")
            self._resume(call.process, generation, None, error)

    def _part(self, call: _Call, index: int, answer: Any) -> None:
        if call.missing <= 0 or call.answers[index] is not None:
            return  # settled before: a timeout after the answer, or an answer after the timeout
        call.answers[index] = answer
        call.missing -= 1
        if call.missing:
            return
        result = call.answers[0] if call.one else tuple(call.answers)
        if self._happens(self.hazards.freeze):
            self.faults["freeze"] += 1
            pause = self._within(self.hazards.freeze_for)
            self.after(pause, lambda: self._resume(call.process, call.generation, result))
        else:
            self._resume(call.process, call.generation, result)

    # Messages --------------------------------------------------------------------------------------------------------

    def _send(self, process: _Process, step: Step[Any]) -> _Call:
        match step:
            case Get(key, timeout):
                return self._reads(process, (key,), timeout, one=True)
            case GetAll(keys, timeout):
                return self._reads(process, keys, timeout, one=False)
            case Put(write, timeout):
                parts = [(f"put {write.key}", lambda: self.world.put(write))]
                return self._writes(process, parts, timeout, one=True)
            case PutAll(writes, timeout):
                parts = [(f"put {write.key}", partial(self.world.put, write)) for write in writes]
                return self._writes(process, parts, timeout, one=False)
            case Multi(writes, timeout):
                name = "multi " + " ".join(write.key for write in writes)
                return self._writes(process, [(name, lambda: self.world.multi(writes))], timeout, one=True)
            case _:
                raise TypeError(f"no answer for the step {step!r}")

    def _open(self, process: _Process, parts: int, *, one: bool) -> _Call:
        call = _Call(process, process.generation, one=one, answers=[None] * parts, missing=parts)
        if not parts:  # nothing to ask: the empty answer comes by itself
            self.after(0.0, lambda: self._resume(process, call.generation, ()))
        return call

    def _reads(self, process: _Process, keys: tuple[str, ...], timeout: float, *, one: bool) -> _Call:
        call = self._open(process, len(keys), one=one)
        for index, key in enumerate(keys):
            failed = self._happens(self.network.fail_read)
            self.faults["fail_read"] += failed

            def arrive(index: int = index, key: str = key, *, failed: bool = failed) -> None:
                row = UNAVAILABLE if failed else self.world.get(key)
                self._tell(process, f"get {key}: {row.code if isinstance(row, Reply) else row.etag}")
                self.after(self._within(self.network.latency), lambda: self._part(call, index, row))

            self.after(self._within(self.network.latency), arrive)
            self.after(timeout, partial(self._part, call, index, DEADLINE))
        return call

    def _writes(
        self, process: _Process, parts: list[tuple[str, Callable[[], Reply]]], timeout: float, *, one: bool
    ) -> _Call:
        call = self._open(process, len(parts), one=one)
        for index, (name, apply) in enumerate(parts):
            self.after(timeout, partial(self._part, call, index, DEADLINE))
            self._message(call, index, name, apply)
        return call

    def _message(self, call: _Call, index: int, name: str, apply: Callable[[], Reply]) -> None:
        network = self.network
        late = self._fires("late")
        travel = self._within(network.late_after if late else network.latency)
        silent = self._fires("drop_reply")
        if self._fires("drop_request"):
            if self._happens(0.5):
                self.after(travel, lambda: self._part(call, index, UNAVAILABLE))
            return
        again = self._fires("duplicate")
        lost = UNAVAILABLE if silent and self._happens(0.5) else None

        def arrive(copy: str, *, answers: bool) -> None:
            reply = apply()
            self._tell(call.process, f"{copy}{name}: {reply.code}")
            answer = lost if silent else reply
            if answers and answer is not None:
                self.after(self._within(network.latency), lambda: self._part(call, index, answer))

        self.after(travel, lambda: arrive("", answers=not again))
        if again:
            self.after(travel + self._within(network.latency), lambda: arrive("again ", answers=True))
        if self._fires("late_duplicate"):
            self.after(travel + self._within(network.late_after), lambda: arrive("late ", answers=False))

    # Chance ----------------------------------------------------------------------------------------------------------

    def _within(self, bounds: Range) -> float:
        return self.random.uniform(*bounds)

    def _happens(self, chance: float) -> bool:
        return chance > 0 and self.random.random() < chance

    def _fires(self, fault: str) -> bool:
        fired = self._happens(getattr(self.network, fault))
        self.faults[fault] += fired
        return fired

    def _tell(self, process: _Process, words: str) -> None:
        self.trace.append((self.now, process.name, words))


def _bury(generators: list[Generator[Any, Any, Any]]) -> None:
    for generator in generators:
        try:
            generator.close()
        except RuntimeError as refused:
            # A dead process that still asks for steps on its way out: nobody is there to answer.
            if "ignored GeneratorExit" not in str(refused):
                raise

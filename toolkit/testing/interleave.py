"""
Every interleaving of a few step generators, by re-execution.

Generators cannot be copied, so each schedule is run from the start: the schedule is the list of choices, and the
explorer counts it up like an odometer. Steps that touch nothing shared (a pause, a look at the clock, an event) are no
choice and run at once, which keeps the number of schedules to the interleavings that can differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar

from toolkit.core.model import Reply, Row, Write
from toolkit.core.steps import Chance, Get, GetAll, Instant, Multi, Note, Now, Pause, Put, PutAll, Step, Steps


class World(Protocol):
    """
    A store as the steps see it, at one instant: the rules of one profile, no faults, no time of its own.
    """

    def get(self, key: str) -> Row: ...
    def put(self, write: Write) -> Reply: ...
    def multi(self, writes: Sequence[Write]) -> Reply: ...
    def advance(self, seconds: float) -> None: ...


W = TypeVar("W")

LOCAL: Final = (Pause, Now, Chance, Note)


@dataclass(frozen=True, slots=True)
class Returned:
    """
    A generator ended with this value.
    """

    value: Any


@dataclass(frozen=True, slots=True)
class Raised:
    """
    A generator ended with this exception.
    """

    error: Exception


@dataclass(frozen=True, slots=True)
class Execution(Generic[W]):
    """
    One schedule, run to its end.

    Attributes:
        schedule: Which generator made each shared step; ``replay`` runs it again.
        trace: The shared steps in order, with who made them and what was answered.
        world: The store as it was left.
        results: What became of each generator.
    """

    schedule: tuple[int, ...]
    trace: tuple[tuple[int, Step[Any], Any], ...]
    world: W
    results: tuple[Returned | Raised, ...]


Perform = Callable[[W, int, Step[Any]], Any]


def answer(world: World, _who: int, step: Step[Any]) -> Any:
    """
    Answer a step from *world* at once and without faults; clocks stand still and chance is always one half.
    """
    match step:
        case Get(key):
            return world.get(key)
        case GetAll(keys):
            return tuple(world.get(key) for key in keys)
        case Put(write):
            return world.put(write)
        case PutAll(writes):
            return tuple(world.put(write) for write in writes)
        case Multi(writes):
            return world.multi(writes)
        case Now():
            return Instant(wall=0.0, mono=0.0)
        case Chance():
            return 0.5
        case Pause() | Note():
            return None
        case _:
            raise TypeError(f"no answer for the step {step!r}")


class _Runner(Generic[W]):
    """
    The generators of one execution and where each of them stands.
    """

    def __init__(self, generators: Sequence[Steps[Any]], world: W, perform: Perform[W]) -> None:
        self._generators, self._world, self._perform = generators, world, perform
        self._waiting: dict[int, Step[Any]] = {}
        self.results: dict[int, Returned | Raised] = {}
        self.trace: list[tuple[int, Step[Any], Any]] = []
        for who in range(len(generators)):
            self._advance(who, None)

    @property
    def enabled(self) -> list[int]:
        return sorted(self._waiting)

    def make(self, who: int) -> None:
        """
        Answer the shared step *who* waits with, and run it up to its next one.
        """
        step = self._waiting.pop(who)
        answered = self._perform(self._world, who, step)
        self.trace.append((who, step, answered))
        self._advance(who, answered)

    def _advance(self, who: int, answered: Any) -> None:
        try:
            step = self._generators[who].send(answered)
            while isinstance(step, LOCAL):
                step = self._generators[who].send(self._perform(self._world, who, step))
        except StopIteration as stop:
            self.results[who] = Returned(stop.value)
        except Exception as error:  # noqa: BLE001 - an outcome of the schedule like any other: the test judges it
            self.results[who] = Raised(error)
        else:
            self._waiting[who] = step


def _run(
    prefix: Sequence[int], generators: Sequence[Steps[Any]], world: W, perform: Perform[W], max_steps: int
) -> tuple[Execution[W], list[int], list[list[int]]]:
    runner = _Runner(generators, world, perform)
    schedule: list[int] = []
    choices: list[list[int]] = []
    while enabled := runner.enabled:
        if len(schedule) == max_steps:
            raise RuntimeError(
                f"no end after {max_steps} shared steps of the schedule {tuple(schedule[:40])}…: "
                "bound the retries of the generators or raise max_steps"
            )
        who = prefix[len(schedule)] if len(schedule) < len(prefix) else enabled[0]
        schedule.append(who)
        choices.append(enabled)
        runner.make(who)
    results = tuple(runner.results[who] for who in range(len(generators)))
    return Execution(tuple(schedule), tuple(runner.trace), world, results), schedule, choices


def replay(
    schedule: Sequence[int],
    make_generators: Callable[[], Sequence[Steps[Any]]],
    make_world: Callable[[], W],
    perform: Perform[W],
    *,
    max_steps: int = 10_000,
) -> Execution[W]:
    """
    Run one schedule again; a shorter one goes on with the first generator that can.
    """
    return _run(schedule, make_generators(), make_world(), perform, max_steps)[0]


def interleavings(
    make_generators: Callable[[], Sequence[Steps[Any]]],
    make_world: Callable[[], W],
    perform: Perform[W],
    *,
    limit: int | None = None,
    max_steps: int = 10_000,
) -> Iterator[Execution[W]]:
    """
    Run every interleaving of the generators, each on a world of its own, depth first.

    *perform* must depend on nothing but its arguments, or replaying a prefix would not lead to the same place. Writers
    that retry on conflict end since every conflict means that another one got on; a protocol that can livelock needs
    its own bound on attempts.

    Args:
        limit: Stop after this many executions; ``None`` visits all.
        max_steps: A schedule longer than this is a RuntimeError.
    """
    prefix: list[int] = []
    count = 0
    while limit is None or count < limit:
        execution, schedule, choices = _run(prefix, make_generators(), make_world(), perform, max_steps)
        yield execution
        count += 1
        while schedule and schedule[-1] == choices[-1][-1]:
            schedule.pop()
            choices.pop()
        if not schedule:
            return
        following = choices[-1][choices[-1].index(schedule[-1]) + 1]
        prefix = [*schedule[:-1], following]

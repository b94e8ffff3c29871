"""
A seeded scheduler of many step generators on virtual time, over a network that loses, repeats and delays.

A process is a generator of steps (`toolkit.core.steps`); it can run one protocol or a whole client that makes call
after call and records a history. Every request travels as a message: it reaches the store never, once or twice, soon or
long after the sender stopped waiting, and its answer comes back right, wrong or not at all. Processes are killed
between and during their calls (the message flies on), frozen past their deadlines, cancelled, and started again.

One ``random.Random(seed)`` makes every choice in a single thread, so the seed replays the whole run::

    run = simulate(7, {"a": client, "b": client}, world, network=Network(drop_reply=0.15))
    assert simulate(7, ...).digest == run.digest

Message delivery to the store is atomic and in the order of virtual time, which is what a linearizable store gives.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

from toolkit.core.events import Event
from toolkit.core.steps import Steps
from toolkit.testing.interleave import Raised, Returned, World

W = TypeVar("W", bound=World)

Range: TypeAlias = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """
    What happens to messages: chances for each message, drawn independently, and ranges in seconds.

    Attributes:
        latency: One way, every message.
        drop_request: The request never arrives.
        drop_reply: The answer never comes back; half the time as UNAVAILABLE at once, half as silence.
        duplicate: The request arrives twice in a row and the second answer is the one that comes back.
        late: The request is held for ``late_after`` and the sender gives up meanwhile.
        late_duplicate: A second copy arrives after ``late_after``; the sender never hears of it.
        fail_read: A read is answered UNAVAILABLE.
    """

    latency: Range = (0.001, 0.01)
    drop_request: float = 0.0
    drop_reply: float = 0.0
    duplicate: float = 0.0
    late: float = 0.0
    late_duplicate: float = 0.0
    late_after: Range = (0.05, 10.0)
    fail_read: float = 0.0


class Cancellation(BaseException):
    """
    What a cancelled process is sent, unless the scenario names its own; like an event loop's, no ``Exception``.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Hazards:
    """
    What happens to processes: chances for each shared step or pause, and ranges in seconds.

    Attributes:
        kill: The process dies at this step, half the time with its request already on the wire.
        restarts: How often each process is started again; afterwards a kill spares it (``Killed`` when 0).
        restart_after: How long it stays down.
        freeze: The process does not look at the answer for ``freeze_for``.
        cancel: The answer is replaced by the exception ``cancellation()``.
        skew: The wall clock of each process is off by up to this much, either way.
    """

    kill: float = 0.0
    restarts: int = 1
    restart_after: Range = (0.01, 2.0)
    freeze: float = 0.0
    freeze_for: Range = (1.0, 10.0)
    cancel: float = 0.0
    cancellation: Callable[[], BaseException] = Cancellation
    skew: float = 0.0


@dataclass(frozen=True, slots=True)
class Killed:
    """
    The process died and was not started again.
    """


@dataclass(frozen=True, slots=True)
class Cancelled:
    """
    The process ended with the cancellation it was sent.
    """


Ending: TypeAlias = Returned | Raised | Killed | Cancelled


@dataclass(frozen=True, slots=True)
class Life:
    """
    One life of a process: what its generator may know of itself.

    Attributes:
        name: The process.
        number: 0 for its first life, one more after each restart.
        clock: The one true virtual time in nanoseconds, for histories; a protocol asks by ``Now``.
        random: The source of the run, for the choices of a workload.
    """

    name: str
    number: int
    clock: Callable[[], int]
    random: random.Random


Start: TypeAlias = Callable[[Life], Steps[Any]]


@dataclass(frozen=True, slots=True)
class Run(Generic[W]):
    """
    A finished simulation.

    Attributes:
        endings: How the last life of each process ended.
        trace: What happened, in order: virtual seconds, process, and words.
        digest: The same for two runs exactly when the same things happened in the same order, times aside.
        faults: How often each fault fired.
        notes: The events the processes reported.
        elapsed: Virtual seconds.
    """

    seed: int
    world: W
    endings: Mapping[str, Ending]
    trace: tuple[tuple[float, str, str], ...]
    digest: str
    faults: Counter[str]
    notes: tuple[tuple[str, Event], ...]
    elapsed: float


def simulate(
    seed: int,
    processes: Mapping[str, Start],
    world: W,
    *,
    network: Network | None = None,
    hazards: Hazards | None = None,
    max_events: int = 200_000,
) -> Run[W]:
    """
    Run the processes against *world* until every process has ended and every message has landed.

    The world is changed in place; give each run a new one. A ``kill`` runs no ``finally`` of the process while the
    simulation lasts: its generator is put aside and closed at the end, where nothing it does reaches the world.

    Raises:
        RuntimeError: The run does not end within *max_events* events.
    """
    from toolkit.testing._simulation import Simulation  # it needs the types above

    return Simulation(seed, world, network or Network(), hazards or Hazards()).run(processes, max_events)

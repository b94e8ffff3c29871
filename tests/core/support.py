"""
Core protocols without a store object: sites, jobs and runs over a ``MemoryWorld``, for tests that choose every step.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from toolkit.core.events import Event
from toolkit.core.jobs import Done, Failed, Job, Rules
from toolkit.core.model import ABSENT, MISSING_ROW, Reply, Row
from toolkit.core.policy import RetryPolicy
from toolkit.core.seen import Seen, see
from toolkit.core.site import Site, Writers
from toolkit.core.stamp import OpId
from toolkit.core.steps import Chance, Get, GetAll, Instant, Multi, Note, Now, Pause, Put, PutAll, Step, Steps
from toolkit.core.update import KeyWriter
from toolkit.testing.memory import MemoryWorld, profile_of

EPOCH = 1_700_000_000.0
PROFILES = ("in-memory", "redis", "postgresql/v2", "mysql")


def names(prefix: str) -> Callable[[], str]:
    """Give writers names that replay."""
    count = itertools.count()
    return lambda: f"{prefix}.{next(count)}"


def make_site(
    profile: str = "in-memory",
    name: str = "a",
    *,
    policy: RetryPolicy | None = None,
    envelope: bool = False,
    observed: bool = False,
    op_window: float = 600.0,
    skew: float = 5.0,
) -> Site:
    """The surroundings of one process called *name*."""
    facts = profile_of(profile)
    rules = Rules(can_create=facts.safe_create, has_ttl=facts.has_ttl, envelope=envelope, op_window=op_window)
    return Site(
        store="s",
        profile=facts,
        rules=rules,
        policy=policy or RetryPolicy(),
        writers=Writers(names(name)),
        observed=lambda: observed,
        skew=skew,
    )


def job(verb: str, key: str = "k", *, op_id: str | None = None, deadline: float = 10.0, **parts: Any) -> Job:
    """A call as the store object would make it."""
    op = OpId.of(op_id, f"{verb}:{parts.get('label', verb)}") if op_id is not None else None
    return Job(verb, key, deadline, op=op, op_id=op_id, **parts)  # type: ignore[arg-type]


def add(count: int = 1) -> Callable[[Any], Any]:
    """A change that adds to ``n``."""
    return lambda value: {**value, "n": value["n"] + count}


def once(site: Site, *jobs: Job, key: str = "k") -> KeyWriter:
    """A run that serves these jobs and then ends."""
    waiting = [list(jobs)]

    def take() -> Sequence[Job]:
        taken, waiting[0] = waiting[0], []
        return taken

    return KeyWriter(site, key, max(one.deadline for one in jobs), take)


def result_of(writer: KeyWriter, which: int = 0) -> Any:
    """The answer to a job: its value, or the error itself."""
    result = writer.answers[which][1]
    return result.value if isinstance(result, Done) else result.error


def errors_of(results: Sequence[Done | Failed]) -> list[str]:
    """The names of the errors among some results, ``ok`` for the others."""
    return [type(one.error).__name__ if isinstance(one, Failed) else "ok" for one in results]


@dataclass
class Script:
    """
    Performs steps on a world at once, with a clock of its own and answers that a test can replace.

    Attributes:
        befall: Asked before each store step with its number and the step; a ``Reply`` it returns is the answer, and
            it does to the world what it likes.
    """

    world: MemoryWorld
    befall: Callable[[int, Step[Any]], Row | Reply | None] = lambda _number, _step: None
    mono: float = 0.0
    steps: list[Step[Any]] = field(default_factory=list[Step[Any]])
    events: list[Event] = field(default_factory=list[Event])

    def drive(self, protocol: Steps[Any]) -> Any:
        """Run a protocol to its end."""
        answer: Any = None
        try:
            while True:
                answer = self.perform(protocol.send(answer))
        except StopIteration as stop:
            return stop.value

    def perform(self, step: Step[Any]) -> Any:
        match step:
            case Now():
                return Instant(self.world.now, self.mono)
            case Chance():
                return 0.5
            case Pause(seconds):
                self.pass_time(seconds)
                return None
            case Note(event):
                self.events.append(event)
                return None
            case Get() | Put() | GetAll() | PutAll() | Multi():
                self.steps.append(step)
                answer = self.befall(len(self.steps) - 1, step)
                return self.ask(step) if answer is None else answer
        raise TypeError(f"no answer for {step!r}")

    def ask(self, step: Step[Any]) -> Any:
        match step:
            case Get(key):
                return self.world.get(key)
            case Put(write):
                return self.world.put(write)
            case GetAll(keys):
                return tuple(self.world.get(key) for key in keys)
            case PutAll(writes):
                return tuple(self.world.put(write) for write in writes)
            case Multi(writes):
                return self.world.multi(writes)
        raise TypeError(f"no answer for {step!r}")

    def pass_time(self, seconds: float) -> None:
        self.mono += seconds
        self.world.advance(seconds)

    def run(self, site: Site, *jobs: Job) -> KeyWriter:
        """Serve some jobs of one key in one batch; their deadlines count from now."""
        for one in jobs:
            one.deadline, one.started = self.mono + one.deadline, self.mono
        writer = once(site, *jobs, key=jobs[0].key)
        self.drive(writer.run())
        return writer

    def look(self, key: str = "k") -> Seen:
        """What is stored now."""
        return see(key, self.world.get(key))

    def value(self, key: str = "k") -> Any:
        """The value a reader sees now; ``ABSENT`` when there is none."""
        seen = self.look(key)
        return seen.value if seen.exists(self.world.now) else ABSENT


def seen_of(data: bytes, etag: str = "1") -> Seen:
    """A read that found these bytes."""
    return see("k", Row(data, etag))


NOTHING = see("k", MISSING_ROW)

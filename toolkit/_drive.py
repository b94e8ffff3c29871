"""
Where the steps of the core meet clocks, chance, sockets and hooks: one driver per colour.
"""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import anyio

from toolkit import _points
from toolkit.core.events import EventHook
from toolkit.core.model import Reply
from toolkit.core.records import OP_PREFIX, PROBE_PREFIX, TX_PREFIX
from toolkit.core.steps import Chance, Get, GetAll, Instant, Multi, Note, Now, Pause, Put, PutAll, Step, Steps
from toolkit.ports import AsyncStatePort, StatePort

R = TypeVar("R")

# Seconds a cancelled caller waits for the verdict of what is under way for it.
CANCEL_GRACE: Final = 1.0
# Seconds past a caller's deadline in which those who work for it may still bring the verdict.
LATE: Final = 0.25
# Seconds between two looks at a call that is about to be sent, past the deadline of its caller.
LOOK: Final = 0.05


def now() -> Instant:
    """
    Both clocks at this moment.
    """
    return Instant(time.time(), time.monotonic())


class World:
    """
    Performs steps on a sync port; safe to share between threads.
    """

    def __init__(self, port: StatePort, hook: EventHook, sleep: Callable[[float], None] = time.sleep) -> None:
        self.port, self.hook, self.sleep = port, hook, sleep
        # A table, since this is asked several times for each call.
        self.acts: dict[type[Step[Any]], Callable[[Any], Any]] = {
            Now: _now,
            Get: lambda step: port.get(step.key, strong=step.strong, timeout=step.timeout),
            Put: lambda step: port.put(step.write, timeout=step.timeout),
            GetAll: lambda step: _read_all(port, step),
            PutAll: lambda step: port.put_all(step.writes, timeout=step.timeout),
            Multi: lambda step: port.multi(step.writes, timeout=step.timeout),
            Pause: lambda step: sleep(step.seconds),
            Chance: _chance,
            Note: lambda step: hook(step.event),
        }


class AsyncWorld:
    """
    Performs steps on an async port, on one event loop.
    """

    def __init__(self, port: AsyncStatePort, hook: EventHook) -> None:
        self.port, self.hook = port, hook
        self.waits: dict[type[Step[Any]], Callable[[Any], Awaitable[Any]]] = {
            Get: lambda step: port.get(step.key, strong=step.strong, timeout=step.timeout),
            Put: lambda step: port.put(step.write, timeout=step.timeout),
            GetAll: lambda step: _read_all(port, step),
            PutAll: lambda step: port.put_all(step.writes, timeout=step.timeout),
            Multi: lambda step: port.multi(step.writes, timeout=step.timeout),
            Pause: lambda step: anyio.sleep(step.seconds),
        }
        self.acts: dict[type[Step[Any]], Callable[[Any], Any]] = {
            Now: _now,
            Chance: _chance,
            Note: lambda step: hook(step.event),
        }

    def use(self, clock: Callable[[], Instant], chance: Callable[[], float]) -> None:
        """
        Take time and chance from a scheduler of tests.
        """
        self.acts[Now] = lambda _step: clock()
        self.acts[Chance] = lambda _step: chance()


def _read_all(port: StatePort | AsyncStatePort, step: GetAll) -> Any:
    """
    The rows, or what is awaited for them.
    """
    if step.bulk:
        return port.get_bulk(step.keys, timeout=step.timeout)
    return port.get_all(step.keys, strong=step.strong, timeout=step.timeout)


def _now(_step: Step[Any]) -> Instant:
    return Instant(time.time(), time.monotonic())


def _chance(_step: Step[Any]) -> float:
    return random.random()  # noqa: S311  jitter, not a secret


# Steps that take time; the others concern nobody else.
_WAITS: Final = frozenset({Get, Put, GetAll, PutAll, Multi, Pause})


class UnderWay:
    """
    A generator that another thread or task can pick up where this one was interrupted, or stopped.

    Attributes:
        step: The last one it asked for; ``None`` before the first, and while it makes up its mind.
        answer: What it is to be told first by whoever goes on with it.
    """

    __slots__ = ("answer", "ended", "step", "steps")

    def __init__(self, steps: Steps[Any]) -> None:
        self.steps = steps
        self.step: Step[Any] | None = None
        self.answer: Any = None
        self.ended = False

    @property
    def suspended(self) -> bool:
        """
        Whether an interrupt struck outside of the protocol, which can go on.
        """
        import inspect  # slow to import, and hardly ever needed

        return (
            not self.ended
            and self.step is not None
            and inspect.getgeneratorstate(self.steps) == inspect.GEN_SUSPENDED
        )

    def lost(self) -> Any:
        """
        What to answer where the answer of a step was cut, which the core knows how to handle; ``None``: ask anew.
        """
        if isinstance(self.step, Get | Put | Multi):
            return Reply("CANCELLED", "interrupted")
        if isinstance(self.step, GetAll | PutAll):
            count = len(self.step.keys if isinstance(self.step, GetAll) else self.step.writes)
            return tuple(Reply("CANCELLED", "interrupted") for _ in range(count))
        return None


class Drive(UnderWay):
    """
    The sync colour, for one thread after another.

    Attributes:
        until: Asked before each step that takes time whether to stop there; it may be put while the drive is under way.
    """

    __slots__ = ("until", "world")

    def __init__(self, steps: Steps[Any], world: World) -> None:
        super().__init__(steps)
        self.world = world
        self.until: Callable[[Step[Any]], bool] | None = None

    def run(self, answer: Any = None) -> Any:
        """
        Begin, or go on with the step before which another thread stopped, or with an *answer* to it.

        Ends with the protocol, or before a step at which ``until`` says so; an exception out of a step (an interrupt) leaves
        the generator where it was.
        """
        send, acts = self.steps.send, self.world.acts
        if answer is None and self.step is not None:
            answer = acts[type(self.step)](self.step)
        try:
            while True:
                self.step = None
                step = self.step = send(answer)
                act = acts[type(step)]
                if self.until is not None and type(step) in _WAITS and self.until(step):
                    return None
                answer = act(step)
        except StopIteration as stop:
            self.ended = True
            return stop.value


class AsyncDrive(UnderWay):
    """
    The async colour, for one task after another.
    """

    __slots__ = ()

    async def run(self, world: AsyncWorld, until: Callable[[], bool]) -> Any:
        """
        Begin, and drive to the end, or to a step that takes time once *until* says so.

        What a step raises is thrown into the protocol, but for a cancellation, which leaves it where it was.
        """
        send, acts, waits = self.steps.send, world.acts, world.waits
        try:
            step = self.step = send(None)
            while True:
                act = acts.get(type(step))
                if act is not None:
                    step = self.step = send(act(step))
                    continue
                if until():
                    return None
                try:
                    answer = await waits[type(step)](step)
                except Exception as error:  # noqa: BLE001  thrown into the protocol, and out of it
                    step = self.step = self.steps.throw(error)
                else:
                    step = self.step = send(answer)
        except StopIteration as stop:
            self.ended = True
            return stop.value


def drive(steps: Steps[R], world: World) -> R:
    """
    Run a protocol to its end in this thread.
    """
    result: R = Drive(steps, world).run()
    return result


async def drive_async(
    steps: Steps[R], world: AsyncWorld, at: Step[Any] | None = None, answer: Any = None
) -> R:
    """
    Run a protocol to its end in this task, or what is left of it; cancellation is thrown into it, and goes on.

    Args:
        steps: The protocol.
        world: Where its steps are performed.
        at: The step that it waits for, where it has begun; not performed yet, unless there is an *answer* to it.
        answer: What it is to be told first.
    """
    acts, waits = world.acts, world.waits
    try:
        step = at if at is not None and answer is None else steps.send(answer)
        while True:
            do = acts.get(type(step))
            if do is not None:
                step = steps.send(do(step))
                continue
            try:
                answer = await waits[type(step)](step)
            except BaseException as error:  # noqa: BLE001  thrown into the protocol, and out of it
                step = steps.throw(error)
            else:
                step = steps.send(answer)
    except StopIteration as stop:
        result: R = stop.value
        return result


def marked(steps: Steps[R], stage: str) -> Steps[R]:
    """
    The same protocol, passing a point before and after each of its writes; itself where no hook is put.

    The points of a ``commit``: ``prepare`` and ``prepared`` around the intents, ``decide`` and ``decided`` around the
    record, ``multi`` and ``applied`` around the store's own transaction, ``write`` and ``written`` around one key. A
    call on a ``single`` key has the last two.
    """
    return steps if _points.hook is None else _marked(steps, stage)


def _marked(steps: Steps[R], stage: str) -> Steps[R]:
    answer: Any = None
    try:
        while True:
            step = steps.send(answer)
            names = _names(step)
            if names is not None:
                _points.point(f"{stage}.{names[0]}")
            answer = yield step
            if names is not None:
                _points.point(f"{stage}.{names[1]}")
    except StopIteration as stop:
        result: R = stop.value
        return result
    finally:
        steps.close()


def _names(step: Step[Any]) -> tuple[str, str] | None:
    match step:
        case PutAll(writes) | Multi(writes) if writes[0].key.startswith(PROBE_PREFIX):
            # The proof on scratch keys that goes before a store's first commit is no commit.
            return None
        case PutAll():
            return "prepare", "prepared"
        case Multi():
            return "multi", "applied"
        case Put(write) if write.key.startswith((TX_PREFIX, OP_PREFIX)):
            return "decide", "decided"
        case Put():
            return "write", "written"
        case _:
            return None

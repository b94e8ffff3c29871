"""
Where the steps of the core meet clocks, chance, sockets and hooks: one driver per colour.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any, TypeVar

import anyio

from toolkit.core.events import EventHook
from toolkit.core.model import Reply
from toolkit.core.steps import Chance, Get, GetAll, Instant, Multi, Note, Now, Pause, Put, PutAll, Step, Steps
from toolkit.ports import AsyncStatePort, StatePort

R = TypeVar("R")


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

    def perform(self, step: Step[Any]) -> Any:
        match step:
            case Now():
                return now()
            case Get():
                return self.port.get(step.key, strong=step.strong, timeout=step.timeout)
            case Put():
                return self.port.put(step.write, timeout=step.timeout)
            case GetAll():
                return self.port.get_all(step.keys, strong=step.strong, timeout=step.timeout)
            case PutAll():
                return self.port.put_all(step.writes, timeout=step.timeout)
            case Multi():
                return self.port.multi(step.writes, timeout=step.timeout)
            case Pause():
                return self.sleep(step.seconds)
            case Chance():
                return random.random()  # noqa: S311  jitter, not a secret
            case Note():
                return self.hook(step.event)
        raise TypeError(f"unknown step {step!r}")


class AsyncWorld:
    """
    Performs steps on an async port, on one event loop.
    """

    def __init__(self, port: AsyncStatePort, hook: EventHook) -> None:
        self.port, self.hook = port, hook

    async def perform(self, step: Step[Any]) -> Any:
        match step:
            case Now():
                return now()
            case Get():
                return await self.port.get(step.key, strong=step.strong, timeout=step.timeout)
            case Put():
                return await self.port.put(step.write, timeout=step.timeout)
            case GetAll():
                return await self.port.get_all(step.keys, strong=step.strong, timeout=step.timeout)
            case PutAll():
                return await self.port.put_all(step.writes, timeout=step.timeout)
            case Multi():
                return await self.port.multi(step.writes, timeout=step.timeout)
            case Pause():
                return await anyio.sleep(step.seconds)
            case Chance():
                return random.random()  # noqa: S311  jitter, not a secret
            case Note():
                return self.hook(step.event)
        raise TypeError(f"unknown step {step!r}")


class Drive:
    """
    A generator under way in the sync colour, which can be picked up by another thread where it was interrupted.
    """

    def __init__(self, steps: Steps[Any], world: World) -> None:
        self.steps, self.world = steps, world
        self.step: Step[Any] | None = None
        self.ended = False

    def run(self, answer: Any = None) -> Any:
        """
        Drive to the end; an exception out of a step (an interrupt) leaves the generator where it was.
        """
        send, perform = self.steps.send, self.world.perform
        try:
            while True:
                self.step = send(answer)
                answer = perform(self.step)
        except StopIteration as stop:
            self.ended = True
            return stop.value

    def resume(self) -> Any:
        """
        Go on after an interrupt: the answer of the step that was cut is lost, which the core knows how to handle.
        """
        if isinstance(self.step, Get | Put | Multi):
            return self.run(Reply("CANCELLED", "interrupted"))
        if isinstance(self.step, GetAll | PutAll):
            count = len(self.step.keys if isinstance(self.step, GetAll) else self.step.writes)
            return self.run(tuple(Reply("CANCELLED", "interrupted") for _ in range(count)))
        return self.run(None if self.step is None else self.world.perform(self.step))


def drive(steps: Steps[R], world: World) -> R:
    """
    Run a protocol to its end in this thread.
    """
    result: R = Drive(steps, world).run()
    return result


async def drive_async(steps: Steps[R], world: AsyncWorld) -> R:
    """
    Run a protocol to its end in this task; cancellation is thrown into it, so that it can clean up, and goes on.
    """
    answer: Any = None
    perform = world.perform
    try:
        step = steps.send(None)
        while True:
            try:
                answer = await perform(step)
            except BaseException as error:
                step = steps.throw(error)
            else:
                step = steps.send(answer)
    except StopIteration as stop:
        result: R = stop.value
        return result

"""
Trigger points: raise, kill, freeze or wait at a named place in the shipped code.

In a test of the same process::

    with arm({"commit.prepared": fail(TimeoutError("planted"))}):
        ...

In a worker process, without touching its code::

    OCC_POINTS="commit.prepared=kill:3" python -m toolkit.testing.points worker.py

kills the worker with SIGKILL when it passes ``commit.prepared`` for the third time. ``record()`` lists the points a
piece of code passes, so that a test can visit all of them.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from toolkit import _points

VARIABLE: Final = "OCC_POINTS"

Action: TypeAlias = Callable[[], None]


class Waits(Protocol):
    """
    A ``threading.Barrier``, a ``multiprocessing`` one, or an ``Event``.
    """

    def wait(self, timeout: float | None = None, /) -> object: ...


class PointError(Exception):
    """
    What the action ``raise`` of the environment variable raises.
    """


@dataclass(frozen=True, slots=True)
class Trigger:
    """
    An action and when to fire it.

    Attributes:
        action: What to do; it runs in the thread that passes the point.
        hit: Fire at this passing, counted from 1 in this process; 0 fires at every one.
    """

    action: Action
    hit: int = 1


def fail(error: BaseException, *, hit: int = 1) -> Trigger:
    """
    Raise *error* out of the point.
    """

    def action() -> None:
        raise error

    return Trigger(action, hit)


def kill(*, hit: int = 1) -> Trigger:
    """
    End this process by SIGKILL: no handler, no ``finally``, no flush.
    """
    return Trigger(lambda: os.kill(os.getpid(), signal.SIGKILL), hit)


def freeze(*, hit: int = 1) -> Trigger:
    """
    Stop this process by SIGSTOP; whoever started it sends SIGCONT when it shall go on.
    """
    return Trigger(lambda: os.kill(os.getpid(), signal.SIGSTOP), hit)


def wait_at(barrier: Waits, *, timeout: float = 30.0, hit: int = 1) -> Trigger:
    """
    Block the thread until *barrier* lets it go; a barrier that breaks raises here.

    On an event loop this blocks the whole loop.
    """

    def action() -> None:
        if barrier.wait(timeout) is False:
            raise TimeoutError(f"nobody set the event of this point within {timeout} s")

    return Trigger(action, hit)


class _Armed:
    """
    The hook: counts passings and fires what is due.
    """

    def __init__(self, triggers: Mapping[str, Trigger]) -> None:
        self._triggers = dict(triggers)
        self._lock = threading.Lock()
        self.passed: Counter[str] = Counter()

    def __call__(self, name: str) -> None:
        with self._lock:
            self.passed[name] += 1
            count = self.passed[name]
        trigger = self._triggers.get(name)
        if trigger is not None and trigger.hit in (0, count):
            trigger.action()


_arming: Final = threading.Lock()


@contextmanager
def arm(triggers: Mapping[str, Trigger]) -> Generator[Counter[str]]:
    """
    Arm points for the length of the block, in all threads; gives the counter of passings by name.

    Only one block at a time: a second one is a RuntimeError.
    """
    if not _arming.acquire(blocking=False):
        raise RuntimeError("points are armed already: leave the other block first")
    hook = _Armed(triggers)
    _points.set_hook(hook)
    try:
        yield hook.passed
    finally:
        _points.set_hook(None)
        _arming.release()


@contextmanager
def record() -> Generator[Counter[str]]:
    """
    Count the points passed in the block, and fire nothing.
    """
    with arm({}) as passed:
        yield passed


_ACTIONS: Final[Mapping[str, Callable[[str, int], Trigger]]] = {
    "kill": lambda _name, hit: kill(hit=hit),
    "stop": lambda _name, hit: freeze(hit=hit),
    "raise": lambda name, hit: fail(PointError(f"raised at point {name}"), hit=hit),
}


def parse(text: str) -> dict[str, Trigger]:
    """
    Read ``name=action[:hit]``, separated by commas; actions are ``kill``, ``stop`` and ``raise``.

    Raises:
        ValueError: The text is not of this form.
    """
    triggers: dict[str, Trigger] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, _, rest = part.partition("=")
        action, _, hit = rest.partition(":")
        if action not in _ACTIONS or not name or not (hit or "1").isdigit():
            raise ValueError(
                f"{VARIABLE}: {part!r} is not name=kill|stop|raise[:hit], such as commit.prepared=kill:3"
            )
        triggers[name] = _ACTIONS[action](name, int(hit or "1"))
    return triggers


def arm_from_environment() -> bool:
    """
    Arm what ``OCC_POINTS`` asks for, for the life of this process; tells whether it asks for anything.
    """
    text = os.environ.get(VARIABLE, "")
    if not text:
        return False
    _points.set_hook(_Armed(parse(text)))
    return True


def main() -> None:
    """
    Run a script with the points of ``OCC_POINTS`` armed.
    """
    if len(sys.argv) < 2:
        raise SystemExit("usage: OCC_POINTS=name=kill:3 python -m toolkit.testing.points SCRIPT [ARGUMENT…]")
    arm_from_environment()
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()

"""
Named places in the shipped code at which a test can stop, break or kill the process.

``point("commit.prepared")`` does nothing until ``toolkit.testing.points`` puts a hook here; unused it costs one global
look-up. The names are the test's map of a commit: they say what has just happened.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from toolkit.core.records import OP_PREFIX, TX_PREFIX
from toolkit.core.steps import Multi, Put, PutAll, Step, Steps

R = TypeVar("R")

_hook: Callable[[str], None] | None = None


def point(name: str) -> None:
    """
    Pass the place called *name*.
    """
    if _hook is not None:
        _hook(name)


def set_hook(hook: Callable[[str], None] | None) -> None:
    """
    Put *hook* at every point of this process, or take it away with ``None``; for tests only.
    """
    global _hook  # noqa: PLW0603 - one global is what makes an unused point free
    _hook = hook


def marked(steps: Steps[R], stage: str) -> Steps[R]:
    """
    The same protocol, passing a point before and after each of its writes; itself where no hook is put.

    The points of a ``commit``: ``prepare`` and ``prepared`` around the intents, ``decide`` and ``decided`` around the
    record, ``multi`` and ``applied`` around the store's own transaction, ``write`` and ``written`` around one key.
    """
    return steps if _hook is None else _marked(steps, stage)


def _marked(steps: Steps[R], stage: str) -> Steps[R]:
    answer: Any = None
    try:
        while True:
            step = steps.send(answer)
            names = _names(step)
            if names is not None:
                point(f"{stage}.{names[0]}")
            answer = yield step
            if names is not None:
                point(f"{stage}.{names[1]}")
    except StopIteration as stop:
        result: R = stop.value
        return result
    finally:
        steps.close()


def _names(step: Step[Any]) -> tuple[str, str] | None:
    match step:
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

"""
Calls of the workflow SDK that wait without end, given an end.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio

from workflows._hosted import REGISTERING, when_hosted, when_hosted_async

R = TypeVar("R")


def ask(call: Callable[[], R], end: float) -> R:
    """
    What the engine answers to ``call``; ``TimeoutError`` when it has not answered at ``end`` (of the monotonic clock).

    A call that does not come back is left to a thread of its own: the SDK has no way to cancel it, so it may still
    reach the engine.
    """
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError
    answers: list[R] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            answers.append(when_hosted(call, min(left, REGISTERING)))
        except BaseException as error:  # noqa: BLE001  raised in the caller's thread
            failures.append(error)

    asking = threading.Thread(target=run, name="occ-ask-engine", daemon=True)
    asking.start()
    asking.join(left)
    if failures:
        raise failures[0]
    if not answers:
        raise TimeoutError
    return answers[0]


async def ask_async(call: Callable[[], Awaitable[Any]], end: float) -> Any:
    """
    ``ask`` for a client whose calls are awaited; the call is cancelled at the end.
    """
    left = end - time.monotonic()
    with anyio.fail_after(max(0.0, left)):
        return await when_hosted_async(call, min(left, REGISTERING))

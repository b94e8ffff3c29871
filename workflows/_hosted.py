"""
Calls to the engine that wait for a worker whose actor types Dapr is just registering.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import anyio

R = TypeVar("R")

# A worker has its stream a moment before Dapr has told everybody that it hosts the app's workflows.
REGISTERING: Final = 10.0
_PAUSE: Final = 0.05


def when_hosted(call: Callable[[], R], timeout: float = REGISTERING) -> R:
    """
    What ``call`` returns, tried again for so many seconds while Dapr knows no worker for it.
    """
    end = time.monotonic() + timeout
    while True:
        try:
            return call()
        except Exception as error:
            if not unhosted(error) or time.monotonic() >= end:
                raise
        time.sleep(_PAUSE)


async def when_hosted_async(call: Callable[[], Awaitable[R]], timeout: float = REGISTERING) -> R:
    """
    ``when_hosted`` for a client whose calls are awaited.
    """
    end = time.monotonic() + timeout
    while True:
        try:
            return await call()
        except Exception as error:
            if not unhosted(error) or time.monotonic() >= end:
                raise
        await anyio.sleep(_PAUSE)


def unhosted(error: Exception) -> bool:
    """
    Dapr says so in words alone, under the code UNKNOWN; nothing was started then.
    """
    details: Any = getattr(error, "details", None)
    text = str(details() if callable(details) else details or "")
    return "actor type" in text and "not registered" in text

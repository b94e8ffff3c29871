"""
What is logged of the stream on which a worker gets its work.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from workflows.logging import default_logger

LOST: Final = "workflow.worker_disconnected"
BACK: Final = "workflow.worker_reconnected"


class StreamLog:
    """
    Says once that the stream is lost, and once that it is back; the SDK goes on trying to open it meanwhile.

    Args:
        sidecar: Where it leads, to tell the workers of one process apart.
        clock: Seconds that only grow.
    """

    def __init__(self, sidecar: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._sidecar, self._clock = sidecar, clock
        self._stream: Any = None
        self._lost_at: float | None = None

    def look(self, stream: Any, *, ready: bool) -> None:
        """
        Take a look: the stream there is, if any, and whether work can come through it.
        """
        if not ready:
            self._lose()
            return
        if self._stream is not None and stream is not self._stream:
            self._lose()  # and back again since the last look
        if self._lost_at is not None:
            seconds = round(self._clock() - self._lost_at, 1)
            default_logger().warning(BACK, sidecar=self._sidecar, seconds=seconds)
            self._lost_at = None
        self._stream = stream

    def _lose(self) -> None:
        # Before the first stream there is nothing to lose.
        if self._lost_at is None and self._stream is not None:
            self._lost_at = self._clock()
            default_logger().warning(LOST, sidecar=self._sidecar)

"""
One lazy thread for what no caller should wait for or be able to cut.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable

_log = logging.getLogger("toolkit")


class Background:
    """
    Runs functions in order in one daemon thread that is started by the first of them and ends when none is left.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._work: deque[Callable[[], None]] = deque()
        self._thread: threading.Thread | None = None

    def submit(self, work: Callable[[], None]) -> None:
        """
        Run this after what was submitted before it.
        """
        with self._lock:
            self._work.append(work)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()

    def drain(self, timeout: float | None) -> None:
        """
        Wait until nothing is left, or for so many seconds.
        """
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._work:
                    self._thread = None
                    return
                work = self._work.popleft()
            try:
                work()
            except Exception:  # noqa: BLE001  logged; nobody waits for it
                _log.exception("background work of %s failed", self._name)

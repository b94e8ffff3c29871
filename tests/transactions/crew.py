"""
Worker processes that run transactions; some are killed or stopped at a point of their own.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).parents[2]


class Worker:
    """One process; ``points`` as in ``OCC_POINTS``."""

    def __init__(
        self, job: dict[str, Any], points: str = "", module: str = "tests.transactions.worker"
    ) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, json.dumps(job)],
            cwd=ROOT,
            env={**os.environ, "OCC_POINTS": points},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def hear(self) -> dict[str, Any] | None:
        """Its next line; None when it ended instead."""
        assert self.process.stdout is not None
        text = self.process.stdout.readline()
        heard: dict[str, Any] | None = json.loads(text) if text else None
        return heard

    def await_stop(self, timeout: float = 30.0) -> None:
        """Wait until it has stopped itself."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            pid, status = os.waitpid(self.process.pid, os.WUNTRACED | os.WNOHANG)
            if pid and os.WIFSTOPPED(status):
                return
            time.sleep(0.02)
        raise AssertionError("the worker did not come to its point")

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)


class Crew:
    """Several workers; none is left behind."""

    def __init__(self, *workers: Worker) -> None:
        self.workers = workers

    def __enter__(self) -> Self:
        for worker in self.workers:
            assert worker.hear() == {"ready": True}
        for worker in self.workers:
            worker.go()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.process.kill()
            worker.process.communicate()

"""
Several worker processes at once: started, let go together, and heard.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from toolkit.testing.proxy import FaultProxy

ROOT = Path(__file__).parents[2]
STORES: Final = ("sqlite", "redis", "postgresql-v2", "mysql")


def line(proxy: FaultProxy) -> str:
    return f"127.0.0.1:{proxy.port}"


def fresh_key() -> str:
    return f"f-{uuid.uuid4().hex}"


@dataclass
class Report:
    """
    What all workers were told together.
    """

    counts: Counter[str]
    receipts: list[str]

    def add(self, other: Report) -> None:
        self.counts.update(other.counts)
        self.receipts += other.receipts

    @property
    def acked(self) -> int:
        return self.counts["acked"]

    @property
    def failed(self) -> dict[str, int]:
        return {name: number for name, number in self.counts.items() if name.startswith("failed")}


class Crew:
    """
    Worker processes; a context manager, so that none is left behind.
    """

    def __init__(self, jobs: list[dict[str, Any]], env: Mapping[str, str] | None = None) -> None:
        self.jobs, self.env = jobs, {**os.environ, **(env or {})}
        self.workers: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        for job in self.jobs:
            self.workers.append(self.start(job))
        for worker in self.workers:
            self.hear(worker)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self.workers:
            if worker.poll() is None:
                worker.kill()
            worker.communicate()

    def start(self, job: dict[str, Any]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.faults.worker", json.dumps(job)],
            cwd=ROOT,
            env=self.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def go(self) -> None:
        for worker in self.workers:
            self.let_go(worker)

    def let_go(self, worker: subprocess.Popen[str]) -> None:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()

    def hear(self, worker: subprocess.Popen[str]) -> dict[str, Any]:
        assert worker.stdout is not None
        line = worker.stdout.readline()
        assert line, f"a worker ended with {worker.wait()} before it answered"
        heard: dict[str, Any] = json.loads(line)
        return heard

    def work(self) -> Report:
        """
        Let all go at once and wait for their results.
        """
        self.go()
        report = Report(Counter(), [])
        for worker in self.workers:
            heard = self.hear(worker)
            report.counts.update(heard["counts"])
            report.receipts += heard["receipts"]
        return report

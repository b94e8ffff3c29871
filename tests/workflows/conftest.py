"""
A worker that can be killed, a client, and a stand-in for the engine.
"""

from __future__ import annotations

import contextlib
import gc
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
# For what takes seconds on a machine at rest.
PATIENCE = 120


@pytest.fixture(autouse=True)
def loops_left_open():
    """
    The SDK never closes the loop of its worker; let it go here, without the warning that would fail a later test.
    """
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


class Worker:
    """
    ``worker.py`` in a process of its own.
    """

    def __init__(self, address: str, store: str, commits: int) -> None:
        env = {name: value for name, value in os.environ.items() if not name.startswith("DAPR_")}
        # Not a pipe: one that nobody reads fills up.
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115  open as long as the worker
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("worker.py")), address, store, str(commits)],
            env={**env, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
        )
        assert self.process.stdout is not None
        assert "ready\n" == self.process.stdout.readline(), self._last_words()

    def _last_words(self) -> str:
        """
        How a worker that is not ready ended, and the end of what it said.
        """
        code = self.process.wait(PATIENCE)
        self._said.seek(0)
        return f"the worker ended with {code} before it was ready:\n{self._said.read()[-8000:]}"

    def ended(self) -> int:
        """
        Wait until it has killed itself; its exit code.
        """
        return self.process.wait(PATIENCE)

    def kill(self) -> None:
        """
        End it without a warning.
        """
        self.process.kill()
        self.process.communicate()
        self._said.close()


@pytest.fixture
def worker() -> Iterator[Callable[..., Worker]]:
    """
    Starts workers; they end with the test.
    """
    with contextlib.ExitStack() as stack:

        def start(address: str, store: str, *, commits: int = 0) -> Worker:
            started = Worker(address, store, commits)
            stack.callback(started.kill)
            return started

        yield start


@pytest.fixture
def client_at() -> Iterator[Callable[[str], Any]]:
    """
    A workflow client for a sidecar.
    """
    from dapr.ext.workflow import DaprWorkflowClient

    from workflows.library.runner import host_and_port

    with contextlib.ExitStack() as stack:
        yield lambda address: stack.enter_context(
            contextlib.closing(DaprWorkflowClient(**host_and_port(address)))
        )


class Stamped:
    """
    A runtime that takes registrations as the SDK does, and delivers what a test tells it to.
    """

    def __init__(self) -> None:
        self.activities: dict[str, Callable[..., Any]] = {}
        self.workflows: dict[str, Callable[..., Any]] = {}
        self.calls: list[str] = []

    def register_workflow(self, fn: Callable[..., Any], *, name: str | None = None) -> None:
        self._stamp(fn)
        self.workflows[str(name)] = fn

    def register_activity(self, fn: Callable[..., Any], *, name: str | None = None) -> None:
        self._stamp(fn)
        self.activities[str(name)] = fn

    def _stamp(self, fn: Callable[..., Any]) -> None:
        assert not hasattr(fn, "_registered"), "the SDK refuses a function a second time"
        fn.__dict__["_registered"] = True

    def wait_for_worker_ready(self, timeout: float = 30.0) -> bool:
        return self.calls == ["start"]

    def start(self) -> None:
        self.calls.append("start")

    def shutdown(self) -> None:
        self.calls.append("shutdown")


class Activity:
    """
    What an activity gets first.
    """

    def __init__(self, workflow_id: str = "w1", task_execution_id: str = "x1") -> None:
        self.workflow_id, self.task_execution_id = workflow_id, task_execution_id

    def get_inner_context(self) -> Activity:
        return self


@pytest.fixture
def runtime() -> Stamped:
    return Stamped()


@pytest.fixture
def activity() -> type[Activity]:
    return Activity

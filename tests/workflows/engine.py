"""
A workflow run in this process, one answer at a time, against the activities registered on a kit.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Generator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any


class TaskFailedError(Exception):
    """
    What the SDK raises in a workflow when an activity failed.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.details = SimpleNamespace(error_type=type(error).__name__, message=str(error))


class Event:
    """
    The task of an event, which has its result once the event is there.
    """

    data: Any = None

    def get_result(self) -> Any:
        return self.data


class Context:
    """
    What a workflow gets first; its tasks are descriptions that ``Engine`` carries out.
    """

    is_replaying = False
    current_utc_datetime = datetime(2026, 1, 1, tzinfo=UTC)

    # As in the engine, the ids of a run that continued as new are others.
    runs = itertools.count(1)

    def __init__(self, instance_id: str) -> None:
        self.instance_id, self.run = instance_id, next(self.runs)
        self.statuses: list[str] = []
        self.continued: list[Any] = []
        self._guids = 0

    def new_guid(self) -> str:
        self._guids += 1
        return f"guid-{self.run}-{self._guids}"

    def set_custom_status(self, text: str) -> None:
        self.statuses.append(text)

    def continue_as_new(self, new_input: Any, *, save_events: bool = False) -> None:
        self.continued.append(new_input)

    def call_activity(self, name: str, *, input: Any = None, retry_policy: Any = None) -> Any:
        return ("activity", name, input)

    def create_timer(self, fire_at: Any) -> Any:
        return ("timer", fire_at)

    def wait_for_external_event(self, name: str, *, timeout: Any = None) -> Any:
        return Event()


class StoppedError(Exception):
    """
    The workflow was terminated by the test.
    """


class Engine:
    """
    Runs a generator; ``before`` may raise or act before each activity (``void NAME`` where one closes an operation),
    ``events`` are given in order.
    """

    def __init__(self, runtime: Any, activity: Callable[..., Any]) -> None:
        self.runtime, self.activity = runtime, activity
        self.events: deque[Any] = deque()
        self.before: Callable[[str, Any], None] = lambda _name, _input: None
        self.called: list[str] = []

    def run(self, ctx: Context, steps: Generator[Any, Any, Any]) -> Any:
        answer: Any = None
        failed: Exception | None = None
        while True:
            try:
                task = steps.send(answer) if failed is None else steps.throw(failed)
            except StopIteration as end:
                return end.value
            answer, failed = None, None
            try:
                answer = self.perform(ctx, task)
            except StoppedError:
                steps.close()
                raise
            except Exception as error:
                failed = TaskFailedError(error)

    def perform(self, ctx: Context, task: Any) -> Any:
        if isinstance(task, Event):
            task.data = self.events.popleft()
            return task.get_result()
        if task[0] == "activity":
            _, name, value = task
            # An effect's activity also closes its operations; a test means one or the other.
            label = f"void {name}" if isinstance(value, dict) and value.get("void") else name
            self.called.append(label)
            self.before(label, value)
            return self.runtime.activities[name](self.activity(ctx.instance_id), value)
        return None

"""
Recorded histories: taken from a test or from a real sidecar, kept in a file, read step by step.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import dapr.ext.workflow._durabletask.internal.protos as pb
from google.protobuf import json_format

from toolkit.testing.taskhub.events import OUTCOMES, kind_of

_FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Step:
    """
    What a workflow asked for at one place: an activity, a timer, a child workflow, an event sent, its end.

    Attributes:
        number: Its place among all steps of the workflow, from 1.
        kind: In words.
        name: Of the activity, the workflow or the event; the status for the end; empty for a timer.
        input: What was passed on, as JSON text.
    """

    number: int
    kind: str
    name: str
    input: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r}" if self.name else self.kind


@dataclass(frozen=True, slots=True)
class Turn:
    """
    The events one turn was given, and the steps that came of it.
    """

    given: tuple[pb.HistoryEvent, ...]
    made: tuple[pb.HistoryEvent, ...]


@dataclass(frozen=True, slots=True)
class WorkflowHistory:
    """
    The events of one workflow instance, or of its last generation when it continued as new.

    It holds the inputs and results of the workflow: keep it like the data they are.
    """

    instance_id: str
    events: tuple[pb.HistoryEvent, ...]

    @property
    def workflow(self) -> str:
        """
        The name of the workflow.
        """
        for found in self.events:
            if kind_of(found) == "executionStarted":
                return found.executionStarted.name
        raise ValueError(f"the history of {self.instance_id!r} has no beginning, so it cannot be replayed")

    @property
    def kinds(self) -> list[str]:
        """
        The kind of each event, in order.
        """
        return [kind_of(found) for found in self.events]

    @property
    def steps(self) -> list[Step]:
        """
        What the workflow asked for, in order.
        """
        return [step_of(found) for found in self.events if kind_of(found) in OUTCOMES]

    def turns(self) -> Iterator[Turn]:
        """
        The events by turn.
        """
        given: list[pb.HistoryEvent] = []
        made: list[pb.HistoryEvent] = []
        for found in self.events:
            if kind_of(found) == "workflowStarted" and given:
                yield Turn(tuple(given), tuple(made))
                given, made = [], []
            (made if kind_of(found) in OUTCOMES else given).append(found)
        if given:
            yield Turn(tuple(given), tuple(made))

    def save(self, path: Path | str) -> None:
        """
        Write it to a file of JSON.
        """
        events = [json_format.MessageToDict(found) for found in self.events]
        whole = {"format": _FORMAT, "instance_id": self.instance_id, "events": events}
        Path(path).write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path | str) -> WorkflowHistory:
        """
        Read what ``save`` wrote.

        Raises:
            ValueError: It is no such file.
        """
        try:
            whole: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
            if whole["format"] != _FORMAT:
                raise ValueError(f"format {whole['format']!r}; this version reads {_FORMAT}")
            events = [json_format.ParseDict(found, pb.HistoryEvent()) for found in whole["events"]]
            return cls(str(whole["instance_id"]), tuple(events))
        except (ValueError, KeyError, TypeError, json_format.Error) as error:
            raise ValueError(f"{path} is not a saved workflow history: {error}") from error

    @classmethod
    def fetch(cls, address: str, instance_id: str, *, timeout: float = 10.0) -> WorkflowHistory:
        """
        Ask a real sidecar for it; the address as for ``StateStore``, the API token from the environment.
        """
        import os

        import dapr.ext.workflow._durabletask.internal.orchestrator_service_pb2_grpc as stubs

        from toolkit.dapr.address import address_of
        from toolkit.dapr.channel import sync_channel

        token = os.environ.get("DAPR_API_TOKEN")
        with sync_channel(address_of(address)) as channel:
            stub: Any = stubs.TaskHubSidecarServiceStub(channel)
            found = stub.GetInstanceHistory(
                pb.GetInstanceHistoryRequest(instanceId=instance_id),
                timeout=timeout,
                metadata=[("dapr-api-token", token)] if token else None,
            )
        return cls(instance_id, tuple(found.events))


def step_of(made: pb.HistoryEvent) -> Step:
    """
    A recorded event as a step.
    """
    kind, number = kind_of(made), made.eventId
    if kind == "taskScheduled":
        return Step(number, "activity", made.taskScheduled.name, made.taskScheduled.input.value)
    if kind == "timerCreated":
        return Step(number, "timer", "")
    if kind == "childWorkflowInstanceCreated":
        child = made.childWorkflowInstanceCreated
        return Step(number, "child workflow", child.name, child.input.value)
    if kind == "eventSent":
        return Step(number, "event sent", made.eventSent.name, made.eventSent.input.value)
    if kind == "executionCompleted":
        ended = made.executionCompleted
        return Step(number, "end as", status_name(ended.workflowStatus), ended.result.value)
    return Step(number, kind, "")


def steps_of(actions: Sequence[pb.WorkflowAction]) -> tuple[list[Step], str]:
    """
    What code asks for as steps, and the error it ended with, if any.
    """
    steps: list[Step] = []
    error = ""
    for action in actions:
        kind, number = str(action.WhichOneof("workflowActionType")), action.id
        if kind == "scheduleTask":
            steps.append(Step(number, "activity", action.scheduleTask.name, action.scheduleTask.input.value))
        elif kind == "createTimer":
            steps.append(Step(number, "timer", ""))
        elif kind == "createChildWorkflow":
            child = action.createChildWorkflow
            steps.append(Step(number, "child workflow", child.name, child.input.value))
        elif kind == "sendEvent":
            steps.append(Step(number, "event sent", action.sendEvent.name, action.sendEvent.data.value))
        elif kind == "completeWorkflow":
            ended = action.completeWorkflow
            details = ended.failureDetails
            error = f"{details.errorType}: {details.errorMessage}" if details.errorType else ""
            steps.append(Step(number, "end as", status_name(ended.workflowStatus), ended.result.value))
        else:
            steps.append(Step(number, kind, ""))
    return steps, error


def status_name(status: pb.OrchestrationStatus.ValueType) -> str:
    """
    A status without its prefix.
    """
    return pb.OrchestrationStatus.Name(status).removeprefix("ORCHESTRATION_STATUS_")

"""
One workflow instance: its history, what waits for its next turn, and what an answer of the worker makes of it.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import dapr.ext.workflow._durabletask.internal.protos as pb
from google.protobuf.wrappers_pb2 import StringValue

from toolkit.testing.taskhub.events import APP, due, event, kind_of

OVER: Final = frozenset(
    {pb.ORCHESTRATION_STATUS_COMPLETED, pb.ORCHESTRATION_STATUS_FAILED, pb.ORCHESTRATION_STATUS_TERMINATED}
)
# Which field of a resolving event names what it resolves; a second one for the same is dropped.
_RESOLVES: Final = {
    "taskCompleted": ("task", "taskScheduledId"),
    "taskFailed": ("task", "taskScheduledId"),
    "timerFired": ("timer", "timerId"),
    "childWorkflowInstanceCompleted": ("child", "taskScheduledId"),
    "childWorkflowInstanceFailed": ("child", "taskScheduledId"),
}


@dataclass(slots=True)
class Outbox:
    """
    What a turn asks of the engine.

    Attributes:
        tasks: Activities to deliver.
        timers: When, the event, and for whom.
        messages: Events for other instances; an ``executionStarted`` makes one.
        again: The next generation begins at once: it continued as new.
    """

    tasks: list[pb.HistoryEvent] = field(default_factory=list[pb.HistoryEvent])
    timers: list[tuple[datetime, pb.HistoryEvent]] = field(
        default_factory=list[tuple[datetime, pb.HistoryEvent]]
    )
    messages: list[tuple[str, pb.HistoryEvent]] = field(default_factory=list[tuple[str, pb.HistoryEvent]])
    again: bool = False


class Instance:
    """
    The state of an instance as the engine keeps it.

    Attributes:
        label: A name that depends on the order of starts alone, so that chance can be drawn by it.
        history: The committed events of this generation.
        inbox: Events that wait for the next turn.
        turning: A turn is due or under way.
        generation: Counts continue-as-new and re-creation, so that late answers are recognised.
    """

    def __init__(self, instance_id: str, label: str, start: pb.HistoryEvent, now: datetime) -> None:
        self.id, self.label = instance_id, label
        self.start = start.executionStarted
        self.history: list[pb.HistoryEvent] = []
        self.inbox: list[pb.HistoryEvent] = [start]
        self.status: pb.OrchestrationStatus.ValueType = pb.ORCHESTRATION_STATUS_PENDING
        self.custom_status: StringValue | None = None
        self.completed: pb.ExecutionCompletedEvent | None = None
        self.turning = False
        self.generation = 0
        self.created = self.updated = now

    @property
    def name(self) -> str:
        return self.start.name

    @property
    def over(self) -> bool:
        return self.completed is not None

    def turn(self, now: datetime) -> list[pb.HistoryEvent]:
        """
        The events of a turn that begins now; resolutions of what is resolved already are left out.
        """
        # The SDK makes ids of the instance and its time, and time stands still here: another run has another time.
        begun = now + timedelta(microseconds=self.generation)
        taken = [event(begun, workflowStarted=pb.WorkflowStartedEvent())]
        seen = {found for found in map(_resolved, self.history) if found is not None}
        for waiting in self.inbox:
            resolved = _resolved(waiting)
            if resolved is None or resolved not in seen:
                taken.append(waiting)
            if resolved is not None:
                seen.add(resolved)
        return taken

    def commit(
        self, response: pb.WorkflowResponse, events: list[pb.HistoryEvent], taken: int, now: datetime
    ) -> Outbox:
        """
        Take in the answer to a turn that was given ``events`` for the first ``taken`` of the inbox.
        """
        if response.HasField("version"):
            events[0].workflowStarted.version.CopyFrom(response.version)
        self.history += events
        del self.inbox[:taken]
        self.updated, self.turning = now, False
        self.custom_status = response.customStatus if response.HasField("customStatus") else None
        self._status_of(events)
        outbox = Outbox()
        for action in response.actions:
            if not self._apply(action, now, outbox):
                break
        if self.over:
            self._end(events, now, outbox)
        return outbox

    def _status_of(self, events: list[pb.HistoryEvent]) -> None:
        for found in events:
            kind = kind_of(found)
            if kind == "executionSuspended":
                self.status = pb.ORCHESTRATION_STATUS_SUSPENDED
            elif kind in {"executionResumed", "executionStarted"} or (
                self.status == pb.ORCHESTRATION_STATUS_STALLED
            ):
                self.status = pb.ORCHESTRATION_STATUS_RUNNING

    def _apply(self, action: pb.WorkflowAction, now: datetime, outbox: Outbox) -> bool:
        """
        One action; false when the rest of them is void.
        """
        kind, number = action.WhichOneof("workflowActionType"), action.id
        if kind == "scheduleTask":
            task = action.scheduleTask
            scheduled = pb.TaskScheduledEvent(
                name=task.name, input=_given(task, "input"), taskExecutionId=task.taskExecutionId
            )
            outbox.tasks.append(self._record(event(now, number, taskScheduled=scheduled)))
        elif kind == "createTimer":
            self._timer(action, now, outbox)
        elif kind == "createChildWorkflow":
            self._child(action, now, outbox)
        elif kind == "sendEvent":
            sent = action.sendEvent
            given: dict[str, Any] = {"name": sent.name, "input": _given(sent, "data")}
            target = sent.instance.instanceId
            self._record(event(now, number, eventSent=pb.EventSentEvent(instanceId=target, **given)))
            outbox.messages.append((target, event(now, eventRaised=pb.EventRaisedEvent(**given))))
        elif kind == "terminateWorkflow":
            asked = action.terminateWorkflow
            ended = pb.ExecutionTerminatedEvent(input=_given(asked, "reason"), recurse=asked.recurse)
            outbox.messages.append((asked.instanceId, event(now, executionTerminated=ended)))
        elif kind == "workflowVersionNotAvailable":
            self.status = pb.ORCHESTRATION_STATUS_STALLED
        elif kind == "completeWorkflow":
            return self._complete(action, now, outbox)
        else:
            raise ValueError(f"workflow {self.id!r}: the test engine does not know the action {kind!r}")
        return True

    def _record(self, made: pb.HistoryEvent) -> pb.HistoryEvent:
        self.history.append(made)
        return made

    def _timer(self, action: pb.WorkflowAction, now: datetime, outbox: Outbox) -> None:
        timer = action.createTimer
        created = pb.TimerCreatedEvent(fireAt=timer.fireAt)
        if timer.HasField("name"):
            created.name = timer.name
        origin = timer.WhichOneof("origin")
        if origin is not None:
            getattr(created, origin).CopyFrom(getattr(timer, origin))
            getattr(created, origin).SetInParent()
        self._record(event(now, action.id, timerCreated=created))
        moment = due(timer)
        if moment is not None:
            fired = pb.TimerFiredEvent(fireAt=timer.fireAt, timerId=action.id)
            outbox.timers.append((moment, event(moment, timerFired=fired)))

    def _child(self, action: pb.WorkflowAction, now: datetime, outbox: Outbox) -> None:
        asked = action.createChildWorkflow
        target = asked.instanceId or f"{self.id}:{action.id:04x}"
        given: dict[str, Any] = {"name": asked.name, "input": _given(asked, "input")}
        created = pb.ChildWorkflowInstanceCreatedEvent(instanceId=target, **given)
        self._record(event(now, action.id, childWorkflowInstanceCreated=created))
        parent = pb.ParentInstanceInfo(
            taskScheduledId=action.id,
            name=StringValue(value=self.name),
            workflowInstance=self.start.workflowInstance,
            appID=APP,
        )
        start = pb.ExecutionStartedEvent(
            parentInstance=parent, workflowInstance=new_execution(target), **given
        )
        outbox.messages.append((target, event(now, executionStarted=start)))

    def _complete(self, action: pb.WorkflowAction, now: datetime, outbox: Outbox) -> bool:
        asked = action.completeWorkflow
        if asked.workflowStatus == pb.ORCHESTRATION_STATUS_CONTINUED_AS_NEW:
            self._continue(asked, now)
            outbox.again = True
            return False
        self.completed = pb.ExecutionCompletedEvent(
            workflowStatus=asked.workflowStatus,
            result=_given(asked, "result"),
            failureDetails=_given(asked, "failureDetails"),
        )
        self.status = asked.workflowStatus
        self._record(event(now, action.id, executionCompleted=self.completed))
        return True

    def _continue(self, asked: pb.CompleteWorkflowAction, now: datetime) -> None:
        start = pb.ExecutionStartedEvent(
            name=self.name, input=_given(asked, "result"), workflowInstance=new_execution(self.id)
        )
        if self.start.HasField("parentInstance"):
            start.parentInstance.CopyFrom(self.start.parentInstance)
        self.start, self.history = start, []
        self.generation += 1
        # What came during the turn stays, after what the workflow carried over itself.
        self.inbox = [event(now, executionStarted=start), *asked.carryoverEvents, *self.inbox]

    def _end(self, events: list[pb.HistoryEvent], now: datetime, outbox: Outbox) -> None:
        assert self.completed is not None
        self.inbox.clear()
        if self.start.HasField("parentInstance"):
            parent = self.start.parentInstance
            outbox.messages.append((parent.workflowInstance.instanceId, self._news(parent, now)))
        ended = next((found for found in events if kind_of(found) == "executionTerminated"), None)
        if ended is not None and ended.executionTerminated.recurse:
            outbox.messages += [(child, ended) for child in self._children_at_work()]

    def _news(self, parent: pb.ParentInstanceInfo, now: datetime) -> pb.HistoryEvent:
        assert self.completed is not None
        number = parent.taskScheduledId
        if self.status == pb.ORCHESTRATION_STATUS_COMPLETED:
            done = pb.ChildWorkflowInstanceCompletedEvent(
                taskScheduledId=number, result=_given(self.completed, "result")
            )
            return event(now, childWorkflowInstanceCompleted=done)
        failed = pb.ChildWorkflowInstanceFailedEvent(
            taskScheduledId=number, failureDetails=_given(self.completed, "failureDetails")
        )
        return event(now, childWorkflowInstanceFailed=failed)

    def _children_at_work(self) -> list[str]:
        resolved = set(map(_resolved, self.history))
        return [
            found.childWorkflowInstanceCreated.instanceId
            for found in self.history
            if kind_of(found) == "childWorkflowInstanceCreated" and ("child", found.eventId) not in resolved
        ]


def new_execution(instance_id: str) -> pb.WorkflowInstance:
    """
    The identity of one run of an instance.
    """
    return pb.WorkflowInstance(instanceId=instance_id, executionId=StringValue(value=str(uuid.uuid4())))


def _resolved(found: pb.HistoryEvent) -> tuple[str, int] | None:
    kind = kind_of(found)
    if kind not in _RESOLVES:
        return None
    what, number = _RESOLVES[kind]
    return what, getattr(getattr(found, kind), number)


def _given(message: Any, name: str) -> Any:
    """
    A field that may be unset.
    """
    return getattr(message, name) if message.HasField(name) else None

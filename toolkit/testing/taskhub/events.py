"""
History events, made at an instant of the virtual clock.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import dapr.ext.workflow._durabletask.internal.protos as pb
from google.protobuf.timestamp_pb2 import Timestamp

APP: Final = "workflow-sidecar"

# What a turn adds to a history after the events it was given.
OUTCOMES: Final = frozenset(
    {
        "taskScheduled",
        "timerCreated",
        "childWorkflowInstanceCreated",
        "detachedWorkflowInstanceCreated",
        "eventSent",
        "executionCompleted",
    }
)

# Waiting for an event without a limit leaves a timer that is never due: the last second a timestamp can hold.
_NEVER: Final = 253402300799


def stamp(moment: datetime) -> Timestamp:
    """
    A moment as it travels.
    """
    found = Timestamp()
    found.FromDatetime(moment)
    return found


def event(moment: datetime, number: int = -1, **kind: Any) -> pb.HistoryEvent:
    """
    One event of one kind, such as ``taskCompleted=...``.
    """
    router = pb.TaskRouter(sourceAppID=APP)
    return pb.HistoryEvent(eventId=number, timestamp=stamp(moment), router=router, **kind)


def kind_of(found: pb.HistoryEvent) -> str:
    """
    Which of the kinds it is.
    """
    return str(found.WhichOneof("eventType"))


def due(timer: pb.CreateTimerAction) -> datetime | None:
    """
    When a timer fires; ``None`` for one that only marks a wait without a limit.
    """
    if timer.fireAt.seconds >= _NEVER:
        return None
    return timer.fireAt.ToDatetime(tzinfo=UTC)

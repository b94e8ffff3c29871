"""
A delivery to the worker, and the calendar of what is due later.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

import dapr.ext.workflow._durabletask.internal.protos as pb

from toolkit.testing.taskhub.instance import Instance


@dataclass(slots=True)
class Work:
    """
    One delivery of a turn or an activity.

    Attributes:
        kind: ``turn``, ``activity``, or ``replay``: a turn of a recorded history.
        name: Of the workflow or the activity.
        step: Which turn or task of which instance; the same for every delivery of it.
        delivery: From 1.
        token: What its answer names; empty until it was handed out.
        stream: Which stream carries it.
        fault: What becomes of the answer.
        spared: No fault hits it.
    """

    kind: str
    name: str
    step: str
    item: pb.WorkItem
    instance: Instance | None = None
    generation: int = 0
    delivery: int = 1
    token: str = ""
    stream: int = 0
    fault: str = ""
    spared: bool = False
    events: list[pb.HistoryEvent] = field(default_factory=list[pb.HistoryEvent])
    taken: int = 0
    answer: pb.WorkflowResponse | None = None

    @property
    def key(self) -> str:
        """
        What chance is drawn by.
        """
        return f"{self.step}|{self.delivery}"


class Calendar:
    """
    What is due at which moment, in the order of moments and then of entry; what nobody needs any more is no reason to move.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[datetime, int, Callable[[], None], Callable[[], bool]]] = []
        self._entries = 0

    def add(self, moment: datetime, act: Callable[[], None], needed: Callable[[], bool]) -> None:
        """
        Do this then, if it is needed then.
        """
        self._entries += 1
        heapq.heappush(self._heap, (moment, self._entries, act, needed))

    def next(self) -> datetime | None:
        """
        When the next entry is due.
        """
        while self._heap and not self._heap[0][3]():
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def pop(self, moment: datetime) -> list[Callable[[], None]]:
        """
        Take out what is due by a moment.
        """
        found: list[Callable[[], None]] = []
        while (due := self.next()) is not None and due <= moment:
            found.append(heapq.heappop(self._heap)[2])
        return found

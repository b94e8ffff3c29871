"""
The instances of the hub: what clients ask of them, and what the answers of the worker make of them.
"""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import Any

import dapr.ext.workflow._durabletask.internal.protos as pb

from toolkit.testing.taskhub.dispatch import Dispatcher
from toolkit.testing.taskhub.events import event, kind_of
from toolkit.testing.taskhub.faults import WorkflowFaults
from toolkit.testing.taskhub.instance import Instance, Outbox, new_execution
from toolkit.testing.taskhub.work import Work


class ExistsError(Exception):
    """
    An instance of this id is not over.
    """


class MissingError(Exception):
    """
    There is no instance of this id.
    """


class UnfinishedError(Exception):
    """
    The instance is not over.
    """


class Engine(Dispatcher):
    """
    The task hub in memory.

    Args:
        faults: What befalls deliveries.
        start: What the clock shows first.
        in_flight: How many deliveries may be under way at once; then the next one is chosen by the seed.
        skip_always: Let time skip even when nobody waits.
    """

    def __init__(
        self,
        faults: WorkflowFaults,
        start: datetime,
        *,
        in_flight: int | None = None,
        skip_always: bool = False,
    ) -> None:
        super().__init__(faults, start, in_flight=in_flight, skip_always=skip_always)
        self.instances: dict[str, Instance] = {}
        self._starts = itertools.count(1)
        # The last one of each id, purged or not: an id that is used again begins another generation.
        self._made: dict[str, Instance] = {}

    # -- what clients ask for --------------------------------------------------------------------------------------

    def start(self, request: pb.CreateInstanceRequest) -> None:
        """
        Make an instance; raises ``ExistsError`` while one of this id is not over.
        """
        started = pb.ExecutionStartedEvent(
            name=request.name, workflowInstance=new_execution(request.instanceId)
        )
        if request.HasField("input"):
            started.input.CopyFrom(request.input)
        with self.changed:
            moment = None
            if request.HasField("scheduledStartTimestamp"):
                started.scheduledStartTimestamp.CopyFrom(request.scheduledStartTimestamp)
                moment = request.scheduledStartTimestamp.ToDatetime(tzinfo=UTC)
            label = str(next(self._starts))
            made = self._create(request.instanceId, label, event(self.now, executionStarted=started))
            if moment is not None and moment > self.now:
                made.turning = True
                self._calendar.add(moment, lambda: self._begin(made), lambda: self._alive(made))
            self._move()

    def _begin(self, instance: Instance) -> None:
        instance.turning = False
        self._wake(instance)

    def send(self, instance_id: str, **kind: Any) -> None:
        """
        Give an instance an event; one that is over drops it.
        """
        with self.changed:
            self._deliver_event(self.find(instance_id), event(self.now, **kind))
            self._move()

    def purge(self, instance_id: str, *, recursive: bool) -> int:
        """
        Forget an instance that is over, and its children.
        """
        with self.changed:
            found = self.find(instance_id)
            if not found.over:
                raise UnfinishedError(instance_id)
            del self.instances[instance_id]
            children = [
                made.childWorkflowInstanceCreated.instanceId
                for made in found.history
                if recursive and kind_of(made) == "childWorkflowInstanceCreated"
            ]
            gone = [child for child in children if child in self.instances and self.instances[child].over]
            return 1 + sum(self.purge(child, recursive=True) for child in gone)

    def find(self, instance_id: str) -> Instance:
        """
        The instance of this id; raises ``MissingError``.
        """
        with self.changed:
            if instance_id not in self.instances:
                raise MissingError(instance_id)
            return self.instances[instance_id]

    def _commit(self, work: Work, response: pb.WorkflowResponse) -> None:
        instance = work.instance
        assert instance is not None
        if not self._alive(instance):
            return
        outbox = instance.commit(response, work.events, work.taken, self.now)
        self._dispatch(instance, outbox)
        if instance.status != pb.ORCHESTRATION_STATUS_STALLED:
            self._wake(instance)

    def _dispatch(self, instance: Instance, outbox: Outbox) -> None:
        for task in outbox.tasks:
            self._ready.append(_activity(instance, task))
        for moment, fired in outbox.timers:
            self._set_timer(instance, moment, fired)
        for number, (target, message) in enumerate(outbox.messages):
            if kind_of(message) == "executionStarted":
                label = f"{instance.label}.{instance.generation}.{len(instance.history)}.{number}"
                self._child(target, label, message)
            elif target in self.instances:
                self._deliver_event(self.instances[target], message)

    def _child(self, target: str, label: str, start: pb.HistoryEvent) -> None:
        try:
            self._create(target, label, start)
        except ExistsError:
            # As Dapr does: the parent waits on; its child was never made.
            return

    def _create(self, instance_id: str, label: str, start: pb.HistoryEvent) -> Instance:
        there = self.instances.get(instance_id)
        if there is not None and not there.over:
            raise ExistsError(instance_id)
        before = self._made.get(instance_id)
        made = self.instances[instance_id] = Instance(instance_id, label, start, self.now)
        made.generation = 0 if before is None else before.generation + 1
        self._made[instance_id] = made
        if not start.executionStarted.HasField("scheduledStartTimestamp"):
            self._wake(made)
        return made

    def _resolve(self, work: Work, response: pb.ActivityResponse) -> None:
        instance = work.instance
        if instance is None or instance.generation != work.generation:
            return
        execution = work.item.activityRequest.taskExecutionId
        if response.HasField("failureDetails"):
            failed = pb.TaskFailedEvent(
                taskScheduledId=response.taskId,
                failureDetails=response.failureDetails,
                taskExecutionId=execution,
            )
            self._deliver_event(instance, event(self.now, taskFailed=failed))
            return
        done = pb.TaskCompletedEvent(taskScheduledId=response.taskId, taskExecutionId=execution)
        if response.HasField("result"):
            done.result.CopyFrom(response.result)
        self._deliver_event(instance, event(self.now, taskCompleted=done))

    def _set_timer(self, instance: Instance, moment: datetime, fired: pb.HistoryEvent) -> None:
        generation = instance.generation

        def needed() -> bool:
            return self._alive(instance) and instance.generation == generation

        self._calendar.add(moment, lambda: self._deliver_event(instance, fired), needed)

    def _alive(self, instance: Instance) -> bool:
        return self.instances.get(instance.id) is instance and not instance.over

    def _deliver_event(self, instance: Instance, given: pb.HistoryEvent) -> None:
        if self._alive(instance):
            instance.inbox.append(given)
            self._wake(instance)

    def _wake(self, instance: Instance) -> None:
        if instance.inbox and not instance.turning and not instance.over:
            instance.turning = True
            step = f"{instance.label}|turn|{instance.generation}|{len(instance.history)}"
            self._ready.append(Work("turn", instance.name, step, pb.WorkItem(), instance))


def _activity(instance: Instance, task: pb.HistoryEvent) -> Work:
    scheduled = task.taskScheduled
    request = pb.ActivityRequest(
        name=scheduled.name,
        taskId=task.eventId,
        taskExecutionId=scheduled.taskExecutionId,
        workflowInstance=pb.WorkflowInstance(instanceId=instance.id),
    )
    if scheduled.HasField("input"):
        request.input.CopyFrom(scheduled.input)
    step = f"{instance.label}|task|{instance.generation}|{task.eventId}"
    item = pb.WorkItem(activityRequest=request)
    return Work("activity", scheduled.name, step, item, instance, instance.generation)

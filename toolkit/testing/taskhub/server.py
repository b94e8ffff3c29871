"""
The gRPC service the workflow SDK talks to, over an ``Engine``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, NoReturn

import dapr.ext.workflow._durabletask.internal.orchestrator_service_pb2_grpc as stubs
import dapr.ext.workflow._durabletask.internal.protos as pb
import grpc
from google.protobuf.empty_pb2 import Empty

from toolkit.testing.taskhub.engine import Engine, ExistsError, MissingError, UnfinishedError
from toolkit.testing.taskhub.events import stamp
from toolkit.testing.taskhub.instance import Instance

_PAGE: Final = 1024


class Servicer(stubs.TaskHubSidecarServiceServicer):
    """
    Answers as daprd 1.18 does, down to the texts that the SDK looks at.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def Hello(self, request: Empty, context: grpc.ServicerContext) -> Empty:  # noqa: N802  the protocol's names
        return Empty()

    # -- the worker ------------------------------------------------------------------------------------------------

    def GetWorkItems(  # noqa: N802
        self, request: pb.GetWorkItemsRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.WorkItem]:
        stream, epoch = self._engine.connect()
        try:
            while (item := self._engine.next(stream, epoch, context.is_active)) is not None:
                yield item
        finally:
            self._engine.disconnect(stream)

    def CompleteActivityTask(  # noqa: N802
        self, request: pb.ActivityResponse, context: grpc.ServicerContext
    ) -> pb.CompleteTaskResponse:
        self._engine.complete_activity(request)
        return pb.CompleteTaskResponse()

    def CompleteOrchestratorTask(  # noqa: N802
        self, request: pb.WorkflowResponse, context: grpc.ServicerContext
    ) -> pb.CompleteTaskResponse:
        self._engine.complete_turn(request)
        return pb.CompleteTaskResponse()

    def CompleteWorkflowTask(  # noqa: N802
        self, request: pb.WorkflowResponse, context: grpc.ServicerContext
    ) -> pb.CompleteTaskResponse:
        return self.CompleteOrchestratorTask(request, context)

    # -- clients ---------------------------------------------------------------------------------------------------

    def StartInstance(  # noqa: N802
        self, request: pb.CreateInstanceRequest, context: grpc.ServicerContext
    ) -> pb.CreateInstanceResponse:
        try:
            self._engine.start(request)
        except ExistsError:
            text = f"an active workflow with ID '{request.instanceId}' already exists"
            _abort(
                context,
                grpc.StatusCode.ALREADY_EXISTS,
                f"failed to create workflow instance: {text}",
            )
        return pb.CreateInstanceResponse(instanceId=request.instanceId)

    def GetInstance(  # noqa: N802
        self, request: pb.GetInstanceRequest, context: grpc.ServicerContext
    ) -> pb.GetInstanceResponse:
        with self._engine.changed:
            found = self._engine.instances.get(request.instanceId)
            return pb.GetInstanceResponse(exists=False) if found is None else _state(found, request)

    def WaitForInstanceStart(  # noqa: N802
        self, request: pb.GetInstanceRequest, context: grpc.ServicerContext
    ) -> pb.GetInstanceResponse:
        return self._wait(request, context, lambda found: found.status != pb.ORCHESTRATION_STATUS_PENDING)

    def WaitForInstanceCompletion(  # noqa: N802
        self, request: pb.GetInstanceRequest, context: grpc.ServicerContext
    ) -> pb.GetInstanceResponse:
        return self._wait(request, context, lambda found: found.over)

    def _wait(
        self,
        request: pb.GetInstanceRequest,
        context: grpc.ServicerContext,
        until: Callable[[Instance], bool],
        *,
        skip: bool = True,
    ) -> pb.GetInstanceResponse:
        known = self._engine.instances

        def there() -> bool:
            # One that is not there may come: a child of a workflow under way, for one.
            found = known.get(request.instanceId)
            return found is not None and until(found)

        if not self._engine.wait(there, context.is_active, skip=skip):
            _abort(context, grpc.StatusCode.UNAVAILABLE, "the test sidecar is closed")
        return self.GetInstance(request, context)

    def RaiseEvent(  # noqa: N802
        self, request: pb.RaiseEventRequest, context: grpc.ServicerContext
    ) -> pb.RaiseEventResponse:
        given = request.input if request.HasField("input") else None
        self._send(
            request.instanceId, context, eventRaised=pb.EventRaisedEvent(name=request.name, input=given)
        )
        return pb.RaiseEventResponse()

    def TerminateInstance(  # noqa: N802
        self, request: pb.TerminateRequest, context: grpc.ServicerContext
    ) -> pb.TerminateResponse:
        given = request.output if request.HasField("output") else None
        ended = pb.ExecutionTerminatedEvent(input=given, recurse=request.recursive)
        self._send(request.instanceId, context, executionTerminated=ended)
        self._until(request.instanceId, context, lambda found: found.over)
        return pb.TerminateResponse()

    def SuspendInstance(  # noqa: N802
        self, request: pb.SuspendRequest, context: grpc.ServicerContext
    ) -> pb.SuspendResponse:
        self._send(request.instanceId, context, executionSuspended=pb.ExecutionSuspendedEvent())
        status = pb.ORCHESTRATION_STATUS_SUSPENDED
        self._until(request.instanceId, context, lambda found: found.over or found.status == status)
        return pb.SuspendResponse()

    def ResumeInstance(  # noqa: N802
        self, request: pb.ResumeRequest, context: grpc.ServicerContext
    ) -> pb.ResumeResponse:
        self._send(request.instanceId, context, executionResumed=pb.ExecutionResumedEvent())
        status = pb.ORCHESTRATION_STATUS_RUNNING
        self._until(request.instanceId, context, lambda found: found.over or found.status == status)
        return pb.ResumeResponse()

    def _send(self, instance_id: str, context: grpc.ServicerContext, **kind: Any) -> None:
        try:
            self._engine.send(instance_id, **kind)
        except MissingError:
            _abort(context, grpc.StatusCode.UNKNOWN, "no such instance exists")

    def _until(
        self, instance_id: str, context: grpc.ServicerContext, until: Callable[[Instance], bool]
    ) -> None:
        self._wait(pb.GetInstanceRequest(instanceId=instance_id), context, until, skip=False)

    def PurgeInstances(  # noqa: N802
        self, request: pb.PurgeInstancesRequest, context: grpc.ServicerContext
    ) -> pb.PurgeInstancesResponse:
        try:
            gone = self._engine.purge(request.instanceId, recursive=request.recursive)
        except MissingError:
            _abort(
                context,
                grpc.StatusCode.UNKNOWN,
                "failed to purge workflow state: failed to fetch workflow state: no such instance exists",
            )
        except UnfinishedError:
            text = "failed to purge workflow state: orchestration has not yet completed"
            _abort(context, grpc.StatusCode.UNKNOWN, text)
        return pb.PurgeInstancesResponse(deletedInstanceCount=gone)

    def ListInstanceIDs(  # noqa: N802
        self, request: pb.ListInstanceIDsRequest, context: grpc.ServicerContext
    ) -> pb.ListInstanceIDsResponse:
        first = int(request.continuationToken or 0)
        size = request.pageSize or _PAGE
        with self._engine.changed:
            known = sorted(self._engine.instances)
        found = pb.ListInstanceIDsResponse(instanceIds=known[first : first + size])
        if first + size < len(known):
            found.continuationToken = str(first + size)
        return found

    def GetInstanceHistory(  # noqa: N802
        self, request: pb.GetInstanceHistoryRequest, context: grpc.ServicerContext
    ) -> pb.GetInstanceHistoryResponse:
        with self._engine.changed:
            found = self._engine.instances.get(request.instanceId)
            if found is None:
                text = f"workflow instance '{request.instanceId}' not found"
                _abort(context, grpc.StatusCode.NOT_FOUND, text)
            return pb.GetInstanceHistoryResponse(events=found.history)

    def RerunWorkflowFromEvent(  # noqa: N802
        self, request: pb.RerunWorkflowFromEventRequest, context: grpc.ServicerContext
    ) -> pb.RerunWorkflowFromEventResponse:
        _abort(
            context, grpc.StatusCode.UNIMPLEMENTED, "the test sidecar does not rerun workflows from an event"
        )


def _abort(context: grpc.ServicerContext, code: grpc.StatusCode, text: str) -> NoReturn:
    context.abort(code, text)
    raise AssertionError("abort raises")


def _state(found: Instance, request: pb.GetInstanceRequest) -> pb.GetInstanceResponse:
    state = pb.WorkflowState(
        instanceId=found.id,
        name=found.name,
        workflowStatus=found.status,
        createdTimestamp=stamp(found.created),
        lastUpdatedTimestamp=stamp(found.updated),
    )
    if request.getInputsAndOutputs:
        if found.start.HasField("input"):
            state.input.CopyFrom(found.start.input)
        if found.custom_status is not None:
            state.customStatus.CopyFrom(found.custom_status)
        if found.completed is not None and found.completed.HasField("result"):
            state.output.CopyFrom(found.completed.result)
        if found.completed is not None and found.completed.HasField("failureDetails"):
            state.failureDetails.CopyFrom(found.completed.failureDetails)
    return pb.GetInstanceResponse(exists=True, workflowState=state)

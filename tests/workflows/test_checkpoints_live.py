"""
Checkpoints and the async client through the real engine.
"""

from __future__ import annotations

import asyncio

from tests.workflows.test_checkpoints_kit import PAGES, counting
from toolkit import AsyncStateStore, StateStore
from workflows import Checkpoints, WorkflowKit, raise_event, start_once, wait_event
from workflows.library.runner import host_and_port, output_of


def answered(ctx, _inp):
    """
    Three events, one after the other, whatever they say.
    """
    first = yield from wait_event(ctx, "go")
    second = yield from wait_event(ctx, "go")
    third = yield from wait_event(ctx, "go")
    return [first, second, third]


def kit_at(address):
    from dapr.ext.workflow import WorkflowRuntime

    kit = WorkflowKit(WorkflowRuntime(**host_and_port(address)), "statestore", address=address)
    kit.workflow(name="live-counting")(counting)
    kit.workflow(name="live-renamed")(counting)
    kit.workflow(name="live-answered")(answered)
    return kit


async def ask(address):
    """
    Started twice and answered through the SDK's async client.
    """
    from dapr.ext.workflow.aio import DaprWorkflowClient

    client = DaprWorkflowClient(**host_and_port(address))
    async with AsyncStateStore("statestore", address=address) as store:
        try:
            first, second = [
                await start_once(client, "live-answered", key="live-a1", store=store) for _ in range(2)
            ]
            for data in (0, False, ""):
                await raise_event(client, "live-a1", "go", data)
        finally:
            await client._DaprWorkflowClient__obj.aclose()  # the SDK offers no way to close it
    return [first.started, second.started]


def test_through_the_real_engine(workflow_sidecar, client_at):
    """
    A checkpoint outlives continue-as-new, a purge, and the workflow's name; the async client starts once and loses no
    falsy event.
    """
    address = workflow_sidecar.grpc_endpoint
    client = client_at(address)
    with kit_at(address), StateStore("statestore", address=address) as store:
        start_once(client, "live-counting", key="live-c1", input="live", store=store)
        assert [PAGES, 7, 3] == output_of(client, "live-c1", 60)
        client.purge_workflow("live-c1")
        client.schedule_new_workflow("live-counting", input="live", instance_id="live-c1")
        assert [PAGES, 7, 4] == output_of(client, "live-c1", 60)
        start_once(client, "live-renamed", key="live-c2", input="live", store=store)
        assert [PAGES, 7, 5] == output_of(client, "live-c2", 60)
        assert ["live"] == Checkpoints(store).list("pages")
        assert [True, False] == asyncio.run(ask(address))
        assert [0, False, ""] == output_of(client, "live-a1", 60)

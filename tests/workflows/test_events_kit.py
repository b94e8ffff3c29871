"""
Events through the SDK's own runtime: a payload arrives as it was sent, also one that the SDK would drop.
"""

from __future__ import annotations

from datetime import timedelta

import pytest

from toolkit.testing import WorkflowSidecar
from workflows import WorkflowKit, raise_event, wait_event

SENT = [0, False, "", [], {}, None, "a", {"n": 0}]


def by_the_kit(ctx, count):
    found = []
    for _ in range(count):
        found += [(yield from wait_event(ctx, "go"))]
    return found


def by_the_sdk(ctx, count):
    found = []
    for _ in range(count):
        found += [(yield ctx.wait_for_external_event("go", timeout=timedelta(days=1)))]
    return found


def first_of_two(ctx, count):
    from dapr.ext.workflow import when_any

    found = []
    for _ in range(count):
        event, timer = ctx.wait_for_external_event("go"), ctx.create_timer(timedelta(days=1))
        first = yield when_any([event, timer])
        assert first is event
        found.append(event.get_result())
    return found


def in_runs_of_their_own(ctx, left):
    """
    One event in each run: the SDK carries over those that nobody waited for.
    """
    if isinstance(left, int):
        left = {"left": left, "found": []}
    event = yield ctx.wait_for_external_event("go")
    found = [*left["found"], event]
    if left["left"] == 1:
        return found
    yield ctx.create_timer(timedelta(seconds=1))
    ctx.continue_as_new({"left": left["left"] - 1, "found": found}, save_events=True)
    return None


@pytest.mark.parametrize("workflow", [by_the_kit, by_the_sdk, first_of_two, in_runs_of_their_own])
def test_payloads_arrive_as_they_were_sent(workflow):
    """
    However a workflow of a kit waits for them.
    """
    with WorkflowSidecar() as sidecar:
        kit = WorkflowKit(sidecar.runtime(), "memory", port=sidecar.state)
        waits = kit.workflow(name="waits")(workflow)
        with kit:
            client = sidecar.client()
            client.schedule_new_workflow(waits.name, input=len(SENT), instance_id="w1")
            for data in SENT:
                raise_event(client, "w1", "go", data)
            assert SENT == sidecar.result("w1")


def test_a_payload_that_the_sdk_keeps_is_sent_as_it_is():
    """
    So a workflow without a kit, or in another language, reads it too.
    """
    with WorkflowSidecar() as sidecar:
        runtime = sidecar.runtime()

        def waits(ctx, _inp):
            return (yield ctx.wait_for_external_event("go"))

        runtime.register_workflow(waits)
        runtime.start()
        sidecar.client().schedule_new_workflow("waits", instance_id="w1")
        raise_event(sidecar.client(), "w1", "go", {"approved": True})
        assert {"approved": True} == sidecar.result("w1")
        runtime.shutdown()

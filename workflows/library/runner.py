"""
Run a ready workflow against a sidecar: register, prepare, start, wait, check.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable
from typing import Any, Final, TypedDict

from toolkit.dapr.address import address_of
from toolkit.errors import StateError
from toolkit.store import StateStore
from workflows._hosted import unhosted, when_hosted
from workflows.kit import WorkflowKit
from workflows.library.plan import Job, Plan, ReadyWorkflow
from workflows.starts import start_once

# A sidecar that is not there within a minute does not come.
STARTUP: Final = 60.0


class RunFailedError(StateError):
    """
    An instance failed, or was not done in time.
    """


class Place(TypedDict, total=False):
    """
    Where the sidecar is, as arguments of the SDK's classes.
    """

    host: str
    port: str


def run_plan(
    plan: Plan,
    client: Any,
    store: StateStore,
    *,
    timeout: float,
    on_done: Callable[[int, int], None] = lambda _done, _all: None,
) -> dict[str, Any]:
    """
    Start the instances of a plan, wait for all of them, and give the report of its check.

    Args:
        plan: What to do.
        client: A ``DaprWorkflowClient``.
        store: The store the effects work on.
        timeout: Seconds for all of it.
        on_done: Called with how many of how many are done.
    """
    end = time.monotonic() + timeout
    plan.prepare(store)
    for job in plan.jobs:
        if job.once:
            left = max(1.0, end - time.monotonic())
            start_once(client, job.workflow, key=job.instance_id, input=job.input, store=store, timeout=left)
        else:
            when_hosted(functools.partial(_schedule, client, job))
    outputs: list[Any] = []
    for job in plan.jobs:
        outputs.append(output_of(client, job.instance_id, end - time.monotonic()))
        on_done(len(outputs), len(plan.jobs))
    return plan.check(store, outputs)


def _schedule(client: Any, job: Job) -> None:
    client.schedule_new_workflow(job.workflow, input=job.input, instance_id=job.instance_id)


def output_of(client: Any, instance_id: str, timeout: float) -> Any:
    """
    What an instance returned, once it is done.
    """
    try:
        # To the SDK no seconds mean no limit.
        seconds = max(1, int(timeout))
        # Without a worker Dapr does not know the instance; one that has just died leaves it so for a while.
        state = when_hosted(
            lambda: client.wait_for_workflow_completion(instance_id, timeout_in_seconds=seconds), seconds
        )
    except Exception as error:
        if not isinstance(error, TimeoutError) and not unhosted(error):
            raise
        raise RunFailedError(
            f"workflow {instance_id!r} was not done in time; it goes on as soon as a worker runs: start the same command "
            "again to wait for the rest"
        ) from None
    if state is None or state.runtime_status.name != "COMPLETED":
        told = (
            "is not there"
            if state is None
            else f"ended as {state.runtime_status.name}: {state.failure_details}"
        )
        raise RunFailedError(f"workflow {instance_id!r} {told}")
    return json.loads(state.serialized_output) if state.serialized_output else None


def run_ready(
    ready: ReadyWorkflow,
    plan: Plan,
    *,
    store: str,
    address: str | None,
    timeout: float,
    on_done: Callable[[int, int], None] = lambda _done, _all: None,
) -> dict[str, Any]:
    """
    Run it with a worker in this process, which has to be served within ``timeout`` too, a minute at most.
    """
    from dapr.ext.workflow import DaprWorkflowClient, WorkflowRuntime
    from dapr.ext.workflow.logger import LoggerOptions

    place = host_and_port(address)
    # To the SDK a refused order is a failed activity, worth a warning; here it is one outcome of the report.
    quiet = LoggerOptions(log_level="ERROR")
    kit = WorkflowKit(WorkflowRuntime(**place, logger_options=quiet), store, address=address)
    ready.register(kit)
    end = time.monotonic() + timeout
    kit.start(min(timeout, STARTUP))
    try:
        with ready.hosting(store, address), StateStore(store, address=address) as states:
            left = end - time.monotonic()
            return run_plan(plan, DaprWorkflowClient(**place), states, timeout=left, on_done=on_done)
    finally:
        kit.stop()


def host_and_port(address: str | None) -> Place:
    """
    An address as the SDK's workflow classes take it; nothing for the environment's.
    """
    if address is None:
        return {}
    host, _, port = str(address_of(address)).rpartition(":")
    return {"host": host, "port": port}

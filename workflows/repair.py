"""
Sagas whose workflow is gone: what they left in the store, and how they are undone.
"""

from __future__ import annotations

import uuid
from typing import Any, Final, Literal

from toolkit.errors import NotFoundError
from toolkit.store import StateStore
from workflows._hosted import when_hosted
from workflows._resolutions import ACTIONS, RESOLVE_EVENT
from workflows._saga_record import REPAIR_WORKFLOW, record_key
from workflows.events import raise_event
from workflows.ports import Client
from workflows.starts import StartResult, start_once

# Only of these is it certain that their workflow will not go on by itself.
_OVER: Final = frozenset({"TERMINATED", "FAILED"})


def saga_record(store: StateStore, workflow_id: str) -> dict[str, Any]:
    """
    What the sagas of a workflow instance left: per saga its state, its steps and, once it was undone, its report.

    Raises:
        NotFoundError: The instance has no saga under way or undone; a saga that is complete leaves nothing.
    """
    found: dict[str, Any] | None = store.get(record_key(workflow_id))
    if found is None:
        raise NotFoundError(
            f"workflow {workflow_id!r} has no saga record in store {store.name!r}: it has no saga, or its sagas are complete",
            key=record_key(workflow_id),
        )
    return found


def resume_saga(client: Client, store: StateStore, workflow_id: str) -> StartResult:
    """
    Undo the sagas of a workflow that was terminated or failed, newest step first, by a repair workflow.

    Terminating a workflow runs none of its code. The repair needs a worker on which the undo effects are registered;
    it voids each step's operation before it undoes it, so that nothing left behind takes effect afterwards. A saga
    whose pivot has committed is left alone and reported as ``past-pivot``. Asking twice starts one repair.

    Raises:
        NotFoundError: There is no saga record.
        RuntimeError: The workflow still runs, or is complete: its saga is its own business.
    """
    state = when_hosted(lambda: client.get_workflow_state(workflow_id, fetch_payloads=False))
    status = "PURGED" if state is None else state.runtime_status.name
    if state is not None and status not in _OVER:
        raise RuntimeError(
            f"workflow {workflow_id!r} is {status.lower()}: only a terminated or failed one is undone from outside; "
            f"terminate it first"
        )
    # Read now that the workflow can note no further step.
    record = saga_record(store, workflow_id)
    first = next((step["op"] for saga in record["sagas"].values() for step in saga["steps"]), workflow_id)
    number = 1
    while True:
        # Named after the run, since an instance id can be used again.
        key = f"{workflow_id}-saga-repair-{uuid.uuid5(uuid.NAMESPACE_OID, first).hex[:8]}-{number}"
        inp = {**record, "workflow_id": workflow_id}
        found = start_once(client, REPAIR_WORKFLOW, key=key, input=inp, store=store)
        if found.started or found.state is None or found.state.runtime_status.name not in _OVER:
            return found
        number += 1  # that repair was ended itself


def resolve_saga(
    client: Client,
    workflow_id: str,
    action: Literal["retry", "skip", "done"],
    *,
    step: str | None = None,
    result: Any = None,
) -> None:
    """
    Tell a saga that needs attention how to go on.

    ``"retry"`` tries again, with a new operation if the old one can take no effect any more. ``"skip"`` leaves the undo
    (or, behind the pivot, the step) out; ``"done"`` says that it was done by hand. Before either counts the operation is
    voided: if it did take effect after all, that is what the report says.

    Args:
        client: A ``DaprWorkflowClient``.
        workflow_id: The instance whose custom status is ``saga: needs-attention``; also a repair.
        action: What to do.
        step: The name of the step's effect, so that the word is not taken for another step's.
        result: What ``saga.step`` returns for a step behind the pivot.

    Raises:
        ValueError: There is no such action.
        NotFoundError: There is no such workflow.
        RuntimeError: The workflow is over, and hears nothing any more.
    """
    if action not in ACTIONS:
        raise ValueError(f"action must be one of {', '.join(ACTIONS)}, not {action!r}")
    state = when_hosted(lambda: client.get_workflow_state(workflow_id, fetch_payloads=False))
    if state is None:
        raise NotFoundError(f"there is no workflow {workflow_id!r}", key=workflow_id)
    if state.runtime_status.name in (*_OVER, "COMPLETED"):
        raise RuntimeError(
            f"workflow {workflow_id!r} is {state.runtime_status.name.lower()}: it waits for nothing"
        )
    raise_event(client, workflow_id, RESOLVE_EVENT, {"action": action, "step": step, "result": result})

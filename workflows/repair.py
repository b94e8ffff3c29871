"""
Sagas whose workflow is gone: what they left in the store, and how they are undone.
"""

from __future__ import annotations

from typing import Any, Final

from toolkit.errors import NotFoundError
from toolkit.store import StateStore
from workflows._hosted import when_hosted
from workflows._saga_record import REPAIR_WORKFLOW, record_key
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
    record = saga_record(store, workflow_id)
    state = when_hosted(lambda: client.get_workflow_state(workflow_id, fetch_payloads=False))
    status = "PURGED" if state is None else state.runtime_status.name
    if state is not None and status not in _OVER:
        raise RuntimeError(
            f"workflow {workflow_id!r} is {status.lower()}: only a terminated or failed one is undone from outside; "
            f"terminate it first"
        )
    return start_once(
        client,
        REPAIR_WORKFLOW,
        key=f"{workflow_id}-saga-repair",
        input={**record, "workflow_id": workflow_id},
        store=store,
    )

"""
Start a workflow once per key, also when an instance of that id ended long ago.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from typing import Any, Final, Literal

from toolkit.errors import AlreadyExistsError, ConflictError
from toolkit.store import StateStore
from workflows._hosted import when_hosted
from workflows._payload import plain
from workflows.bodies import KitWorkflow
from workflows.ports import Client

# Who claimed a key and did not start its workflow for so long is taken to be dead.
CLAIM_LIFE: Final = 60.0


@dataclass(frozen=True, slots=True)
class StartResult:
    """
    What ``start_once`` found or did.

    Attributes:
        instance_id: The workflow instance.
        started: Whether this call started it.
        state: What Dapr says of an instance that was there; ``None`` when it was purged, or is being started right now.
    """

    instance_id: str
    started: bool
    state: Any


def start_once(
    client: Client,
    workflow: KitWorkflow | str,
    *,
    key: str,
    input: Any = None,
    store: StateStore,
    on_existing: Literal["return", "raise"] = "return",
) -> StartResult:
    """
    Schedule a workflow with ``key`` as its instance id, unless that was done before.

    Dapr itself replaces an instance that ended when its id is used again; a record in ``store``, made by exactly one
    caller, tells that it was there. A process that dies between its claim and the start is succeeded after a minute.

    Raises:
        AlreadyExistsError: It was started before and ``on_existing="raise"``.
    """
    name = workflow if isinstance(workflow, str) else workflow.name
    record = f"_wf-start-{key}"
    claim = {
        "workflow": name,
        "instance_id": key,
        "claimed_at": time.time(),
        "by": uuid.uuid4().hex,
        "started": False,
    }
    if not _claim(store, record, claim, client):
        if on_existing == "raise":
            raise AlreadyExistsError(
                f"workflow {name!r} was started before under the key {key!r}; its record is {record!r}",
                key=record,
            )
        return StartResult(key, started=False, state=when_hosted(lambda: client.get_workflow_state(key)))
    try:
        _schedule(client, name, key, plain(input))
    except BaseException:
        # Whoever asks next need not wait until the claim is old; whether it landed after all is looked at then.
        store.update(record, lambda found: {**found, "claimed_at": 0.0}, default=claim)
        raise
    store.update(record, lambda found: {**found, "started": True}, default=claim)
    return StartResult(key, started=True, state=None)


def _claim(store: StateStore, record: str, claim: dict[str, Any], client: Client) -> bool:
    """
    Whether it falls to this caller to start the workflow.
    """
    try:
        store.create(record, claim)
    except AlreadyExistsError:
        entry = store.read(record)
        found: dict[str, Any] = entry.value
        if found["started"] or time.time() - found["claimed_at"] < CLAIM_LIFE:
            return False
        instance: str = claim["instance_id"]
        if when_hosted(lambda: client.get_workflow_state(instance, fetch_payloads=False)) is not None:
            store.update(record, lambda now: {**now, "started": True}, default=found)
            return False
        try:
            store.compare_and_set(record, claim, entry.etag)
        except ConflictError:
            return False
    return True


def _schedule(client: Client, name: str, key: str, value: Any) -> None:
    try:
        when_hosted(lambda: client.schedule_new_workflow(name, input=value, instance_id=key))
    except Exception as error:
        code: Any = getattr(error, "code", None)
        if code is None or getattr(code(), "name", "") != "ALREADY_EXISTS":
            raise

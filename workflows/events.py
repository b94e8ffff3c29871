"""
Events to workflows whose payload arrives as it was sent, ``0``, ``False`` and ``''`` included.
"""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from datetime import timedelta
from typing import Any, overload

from workflows._payload import event_data, event_payload
from workflows.ports import AsyncClient, Client, Context


@overload
def raise_event(client: Client, instance_id: str, name: str, data: Any = None) -> None: ...
@overload
def raise_event(
    client: AsyncClient, instance_id: str, name: str, data: Any = None
) -> Coroutine[Any, Any, None]: ...
def raise_event(client: Any, instance_id: str, name: str, data: Any = None) -> Any:
    """
    Send an event to a workflow, whose payload arrives as it was sent.

    The SDK drops a payload that is falsy; here it travels in an envelope, which ``wait_event`` takes off, and in a workflow
    registered by ``WorkflowKit.workflow`` ``ctx.wait_for_external_event`` too. Dapr drops events to an instance that is
    unknown or over, without an error. With the SDK's async client it is awaited.
    """
    return client.raise_workflow_event(instance_id, name, data=event_payload(data))


def wait_event(ctx: Context, name: str, *, timeout: timedelta | None = None) -> Generator[Any, Any, Any]:
    """
    Wait for the next event of this name and give its payload.

    In a workflow: ``answer = yield from wait_event(ctx, "approve")``.

    Raises:
        TimeoutError: None came in time.
    """
    return event_data((yield ctx.wait_for_external_event(name, timeout=timeout)))

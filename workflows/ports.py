"""
What this package needs of the Dapr workflow SDK, as protocols; the SDK's own classes fit them.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Protocol


class Runtime(Protocol):
    """
    ``dapr.ext.workflow.WorkflowRuntime``.
    """

    def register_workflow(self, fn: Callable[..., Any], *, name: str | None = None) -> Any: ...
    def register_activity(self, fn: Callable[..., Any], *, name: str | None = None) -> Any: ...
    def wait_for_worker_ready(self, timeout: float = 30.0) -> bool: ...
    def start(self) -> Any: ...
    def shutdown(self) -> Any: ...


class Context(Protocol):
    """
    ``dapr.ext.workflow.DaprWorkflowContext``: what a workflow function gets first.
    """

    @property
    def instance_id(self) -> str: ...
    @property
    def current_utc_datetime(self) -> datetime: ...
    @property
    def is_replaying(self) -> bool: ...
    def call_activity(self, activity: str, *, input: Any = None, retry_policy: Any = None) -> Any: ...
    def create_timer(self, fire_at: datetime | timedelta) -> Any: ...
    def wait_for_external_event(self, name: str, *, timeout: datetime | timedelta | None = None) -> Any: ...


class Client(Protocol):
    """
    ``dapr.ext.workflow.DaprWorkflowClient``.
    """

    def schedule_new_workflow(
        self, workflow: str, *, input: Any = None, instance_id: str | None = None
    ) -> str: ...
    def get_workflow_state(self, instance_id: str, *, fetch_payloads: bool = True) -> Any: ...
    def raise_workflow_event(self, instance_id: str, event_name: str, *, data: Any = None) -> Any: ...


class AsyncClient(Protocol):
    """
    ``dapr.ext.workflow.aio.DaprWorkflowClient``.
    """

    async def schedule_new_workflow(
        self, workflow: str, *, input: Any = None, instance_id: str | None = None
    ) -> str: ...
    async def get_workflow_state(self, instance_id: str, *, fetch_payloads: bool = True) -> Any: ...
    async def raise_workflow_event(self, instance_id: str, event_name: str, *, data: Any = None) -> Any: ...

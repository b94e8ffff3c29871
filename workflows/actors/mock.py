"""
Actors in a test, without a sidecar: real turns of the SDK's manager over state in memory.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast

from dapr.actor import Actor, ActorId
from dapr.actor.runtime._type_information import ActorTypeInformation
from dapr.actor.runtime.context import ActorRuntimeContext
from dapr.actor.runtime.manager import ActorManager
from dapr.actor.runtime.state_manager import reentrancy_ctx
from dapr.clients.base import DaprActorClientBase
from dapr.serializers import DefaultJSONSerializer

from toolkit import AsyncStateStore
from workflows.actors.fenced import FencedActor

A = TypeVar("A", bound=Actor)
T = TypeVar("T")


@dataclass
class MemoryActorClient(DaprActorClientBase):
    """
    What actors ask of a sidecar, in memory; several activations of one actor may share it.

    Attributes:
        state: The saved state, by (type, id, name), as the actor's serializer wrote it.
        reminders: The reminders registered, by name.
        timers: The timers registered, by name.
        save_errors: What the next saves raise, first come first served; nothing of them is saved.
    """

    state: dict[tuple[str, str, str], bytes] = field(default_factory=dict[tuple[str, str, str], bytes])
    reminders: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    timers: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    save_errors: list[BaseException] = field(default_factory=list[BaseException])

    async def invoke_method(
        self, actor_type: str, actor_id: str, method: str, data: bytes | None = None
    ) -> bytes:
        raise NotImplementedError(f"{actor_type}/{actor_id}.{method}: a mock calls no other actors")

    async def save_state_transactionally(self, actor_type: str, actor_id: str, data: bytes) -> None:
        if self.save_errors:
            raise self.save_errors.pop(0)
        for operation in json.loads(data):
            request = operation["request"]
            name = (actor_type, actor_id, request["key"])
            if operation["operation"] == "delete":
                self.state.pop(name, None)
            else:
                self.state[name] = json.dumps(request["value"]).encode()

    async def get_state(self, actor_type: str, actor_id: str, name: str) -> bytes:
        return self.state.get((actor_type, actor_id, name), b"")

    async def register_reminder(self, actor_type: str, actor_id: str, name: str, data: bytes) -> None:
        self.reminders[name] = json.loads(data)

    async def unregister_reminder(self, actor_type: str, actor_id: str, name: str) -> None:
        self.reminders.pop(name, None)

    async def register_timer(self, actor_type: str, actor_id: str, name: str, data: bytes) -> None:
        self.timers[name] = json.loads(data)

    async def unregister_timer(self, actor_type: str, actor_id: str, name: str) -> None:
        self.timers.pop(name, None)


class MockHost(Generic[A]):
    """
    One activation of one actor; see ``fenced_mock``.
    """

    def __init__(
        self, kind: type[A], actor_id: str, store: AsyncStateStore | None, client: MemoryActorClient
    ) -> None:
        self.id, self.client = ActorId(actor_id), client
        self._store = store
        self._serializer = DefaultJSONSerializer()
        self._context = ActorRuntimeContext(
            ActorTypeInformation.create(kind), self._serializer, self._serializer, client, self._create
        )
        self._kind = kind
        self._manager = ActorManager(self._context)

    def _create(self, context: ActorRuntimeContext, actor_id: ActorId) -> A:
        actor = self._kind(context, actor_id)
        if isinstance(actor, FencedActor) and self._store is not None:
            actor.store = self._store
        return actor

    @property
    def actor(self) -> A | None:
        """
        The active object, or None.
        """
        return cast("A | None", self._manager._active_actors.get(self.id.id))  # noqa: SLF001  no other way to it

    async def turn(self, method: str, argument: Any = None, *, reentrancy_id: str | None = None) -> Any:
        """
        Run one turn as the host does, activating the actor first when it is not; returns what the method returned.
        """
        body = self._serializer.serialize(argument)
        return json.loads(await _delivered(self._manager.dispatch(self.id, method, body), reentrancy_id))

    async def fire_reminder(self, name: str) -> None:
        """
        Deliver a registered reminder; call it again for a redelivery.
        """
        if name not in self.client.reminders:
            raise KeyError(f"no reminder {name!r} is registered: {sorted(self.client.reminders)}")
        body = self._serializer.serialize(self.client.reminders[name])
        await _delivered(self._manager.fire_reminder(self.id, name, body))

    async def fire_timer(self, name: str) -> None:
        """
        Deliver a registered timer.
        """
        if name not in self.client.timers:
            raise KeyError(f"no timer {name!r} is registered: {sorted(self.client.timers)}")
        body = self._serializer.serialize(self.client.timers[name])
        await _delivered(self._manager.fire_timer(self.id, name, body))

    async def deactivate(self) -> None:
        """
        Take the actor down, as an idle sidecar does.
        """
        await self._manager.deactivate_actor(self.id)


async def _delivered(turn: Coroutine[Any, Any, T], reentrancy_id: str | None = None) -> T:
    """
    Run it in a task of its own, as a host does: what a turn binds to its task is not the caller's.
    """
    context = copy_context()
    context.run(reentrancy_ctx.set, reentrancy_id)
    return await asyncio.create_task(turn, context=context)


def fenced_mock(
    kind: type[A],
    actor_id: str,
    *,
    store: AsyncStateStore | None = None,
    client: MemoryActorClient | None = None,
) -> MockHost[A]:
    """
    One activation of an actor for a test without a sidecar; safe and plain actors work too.

    Turns go through the SDK's own manager, so a failed method is not saved and a failing save (``client.save_errors``)
    is felt. Two mocks of the same actor on the same store are two activations at once. ``store`` is an open store, such
    as ``AsyncStateStore("test", port=MemoryStore())``.
    """
    if issubclass(kind, FencedActor) and store is None and kind.store is None:
        raise TypeError(f"fenced_mock({kind.__name__}): pass store=, an open AsyncStateStore")
    return MockHost(kind, actor_id, store, client or MemoryActorClient())

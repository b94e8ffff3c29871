"""
The workflows of dapr-occ: exactly-once effects for Dapr workflows.

Names are imported when they are used, so that ``import workflows`` stays cheap.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workflows._beside import refuse_foreign, refuse_legacy

refuse_legacy()
refuse_foreign(Path(__file__).parent)

if TYPE_CHECKING:
    from workflows.actors import (
        ActorFencedError,
        ActorMethodError,
        FencedActor,
        GrpcActorProxyFactory,
        SafeActor,
        TurnAbandonedError,
        explore_turns,
        fenced_mock,
        host_actors,
        play_turns,
    )
    from workflows.bodies import AsyncEffectTransaction, Effect, EffectTransaction, KitWorkflow
    from workflows.checkpoints import (
        Checkpoint,
        CheckpointInfo,
        Checkpoints,
        continue_with,
        load_checkpoint,
        save_checkpoint,
    )
    from workflows.effects import Escalation, call_effect, effect_task
    from workflows.errors import (
        CheckpointFencedError,
        CheckpointVersionError,
        EffectTimeoutError,
        EffectVoidedError,
        SagaAbortedError,
    )
    from workflows.events import raise_event, wait_event
    from workflows.kit import WorkflowKit
    from workflows.logging import workflow_logger
    from workflows.repair import resolve_saga, resume_saga, saga_record
    from workflows.saga import Saga
    from workflows.starts import StartResult, StartTimeoutError, start_once

_HOMES = {
    "ActorFencedError": "actors",
    "ActorMethodError": "actors",
    "AsyncEffectTransaction": "bodies",
    "Checkpoint": "checkpoints",
    "CheckpointFencedError": "errors",
    "CheckpointInfo": "checkpoints",
    "CheckpointVersionError": "errors",
    "Checkpoints": "checkpoints",
    "Effect": "bodies",
    "EffectTimeoutError": "errors",
    "EffectTransaction": "bodies",
    "EffectVoidedError": "errors",
    "Escalation": "effects",
    "FencedActor": "actors",
    "GrpcActorProxyFactory": "actors",
    "KitWorkflow": "bodies",
    "SafeActor": "actors",
    "Saga": "saga",
    "SagaAbortedError": "errors",
    "StartResult": "starts",
    "StartTimeoutError": "starts",
    "TurnAbandonedError": "actors",
    "WorkflowKit": "kit",
    "call_effect": "effects",
    "continue_with": "checkpoints",
    "effect_task": "effects",
    "explore_turns": "actors",
    "fenced_mock": "actors",
    "host_actors": "actors",
    "load_checkpoint": "checkpoints",
    "play_turns": "actors",
    "raise_event": "events",
    "resolve_saga": "repair",
    "resume_saga": "repair",
    "saga_record": "repair",
    "save_checkpoint": "checkpoints",
    "start_once": "starts",
    "wait_event": "events",
    "workflow_logger": "logging",
}

__all__ = [
    "ActorFencedError",
    "ActorMethodError",
    "AsyncEffectTransaction",
    "Checkpoint",
    "CheckpointFencedError",
    "CheckpointInfo",
    "CheckpointVersionError",
    "Checkpoints",
    "Effect",
    "EffectTimeoutError",
    "EffectTransaction",
    "EffectVoidedError",
    "Escalation",
    "FencedActor",
    "GrpcActorProxyFactory",
    "KitWorkflow",
    "SafeActor",
    "Saga",
    "SagaAbortedError",
    "StartResult",
    "StartTimeoutError",
    "TurnAbandonedError",
    "WorkflowKit",
    "call_effect",
    "continue_with",
    "effect_task",
    "explore_turns",
    "fenced_mock",
    "host_actors",
    "load_checkpoint",
    "play_turns",
    "raise_event",
    "resolve_saga",
    "resume_saga",
    "saga_record",
    "save_checkpoint",
    "start_once",
    "wait_event",
    "workflow_logger",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'workflows' has no attribute {name!r}")
    found = getattr(import_module(f"workflows.{home}"), name)
    globals()[name] = found  # looked up once
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
